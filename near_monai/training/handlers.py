"""Ignite handlers of the training and evaluation engines: what a run shows, keeps and warns of."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import nn

from near_monai.datasets.point_dataset import PointDataset
from near_monai.errors import NearError, out_of_memory
from near_monai.metrics.mask_metrics import score
from near_monai.metrics.score_tables import BASELINE, PREDICTION, CaseScores, format_table, summarise, write_summary
from near_monai.training.training_curves import History

logger = logging.getLogger("near_monai")


class ServeEpoch:
    """Tells a dataset which epoch it is, so that curriculum and random draws follow a resumed run as well."""

    def __init__(self, dataset: PointDataset) -> None:
        self.dataset = dataset

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda e: self.dataset.set_epoch(e.state.epoch))


class LeaveCores:
    """Leaves a core to each loader process while steps are made.

    The threads of an operation wait for each other. If a loader process takes the core of one, all of them wait: on two
    cores, steps on two threads beside one loader process take 1.4 times as long as on one.

    Args:
        workers: number of loader processes.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.threads = torch.get_num_threads()

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer, before what is to have all cores at the end of an epoch."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._leave)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: torch.set_num_threads(self.threads))

    def _leave(self, engine: Engine) -> None:
        self.threads = torch.get_num_threads()
        torch.set_num_threads(max(self.threads - self.workers, 1))


class AverageNorms:
    """Batch-norm statistics as the plain average over the batches of an epoch.

    The usual moving average lags behind the weights and remembers the last few batches only. In evaluation that made
    vessels 12 % too thick (held-out windows, 1,100 steps at a high learning rate); with the average the bias was gone.
    """

    def __init__(self, network: nn.Module) -> None:
        self.norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.batches = 0

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._restart)
        engine.add_event_handler(Events.ITERATION_STARTED, self._weigh)

    def _restart(self, engine: Engine) -> None:
        self.batches = 0
        for norm in self.norms:
            norm.reset_running_stats()

    def _weigh(self, engine: Engine) -> None:
        self.batches += 1
        for norm in self.norms:
            # None means the same to torch, but it would then read its own count from a GPU, and wait for it
            norm.momentum = 1 / self.batches


class EpochLine:
    """What an epoch gave, as a log line and in :class:`near_monai.training.training_curves.History`.

    Mean loss, learning rate, full-grid Dice of the latest validation and seconds.

    Args:
        optimizer: where the learning rate is read.
        evaluator: validation engine; its key metric is the full-grid Dice.
        folder: folder of the run.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, evaluator: Engine, folder: str | Path) -> None:
        self.optimizer = optimizer
        self.evaluator = evaluator
        self.history = History(folder)
        self.losses: list[float] = []
        self.lr = 0.0
        self.start = 0.0

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer, after the handlers that validate."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._log)
        self.evaluator.add_event_handler(Events.COMPLETED, self._validated)

    def _begin(self, engine: Engine) -> None:
        # the scheduler has moved on by the end of the epoch: read the rate that was used
        self.lr = self.optimizer.param_groups[0]["lr"]
        self.losses.clear()
        self.start = time.perf_counter()

    def _collect(self, engine: Engine) -> None:
        self.losses.append(loss_of(engine))

    def _log(self, engine: Engine) -> None:
        if idist.get_rank() != 0:
            return
        dice = key_metric(self.evaluator)
        validated = "" if math.isnan(dice) else f"full-grid Dice {dice:.4f}  "
        loss = sum(self.losses) / max(len(self.losses), 1)
        seconds = time.perf_counter() - self.start
        logger.info(
            f"epoch {engine.state.epoch}/{engine.state.max_epochs}  loss {loss:.4f}  lr {self.lr:.2e}  "
            f"{validated}{seconds:.1f} s"
        )
        self.history.put(engine.state.epoch, loss=loss, lr=self.lr, seconds=seconds)

    def _validated(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            self.history.put(engine.state.epoch, full_grid_dice=key_metric(engine))


class TroubleWatch:
    """Says in plain words what went wrong and what to do: NaN loss, Dice stuck at 0, out of memory.

    Args:
        evaluator: validation engine.
        patience: validations with Dice 0 before a warning.
    """

    def __init__(self, evaluator: Engine, patience: int = 2) -> None:
        self.evaluator = evaluator
        self.patience = patience
        self.zeros = 0

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._check_loss)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._explain)
        self.evaluator.add_event_handler(Events.COMPLETED, self._check_dice)

    def _check_loss(self, engine: Engine) -> None:
        if not math.isfinite(loss_of(engine)):
            raise NearError(
                f"the loss is not a number at iteration {engine.state.iteration}: training stops. "
                "Lower lr, turn amp off, or look for label maps with odd spacing; latest.pt is from before"
            )

    def _check_dice(self, engine: Engine) -> None:
        dice = key_metric(engine)
        self.zeros = self.zeros + 1 if dice == 0 else 0
        if self.zeros == self.patience:
            logger.warning(
                f"the full-grid Dice has been 0 for {self.patience} validations: the network calls everything "
                "background. Early in a run wait; else raise the share of band points or lambda_dice, or lower gamma."
            )

    def _explain(self, engine: Engine, error: BaseException) -> None:
        if out_of_memory(error):
            logger.error(
                "out of memory: lower batch_size, points or window, or the field's chunk (points per evaluation)."
            )
        raise error


class PairedScores:
    """Scores every case against its truth, the refined mask beside the noisy input, and reports the paired figures.

    Args:
        folder: where ``summary.json`` and ``scores.csv`` go; ``None`` to keep the scores only.

    Attributes:
        scores: of every case of the last run.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder)
        self.scores: dict[str, CaseScores] = {}

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator whose items have `image`, `label`, `pred` (masks) and `name`."""
        engine.add_event_handler(Events.STARTED, lambda e: self.scores.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score)
        engine.add_event_handler(Events.COMPLETED, self._report)

    def _score(self, engine: Engine) -> None:
        batch: Any = engine.state.batch  # decollated: one mapping per case
        output: Any = engine.state.output
        for source, item in zip(batch, output, strict=True):
            pred, noisy, truth = (item[key][0].cpu().numpy() > 0 for key in ("pred", "image", "label"))
            spacing = item["label"].affine.numpy()[:3, :3]
            self.scores[source["name"]] = {
                PREDICTION: score(pred, truth, spacing),
                BASELINE: score(noisy, truth, spacing),
            }

    def _report(self, engine: Engine) -> None:
        if self.scores and self.folder is not None and idist.get_rank() == 0:
            summary = summarise(self.scores)
            write_summary(summary, self.folder)
            logger.info(
                f"refined (prediction) against noisy input (baseline), see {self.folder}\n{format_table(summary)}"
            )

    def mean_dice(self) -> float:
        """Mean Dice of the refined masks."""
        return float(np.mean([case[PREDICTION]["dice"] for case in self.scores.values()]))


def key_metric(evaluator: Engine) -> float:
    """Key metric of the evaluator's latest run, here the full-grid Dice; NaN before the first."""
    name: Any = getattr(evaluator.state, "key_metric_name", None)
    return float(evaluator.state.metrics.get(name, math.nan))


def loss_of(engine: Engine) -> float:
    """Loss of the trainer's latest iteration."""
    output: Any = engine.state.output
    return float(output[0]["loss"] if isinstance(output, list) else output["loss"])


def join_processes() -> None:
    """Join the process group that torch.distributed.run describes: NCCL on GPUs, gloo on CPUs."""
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    # ignite sets up its own groups on first use, which needs every process: do it now, not in a handler of one rank
    idist.get_world_size()
