"""Masks of several structures to one label map: overlaps are resolved and the slits between neighbours are filled.

Each structure is refined on its own, so neighbours overlap in some places and part in others. The functions' own
probabilities decide, and the fusion priority where they do not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from near_monai.anatomy import HEART, LARGEST, Anatomy
from near_monai.errors import NearError
from near_monai.fusion.map_changes import Change
from near_monai.geometry.boxes import Box, box_of, voxels_of
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid

#: Where two claim a voxel, the one that comes later in the priority gets it if it is surer by this much.
SURER = 0.25
#: What was labelled, lies between two structures and is at most so many mm wide is a slit.
SLIT_MM = 2.0
#: More than any label.
NO_LABEL = np.int32(LARGEST + 1)


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


def merge(
    claims: Iterable[Claim], before: NDArray[np.uint8], grid: Grid, anatomy: Anatomy = HEART
) -> tuple[NDArray[np.uint8], list[Change]]:
    """One label map of all ``claims``.

    Args:
        claims: at most one per structure.
        before: the map before refinement, ``(X, Y, Z)``: only what it labelled can become a slit, and its classes that
            the table does not have stay as they are.
        grid: its grid.
        anatomy: the table.

    Returns:
        The map, of the type of ``before``, and what was decided between whom.
    """
    ordered = sorted(claims, key=lambda claim: anatomy.rank(claim.index))
    unknown = (before > 0) & ~anatomy.knows(before)
    merged = np.where(unknown, before, 0).astype(before.dtype)
    sure = np.where(unknown, np.inf, 0).astype(np.float16)  # nobody is surer: unknown classes keep their voxels
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
    filled, slit_changes = fill_slits(merged, ordered, before, grid, anatomy)
    return filled, changes + slit_changes


def fill_slits(
    merged: NDArray[np.uint8],
    claims: Iterable[Claim],
    before: NDArray[np.uint8],
    grid: Grid,
    anatomy: Anatomy = HEART,
    without: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.uint8], list[Change]]:
    """Give the voxels of slits to the neighbour that is surest of them, the first in the priority if none is.

    Args:
        merged: label map ``(X, Y, Z)``.
        claims: the structures that may get a voxel.
        before: the map before refinement.
        grid: their grid.
        anatomy: the table.
        without: per voxel, a structure that does not get it.

    Returns:
        The map without slits, and what was filled.
    """
    changes: list[Change] = []
    ordered = sorted(claims, key=lambda claim: anatomy.rank(claim.index))
    while True:  # what was filled may make a slit of what was none
        voxels = slits(merged, before, grid)
        owner = _owners(voxels, merged, ordered, without)
        if not owner.any():  # no slit is left, or none that a neighbour may get
            return merged, changes
        merged = merged.copy()
        merged[tuple(voxels.T)] = owner
        for index in np.unique(owner[owner > 0]).tolist():
            changes += Change.each("slit", index, "filled", voxels[owner == index], grid, f"with {anatomy.name(index)}")


def _owners(
    voxels: NDArray[np.intp], merged: NDArray[np.uint8], ordered: Sequence[Claim], without: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """Who gets each of the ``voxels`` ``(N, 3)`` of a slit, from its rim inwards; 0 where nobody may."""
    owner = np.zeros(len(voxels), merged.dtype)
    wide = np.pad(merged, 1)
    waiting = np.arange(len(voxels))
    while len(waiting):
        given = _given_to(voxels[waiting], wide, ordered, without)
        owner[waiting] = given
        wide[tuple(voxels[waiting].T + 1)] = given
        if not given.any():
            break
        waiting = waiting[given == 0]
    return owner


def _given_to(
    voxels: NDArray[np.intp], wide: NDArray[np.uint8], ordered: Sequence[Claim], without: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """Which of its neighbours in a map with a rim, ``wide``, gets each of ``voxels`` ``(N, 3)``; 0: none may."""
    neighbours = np.stack(list(_neighbours(voxels, wide)))
    winner, best = np.zeros(len(voxels), wide.dtype), np.full(len(voxels), -1, np.float32)
    for claim in ordered:
        may = (neighbours == claim.index).any(0)
        if without is not None:
            may &= without[tuple(voxels.T)] != claim.index
        inside = np.all((voxels >= claim.box.start) & (voxels < claim.box.stop), axis=1)
        own = np.zeros(len(voxels), np.float32)
        own[inside] = claim.probability[tuple((voxels[inside] - claim.box.start).T)]
        better = may & (own > best)
        winner[better], best[better] = claim.index, own[better]
    return winner


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


def slits(after: NDArray[np.uint8], before: NDArray[np.uint8], grid: Grid) -> NDArray[np.intp]:
    """Voxels that ``before`` labels, ``after`` does not, and that lie in a narrow gap between two structures.

    Args:
        after: label map ``(X, Y, Z)``.
        before: the map that it was made of.
        grid: their grid.

    Returns:
        ``(N, 3)`` indices.
    """
    lost = (before > 0) & (after == 0)
    if not lost.any() or not after.any():
        return np.zeros((0, 3), np.intp)
    box = box_of(lost).grow(int(np.ceil(2 * SLIT_MM / min(grid.spacing))) + 1, after.shape)
    near, voxels = after[box.slices()], voxels_of(lost[box.slices()])
    size = [2 * max(1, round(SLIT_MM / 2 / step)) + 1 for step in grid.spacing]
    closed = ndimage.minimum_filter(ndimage.maximum_filter(near > 0, size), size)  # a closing, much faster than by name
    narrow = closed[tuple(voxels.T)]
    low, high = _least_and_most(voxels, near)
    gaps = Components.at(voxels[narrow], near.shape)
    least, most = np.full(len(gaps), NO_LABEL, low.dtype), np.zeros(len(gaps), high.dtype)
    np.minimum.at(least, gaps.owner, low[narrow])
    np.maximum.at(most, gaps.owner, high[narrow])
    between = low < high  # the closing rounds the rim of a gap: there the voxels' own neighbours tell
    between[narrow] |= (least < most)[gaps.owner]
    return voxels[between] + box.start


def _least_and_most(
    voxels: NDArray[np.intp], labels: NDArray[np.uint8]
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """The smallest and the largest label beside each of ``voxels`` ``(N, 3)``: they differ between two structures.

    :data:`NO_LABEL` and 0 where there is none.
    """
    low, high = np.full(len(voxels), NO_LABEL), np.zeros(len(voxels), labels.dtype)
    for found in _neighbours(voxels, np.pad(labels, 1)):
        np.maximum(high, found, out=high)
        np.minimum(low, found, out=low, where=found > 0)
    return low, high


def _neighbours(voxels: NDArray[np.intp], wide: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Labels of the 26 neighbours of ``voxels`` ``(N, 3)`` (and their own), one ``(N,)`` after the other.

    ``wide`` is the map with a rim of 0.
    """
    flat, labels = np.ravel_multi_index(tuple(voxels.T + 1), wide.shape), wide.ravel()
    for step in itertools.product((-1, 0, 1), repeat=3):
        yield labels[flat + int(np.dot(step, [wide.shape[1] * wide.shape[2], wide.shape[2], 1]))]
