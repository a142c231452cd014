"""From F's probability to a mask: how far F is trusted against the label, what is joined and what is dropped.

A network that repairs also smooths: at the wall of a vessel it cannot tell annotation from noise. How noisy a label is
can be measured, though, by how often F contradicts it with confidence. The less it does, the surer F must be to
change it (:class:`near_monai.anatomy.Trust`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import Structure, by_name
from near_monai.boxes import box_of
from near_monai.coords import Grid
from near_monai.errors import NearError

if TYPE_CHECKING:
    from near_monai.reconnection import Bridge

logger = logging.getLogger("near_monai")

#: What a label is taken for if nothing else is said.
VESSEL = by_name("coronary")
#: F contradicts a label with confidence where it gives the label's value less than this probability.
CONFIDENT = 0.2
#: What joining and dropping pieces needs beyond MONAI, by the names of package and module.
CLEANING_PACKAGES = {"scipy": "scipy", "scikit-image": "skimage"}


@dataclass(frozen=True)
class Repaired:
    """What :func:`repair` gives.

    Attributes:
        mask: ``(X, Y, Z)`` repaired mask.
        bridge_mask: same shape, the voxels of the bridges: taking them out takes the bridges back.
        bridges: one record per bridge.
        noise_mm: estimated noise of the label.
        margin: how much surer than 0.5 F had to be to change a voxel, 0 to 0.5.
    """

    mask: NDArray[np.bool_]
    bridge_mask: NDArray[np.bool_]
    bridges: list[Bridge]
    noise_mm: float
    margin: float

    def scaled(self, factor: float) -> Repaired:
        """The same with every length multiplied by ``factor``."""
        return replace(
            self, bridges=[bridge.scaled(factor) for bridge in self.bridges], noise_mm=self.noise_mm * factor
        )

    def within(self, kept: NDArray[np.bool_], grid: Grid) -> Repaired:
        """What is left if only the voxels of ``kept``, on ``grid``, become the structure."""
        bridge_mask = self.bridge_mask & kept
        bridges = [left for bridge in self.bridges if (left := bridge.within(kept, grid)) is not None]
        return replace(self, mask=self.mask & kept, bridge_mask=bridge_mask, bridges=bridges)


def repair(
    mask: NDArray[np.bool_],
    probability: NDArray[np.float32],
    grid: Grid,
    noise_mm: float | None = None,
    clean: bool = True,
    structure: Structure = VESSEL,
) -> Repaired:
    """Decide, reconnect, drop what is small and could not be joined.

    Args:
        mask: ``(X, Y, Z)`` the label.
        probability: F on the same grid.
        grid: their grid.
        noise_mm: noise of the label if it is known; else :func:`noise_of` it.
        clean: also reconnect and drop small pieces.
        structure: how far F is trusted, and whether it is a vessel, whose torn-off pieces are joined by tubes.

    Raises:
        NearError: F is not a number somewhere.
    """
    if not np.isfinite(probability).all():
        raise NearError("F is not a number somewhere: the weights are damaged, give others")
    noise = noise_of(mask, probability, grid) if noise_mm is None else noise_mm
    clean_mm, noisy_mm, margin = structure.trust
    margin *= float(np.clip((noisy_mm - noise) / (noisy_mm - clean_mm), 0, 1))
    decided = decide(mask, probability, margin, structure.threshold)
    if not clean:
        return Repaired(decided, np.zeros_like(mask), [], noise, margin)
    from near_monai.cleaning import LONG_MM, drop_specks  # these need scipy and scikit-image, the rest does not
    from near_monai.reconnection import reconnect

    bridge_mask, bridges = reconnect(decided, probability, grid) if structure.tubular else (np.zeros_like(mask), [])
    joined = decided | bridge_mask
    kept = drop_specks(joined, grid.spacing, far_mm=0.0, long_mm=LONG_MM)
    return Repaired(joined, bridge_mask, bridges, noise, margin).within(kept, grid)


def can_clean() -> bool:
    """Whether what ``clean`` needs is here; a warning where it is not: a bundle may run with MONAI alone."""
    missing = _missing()
    if missing:
        logger.warning("%s; what F says is written as it is", _needs(missing))
    return not missing


def need_cleaning_packages() -> None:
    """Say before any work is done what ``clean`` needs and is not here.

    Raises:
        NearError: scipy or scikit-image is not installed.
    """
    missing = _missing()
    if missing:
        raise NearError(f"{_needs(missing)}, or give --clean False for F alone")


def _missing() -> list[str]:
    return [package for package, module in CLEANING_PACKAGES.items() if find_spec(module) is None]


def _needs(missing: list[str]) -> str:
    return f"joining and dropping pieces needs {' and '.join(missing)}: pip install {' '.join(missing)}"


def noise_of(mask: NDArray[np.bool_], probability: NDArray[np.float32], grid: Grid) -> float:
    """Volume in which F contradicts the label with confidence, per area of its wall: a length in mm.

    With the shipped network of the coronaries less than 0.01 for clean generated trees, 0.03 to 0.045 for careful
    annotations, 0.04 to 0.07 for mild noise and about 0.1 for moderate and severe noise.
    """
    if not mask.any():
        return 0.0
    doubted = np.count_nonzero(np.where(mask, probability < CONFIDENT, probability > 1 - CONFIDENT))
    return doubted * grid.voxel_volume / wall_area(mask, grid)


def wall_area(mask: NDArray[np.bool_], grid: Grid) -> float:
    """Surface area in mm^2: that of the voxel faces, two thirds of which a smooth wall has. ``mask`` is not empty."""
    inside = np.pad(mask[box_of(mask).slices()], 1)
    faces = [np.count_nonzero(np.diff(inside, axis=axis)) / step for axis, step in enumerate(grid.spacing)]
    return sum(faces) * grid.voxel_volume * 2 / 3


def decide(
    mask: NDArray[np.bool_], probability: NDArray[np.float32], margin: float, threshold: float = 0.5
) -> NDArray[np.bool_]:
    """``mask``, changed where F contradicts it by more than ``margin``: with 0.5 nowhere, whatever the ``threshold``.

    The margin holds everywhere: with one for the wall alone, what F adds beyond the wall came out hollow.
    """
    lower, upper = threshold * (1 - 2 * margin), threshold + 2 * margin * (1 - threshold)
    return np.asarray(np.where(mask, probability >= lower, probability > upper))
