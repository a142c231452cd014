"""What a training run leaves behind: the best weights, the latest state, the configuration; and how it goes on.

A run is resumed by a step of its configuration, not by the start of its engine: a client of federated learning starts
the engine again and again, each time from weights that it was given.

The folder of a run holds ``config.json`` (the configuration in force), ``latest.pt`` (all that is needed to go on:
network, optimiser, schedule, epoch, best figure), ``best.safetensors`` (the weights, for ``--weights``, with the
description of what they are) and ``best.pt`` (the same numbers as a flat state dict, for MONAI's clients). MONAI's
``CheckpointSaver`` writes in place; here each file is written beside its target and renamed, so that a job killed at
any moment leaves a whole one.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from near_monai.datasets.point_dataset import PointDataset
from near_monai.errors import NearError
from near_monai.formats.atomic_writing import replacing
from near_monai.formats.tensor_files import SUFFIX
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import find_weights, load_state, write_weights
from near_monai.training.handlers import PairedScores, key_metric
from near_monai.training.run_description import describe_run

logger = logging.getLogger("near_monai")

#: Differences of the Dice below this are none.
SAME_DICE = 5e-4


class Checkpoints:
    """Saves the latest state after every epoch and the best weights after every validation.

    Args:
        folder: folder of the run.
        network: what is trained (its module if wrapped for several processes).
        optimizer: its optimiser.
        scheduler: its learning-rate schedule.
        evaluator: validation engine; its key metric decides what is best.
        best_name: file of the best weights, see :func:`write_best`.
        dataset: what is trained on; the best weights then say what they are, see
            :func:`near_monai.training.run_description.describe_run`.
    """

    def __init__(
        self,
        folder: str | Path,
        network: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        evaluator: Engine,
        best_name: str = "best.pt",
        dataset: PointDataset | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.best_name = best_name
        self.network: Any = getattr(network, "module", network)
        self.parts: dict[str, Any] = {"network": self.network, "optimizer": optimizer, "scheduler": scheduler}
        self.evaluator = evaluator
        self.dataset = dataset
        self.best = -math.inf
        self.validated = 0
        self.resuming = False

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer, after the handlers that validate and step the schedule."""
        engine.add_event_handler(Events.STARTED, self._describe)
        engine.add_event_handler(Events.STARTED, self._restore)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        engine.add_event_handler(Events.COMPLETED, self._validate_last)
        self.evaluator.add_event_handler(Events.COMPLETED, self._compare)

    def _describe(self, engine: Engine) -> None:
        if self.dataset is not None:
            self.network.description = describe_run(self.folder, self.network, self.dataset.data)
            self.dataset = None  # a trainer that is started again goes on with what it is

    def resume(self) -> None:
        """Have the next start of the trainer go on where the run in this folder was stopped, if there is one."""
        self.resuming = (self.folder / "latest.pt").is_file()

    def _restore(self, engine: Engine) -> None:
        """What :meth:`resume` asked for: here, because the trainer makes its gradient scaler anew at every start."""
        if not self.resuming:
            return
        self.resuming, latest = False, self.folder / "latest.pt"
        try:
            state = torch.load(latest, map_location="cpu", weights_only=True)
            for name, part in self._parts(engine).items():
                part.load_state_dict(state[name])
            engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
            self.best, self.validated = state["best"], state["validated"]
        except Exception as error:  # torch raises anything on a damaged file
            raise NearError(f"{latest}: cannot be resumed ({type(error).__name__}); delete it to start anew") from error
        logger.info(f"{latest}: going on after epoch {state['epoch']} of {engine.state.max_epochs}")
        if state["epoch"] >= engine.state.max_epochs:
            engine.terminate()

    def _save(self, engine: Engine) -> None:
        state = {name: part.state_dict() for name, part in self._parts(engine).items()}
        place = {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        figures = {"best": self.best, "validated": self.validated}
        self._write("latest.pt", {**state, **place, **figures})

    def _parts(self, engine: Engine) -> dict[str, Any]:
        """What has a state; with mixed precision the trainer's gradient scaler, too."""
        scaler = getattr(engine, "scaler", None)
        return self.parts if scaler is None else self.parts | {"scaler": scaler}

    def _compare(self, engine: Engine) -> None:
        self.validated = engine.state.epoch
        figure = key_metric(engine)
        if figure > self.best:
            self.best = float(figure)
            write_best(self.folder / self.best_name, self.network)

    def _validate_last(self, engine: Engine) -> None:
        """The last epoch counts, whatever the interval of validations is."""
        if self.validated < engine.state.epoch:
            self.evaluator.run(engine.state.epoch)  # type: ignore[arg-type]  # MONAI counts epochs here
            logger.info(f"full-grid Dice after the last epoch {key_metric(self.evaluator):.4f}")
            self._save(engine)

    def _write(self, name: str, state: Any) -> None:
        write_state(self.folder / name, state)


def write_state(path: Path, state: Any) -> None:
    """Write weights or a state from the first process, complete or not at all."""
    if idist.get_rank() == 0:
        with replacing(path) as part:
            torch.save(state, part)


def write_best(path: Path, network: NearNetwork) -> None:
    """Write the weights of ``network`` as the flat state dict ``path`` and, if it says what it is, a file with that.

    The latter has the same name but for its suffix, ``.safetensors``.
    """
    state = network.state_dict()
    if network.description is not None and idist.get_rank() == 0:
        network.description = write_weights(path.with_suffix(SUFFIX), state, network.description)
    write_state(path, state)


def start_from(network: nn.Module, weights: str) -> None:
    """Begin training at the weights of a file or of the bundle (fine-tuning), or where they are if there are none."""
    if weights:
        load_state(getattr(network, "module", network), find_weights(weights))


def compare_with_start(network: NearNetwork, weights: str, evaluator: Engine, scores: PairedScores) -> None:
    """Say whether fine-tuned weights are better than those that they began at, on the held-out cases.

    Args:
        network: the trained network; it stays as it is.
        weights: where training began; nothing is said if it began at nothing.
        evaluator: has scored the network on the held-out cases.
        scores: its handler.
    """
    if not weights or not scores.scores:
        return
    trained, after, folder = deepcopy(network.state_dict()), scores.mean_dice(), scores.folder
    description, scores.folder = network.description, None
    try:
        start_from(network, weights)
        evaluator.run()
        before = scores.mean_dice()
    finally:
        network.load_state_dict(trained)
        network.description, scores.folder = description, folder
    gain = after - before
    verdict = "no better" if abs(gain) < SAME_DICE else f"{'better' if gain > 0 else 'worse'} by {abs(gain):.4f}"
    logger.info(
        f"held-out cases: mean Dice {after:.4f}, and {before:.4f} with {weights}, where training began: {verdict}. "
        "These cases are generated; near-monai evaluate says it of your own, if some have a truth"
    )


def resume(handlers: Iterable[object]) -> None:
    """Have a trainer with these ``handlers`` go on where its run was stopped, see :meth:`Checkpoints.resume`."""
    for handler in handlers:
        if isinstance(handler, Checkpoints):
            handler.resume()


def load_best(folder: str | Path, network: nn.Module, name: str = "best.pt") -> None:
    """Put the best weights of a run into ``network`` (they stay as they are if nothing was validated)."""
    best = Path(folder) / name
    for path in (best.with_suffix(SUFFIX), best):
        if path.is_file():
            return load_state(network, path)


def hand_over(network: NearNetwork, dataset: PointDataset, model_dir: str, folder: str | Path) -> None:
    """Put weights where a client looks for them that handed over a list of items: ``model_dir``/model.pt.

    Args:
        network: trained network.
        dataset: what it was trained on; nothing is done if no client gave its items.
        model_dir: the bundle's folder of weights; empty to leave it alone.
        folder: folder of the run, to which the weights go that were there before.

    Raises:
        NearError: it cannot be written.
    """
    if not (dataset.given and model_dir) or idist.get_rank() != 0:
        return
    target = Path(model_dir) / "model.pt"
    if target.is_file():
        with replacing(Path(folder) / "model_before.pt") as part:
            shutil.copyfile(target, part)
    write_best(target, network)
    logger.info("%s: the new weights; those before are in %s", target, folder)
