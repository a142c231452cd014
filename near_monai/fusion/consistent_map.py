"""Claims of all structures to one consistent map: merge, put right what breaks the rules, leave no slit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import HEART, Anatomy
from near_monai.fusion.anatomy_rules import correct
from near_monai.fusion.map_changes import Change
from near_monai.fusion.overlaps import Claim, fill_slits, merge
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
    """One label map of all ``claims``; arguments as for :func:`near_monai.fusion.overlaps.merge`."""
    array, changes = merge(claims, before, grid, anatomy)
    for _ in range(ROUNDS):
        corrected, done, flagged = correct(array, grid, anatomy)
        if not done:
            break
        # a piece that went may have lain between two structures: its voxels are theirs
        array, filled = fill_slits(corrected, claims, before, grid, anatomy, without=array)
        changes += done + filled
        if not filled:
            break
    return Composed(array, changes, flagged)
