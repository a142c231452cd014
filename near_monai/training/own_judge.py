"""The judge of joints learns from the user's own trees, torn artificially; it is kept if it judges them better."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ignite.distributed as idist
import numpy as np

from near_monai.datasets.point_dataset import PointDataset, TrainingCase
from near_monai.geometry.working_space import WorkingSpace
from near_monai.networks.code_table import CodeTable
from near_monai.networks.network import NearNetwork
from near_monai.repair.judge import Judge, judge_of, shipped_judge
from near_monai.training.checkpoints import write_best
from near_monai.training.judge_training import Example, folds, learn, torn_example

logger = logging.getLogger("near_monai")

#: With fewer joints nothing can be said about a judge.
FEWEST_JOINTS = 100


def learn_own_judge(
    folder: str | Path,
    network: NearNetwork,
    dataset: PointDataset,
    space: WorkingSpace,
    torn_trees: int,
    seed: int = 0,
    best_name: str = "best.pt",
) -> None:
    """Tear the user's own vessels, learn from them, and keep what was learned with the weights if it is better.

    Args:
        folder: folder of the run, with its best weights.
        network: what was trained, with these weights.
        dataset: what it was trained on; generated cases are left out: the shipped judge knows them.
        space: the working space.
        torn_trees: how many to learn from, in turn of the cases; 0: nothing is learned.
        seed: of the tears.
        best_name: file of the best weights.
    """
    own = [case for case in dataset.data if case.own and len(case.structures) == 1 and case.structures[0].tubular]
    if not own or not torn_trees or isinstance(network.source, CodeTable) or idist.get_rank() != 0:
        return
    logger.info("tearing your own vessels, %d times, so that the judge of joints learns from them", torn_trees)
    network.eval()
    examples = [_torn(own[number % len(own)], network, space, seed, number) for number in range(torn_trees)]
    known = judge_of(network) or shipped_judge()
    if sum(len(example.joints) for example in examples) < FEWEST_JOINTS:
        logger.info("too few joints to learn from: the judge of joints stays as it was")
        return
    after = float(np.mean([_surprise(learn(others), part) for others, part in folds(examples)]))
    now = float(np.mean([_surprise(known, part) for _, part in folds(examples)]))
    taken = after < now
    logger.info(f"log loss of joints in torn trees not seen: {after:.3f}, and {now:.3f} before: {_VERDICT[taken]}")
    if taken and network.description is not None:
        network.description = replace(network.description, judge=learn(examples).to_row())
        write_best(Path(folder) / best_name, network)


_VERDICT = {True: "the new judge goes with the weights", False: "the judge stays as it was"}


def _torn(case: TrainingCase, network: NearNetwork, space: WorkingSpace, seed: int, number: int) -> Example:
    truth = case.field.dense()[0].numpy() < 0
    return torn_example(truth, case.grid, network, space, np.random.default_rng((seed, number, 3)))


def _surprise(judge: Judge, examples: Sequence[Example]) -> float:
    """Mean log loss of the joints of ``examples``."""
    sure = np.concatenate([judge.joints(example.features) for example in examples]).clip(1e-6, 1 - 1e-6)
    right = np.concatenate([example.right for example in examples])
    return float(-np.log(np.where(right, sure, 1 - sure)).mean())
