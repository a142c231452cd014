"""All that is measured in one case. Two passes: Dice of the Gaussian's settings, then every row in full."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from benchmarks.calibration import Reliability, near_walls, reliability
from benchmarks.diameter import diameter_bins, dice_by_diameter
from benchmarks.methods import GAUSSIANS, LEAVE_ONE_OUT, METHODS, NOISY, ORACLE
from benchmarks.sets import Case, Mask, Masks
from benchmarks.unet import LogitGrid
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.inferers.occupancy import occupancy
from near_monai.metrics.mask_metrics import Pair, dice, score
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import load_network
from near_monai.repair.mask_repair import Noise, repair

#: The row of the shipped weights.
OURS = "near_monai"


@dataclass(frozen=True)
class Job:
    """One case to measure.

    Attributes:
        case: where its masks come from.
        leave_one_out: setting of the Gaussian chosen on the other cases.
        oracle: setting chosen on the truth of all cases.
        weights: rows that refine with weights; ``None`` for the shipped ones.
        picture: where to draw the case, if anywhere.
    """

    case: Case
    leave_one_out: str
    oracle: str
    weights: Mapping[str, str | None]
    picture: Path | None = None


@dataclass(frozen=True)
class Measured:
    """What one case gave: scores and Dice by diameter per row, and reliability bins per row with probabilities."""

    name: str
    scores: dict[str, dict[str, float]]
    diameters: dict[str, dict[str, float]]
    reliability: dict[str, Reliability]


@cache
def network_of(weights: str | None) -> tuple[NearNetwork, WorkingSpace]:
    """Network and working space of a weights file, read once per process."""
    return load_network(weights)


def refined(mask: Mask, grid: Grid, weights: str | None) -> tuple[Mask, NDArray[np.float32]]:
    """Refined mask and the network's probability on ``grid``.

    The caution that spares clean labels was chosen for F. Another network is trusted wherever it is above 0.5, which is
    better for it on noisy labels; its pieces are joined and dropped as F's are.
    """
    network, space = network_of(weights)
    field: nn.Module = network.field
    probability = occupancy(mask[None], grid, network, space).probability[0]
    noise = Noise(math.inf) if isinstance(field, LogitGrid) else None
    return repair(mask, probability, grid, noise).mask, probability


def gaussian_dice(case: Case) -> dict[str, float]:
    """Dice of every setting of the Gaussian."""
    masks = case.load()
    return {
        setting: dice(Pair(method(masks.noisy, masks.grid), masks.truth, masks.grid.spacing))
        for setting, method in GAUSSIANS.items()
    }


def measure(job: Job) -> Measured:
    """Run and score every row."""
    masks = job.case.load()
    noisy, truth, grid = masks.noisy, masks.truth, masks.grid
    rows = _filtered(masks, job)
    walls = near_walls(noisy, truth, grid.spacing)
    bins: dict[str, Reliability] = {}
    for row, weights in job.weights.items():
        rows[row], probability = refined(noisy, grid, weights)
        bins[row] = reliability(probability[walls], truth[walls])
    if job.picture:
        from benchmarks.plots import render  # matplotlib is not for workers that draw nothing

        render(job.picture, {row: rows[row] for row in (NOISY, LEAVE_ONE_OUT, OURS)} | {"truth": truth}, grid)
    by_diameter = diameter_bins(truth, np.any([truth, *rows.values()], axis=0), grid.spacing)
    return Measured(
        job.case.name,
        {row: score(mask, truth, grid.spacing) for row, mask in rows.items()},
        {row: dice_by_diameter(mask, truth, by_diameter) for row, mask in rows.items()},
        bins,
    )


def _filtered(masks: Masks, job: Job) -> dict[str, Mask]:
    """The rows without weights."""
    methods = METHODS | {LEAVE_ONE_OUT: GAUSSIANS[job.leave_one_out], ORACLE: GAUSSIANS[job.oracle]}
    return {row: method(masks.noisy, masks.grid) for row, method in methods.items()} | dict(masks.others)
