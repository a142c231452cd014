"""Claims of all structures to one consistent map: merge, put right what breaks the rules, leave no slit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import HEART, Anatomy
from near_monai.fusion.anatomy_rules import correct
from near_monai.fusion.map_changes import Change
from near_monai.fusion.overlaps import Claim, overlay
from near_monai.fusion.slits import Gaps, fill_slits
from near_monai.geometry.boxes import voxels_of
from near_monai.geometry.coordinates import Grid

#: Filling a slit can make a hole, filling a hole none; it never took more rounds than two.
ROUNDS = 5


@dataclass(frozen=True)
class Composed:
    """What :func:`compose` gives.

    Attributes:
        array: the map, uint8.
        changes: what was decided between structures and corrected.
        flagged: what still breaks a rule and should be looked at.
    """

    array: NDArray[np.uint8]
    changes: list[Change]
    flagged: list[Change]


def compose(claims: Sequence[Claim], before: NDArray[np.uint8], grid: Grid, anatomy: Anatomy = HEART) -> Composed:
    """One label map of all ``claims``.

    Args:
        claims: at most one per structure.
        before: the map before refinement, ``(X, Y, Z)``: only what it labelled can become a slit, and its classes that
            the table does not have stay as they are.
        grid: its grid.
        anatomy: the table.
    """
    gaps, changes = merge(claims, before, grid, anatomy)
    for _ in range(ROUNDS):
        corrected, done, flagged = correct(gaps.array, grid, anatomy)
        if not done:
            break
        old, moved = gaps.array.copy(), voxels_of(corrected != gaps.array)
        gaps.put(moved, corrected[tuple(moved.T)])
        # a piece that went may have lain between two structures: its voxels are theirs
        filled = fill_slits(gaps, claims, grid, anatomy, without=old)
        changes += done + filled
        if not filled:
            break
    return Composed(gaps.array.copy(), changes, flagged)


def merge(
    claims: Sequence[Claim], before: NDArray[np.uint8], grid: Grid, anatomy: Anatomy = HEART
) -> tuple[Gaps, list[Change]]:
    """The map of all ``claims`` without overlaps and slits, and what was changed; arguments as for :func:`compose`."""
    array, changes = overlay(claims, before, grid, anatomy)
    gaps = Gaps(array, before, grid)
    return gaps, changes + fill_slits(gaps, claims, grid, anatomy)
