"""Masks of several structures to one label map, where they overlap.

Each structure is refined on its own, so neighbours overlap in some places and part in others. The functions' own
probabilities decide, and the fusion priority where they do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import HEART, Anatomy
from near_monai.errors import NearError
from near_monai.fusion.map_changes import Change
from near_monai.geometry.boxes import Box, voxels_of
from near_monai.geometry.coordinates import Grid

#: Where two claim a voxel, the one that comes later in the priority gets it if it is surer by this much.
SURER = 0.25


@dataclass(frozen=True)
class Claim:
    """What one structure claims.

    Attributes:
        index: its class.
        box: the part of the map that ``mask`` and ``probability`` cover.
        mask: its refined mask in the box.
        probability: how sure its function is, same shape, 0..1.
    """

    index: int
    box: Box
    mask: NDArray[np.bool_]
    probability: NDArray[np.floating]


def overlay(
    claims: Iterable[Claim], before: NDArray[np.uint8], grid: Grid, anatomy: Anatomy = HEART
) -> tuple[NDArray[np.uint8], list[Change]]:
    """One label map of all ``claims``.

    Args:
        claims: at most one per structure.
        before: the map before refinement, ``(X, Y, Z)``: its classes that the table does not have stay as they are.
        grid: its grid.
        anatomy: the table.

    Returns:
        The map, of the type of ``before``, and what was decided between whom.
    """
    ordered = sorted(claims, key=lambda claim: anatomy.rank(claim.index))
    unknown = (before > 0) & ~anatomy.knows(before)
    merged, sure = before * unknown, np.zeros(before.shape, np.float16)
    sure[unknown] = np.inf  # nobody is surer: unknown classes keep their voxels
    changes: list[Change] = []
    for claim in ordered:
        there, certainty = merged[claim.box.slices()], sure[claim.box.slices()]
        own = claim.probability.astype(np.float16, copy=False)
        contested = voxels_of(claim.mask & (there > 0))
        place = tuple(contested.T)
        held, surer = there[place], own[place] > certainty[place] + np.float16(SURER)
        for other in np.unique(held).tolist():
            for outcome, chosen in (("won from", surer), ("left to", ~surer)):
                voxels = contested[chosen & (held == other)]
                detail = f"{outcome} {anatomy.name(other)}"
                changes += Change.each("overlap", claim.index, "resolved", voxels, claim.box.grid(grid), detail)
        wins = claim.mask.copy()
        wins[place] = surer
        np.copyto(there, claim.index, where=wins)
        np.copyto(certainty, own, where=wins)
    return merged, changes


def by_priority(probability: NDArray[np.floating], anatomy: Anatomy = HEART) -> NDArray[np.uint8]:
    """A label map of probabilities alone: of the structures above their threshold the first in the priority.

    Args:
        probability: ``(C, X, Y, Z)``, one channel per structure of the table, in its order.
        anatomy: the table.

    Raises:
        NearError: the table has another number of structures.
    """
    if len(probability) != len(anatomy.structures):
        raise NearError(
            f"a function of {len(probability)} structures, a table of {len(anatomy.structures)}; give its own table"
        )
    array = np.zeros(probability.shape[1:], np.min_scalar_type(max(s.index for s in anatomy.structures)))
    for channel in np.argsort([-s.rank for s in anatomy.structures]):
        structure = anatomy.structures[channel]
        array[probability[channel] > structure.threshold] = structure.index
    return array
