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
        own = claim.probability.astype(np.float16)
        contested = claim.mask & (there > 0)
        wins = claim.mask & ((there == 0) | (own > certainty + np.float16(SURER)))
        for other in np.unique(there[contested]):
            for outcome, place in (("won from", wins), ("left to", ~wins)):
                place = place & contested & (there == other)
                detail = f"{outcome} {anatomy.name(int(other))}"
                changes += Change.each("overlap", claim.index, "resolved", place, claim.box.grid(grid), detail)
        there[wins], certainty[wins] = claim.index, own[wins]
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
    while True:  # what was filled may be a neighbour of what was not
        given = _given_to(slits(merged, before, grid), merged, ordered, without)
        if not given.any():  # no slit is left, or none that a neighbour may get
            return merged, changes
        merged = np.where(given, given, merged)
        for index in np.unique(given[given > 0]).tolist():
            changes += Change.each("slit", index, "filled", given == index, grid, f"with {anatomy.name(index)}")


def _given_to(
    slit: NDArray[np.bool_], merged: NDArray[np.uint8], ordered: Sequence[Claim], without: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """Per voxel of the ``slit`` ``(X, Y, Z)`` the structure that gets it; 0 elsewhere and where none may."""
    voxels = voxels_of(slit)
    given = np.zeros_like(merged)
    if not len(voxels):
        return given
    neighbours = np.stack(list(_neighbours(voxels, merged)))
    winner, best = np.zeros(len(voxels), merged.dtype), np.full(len(voxels), -1, np.float32)
    for claim in ordered:
        may = (neighbours == claim.index).any(0)
        if without is not None:
            may &= without[slit] != claim.index
        inside = np.all((voxels >= claim.box.start) & (voxels < claim.box.stop), axis=1)
        own = np.zeros(len(voxels), np.float32)
        own[inside] = claim.probability[tuple((voxels[inside] - claim.box.start).T)]
        better = may & (own > best)
        winner[better], best[better] = claim.index, own[better]
    given[slit] = winner
    return given


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


def slits(after: NDArray[np.uint8], before: NDArray[np.uint8], grid: Grid) -> NDArray[np.bool_]:
    """Voxels that ``before`` labels, ``after`` does not, and that lie in a narrow gap between two structures.

    Args:
        after: label map ``(X, Y, Z)``.
        before: the map that it was made of.
        grid: their grid.
    """
    found = np.zeros(after.shape, bool)
    lost = (before > 0) & (after == 0)
    if not lost.any() or not after.any():
        return found
    box = box_of(lost).grow(int(np.ceil(2 * SLIT_MM / min(grid.spacing))) + 1, after.shape)
    cut, near = box.slices(), after[box.slices()]
    size = [2 * max(1, round(SLIT_MM / 2 / step)) + 1 for step in grid.spacing]
    closed = ndimage.minimum_filter(ndimage.maximum_filter(near > 0, size), size)  # a closing, much faster than by name
    gaps = Components.of(closed & lost[cut])
    index = gaps.index()
    wide = _between_two(index, len(gaps), near)[index]
    # the closing rounds the rim of a gap: there the voxels' own neighbours tell
    voxel = np.zeros(near.shape, np.int32)
    voxel[lost[cut]] = np.arange(1, np.count_nonzero(lost[cut]) + 1)
    found[cut] = wide | _between_two(voxel, int(voxel.max()), near)[voxel]
    return found


def _between_two(index: NDArray[np.int32], count: int, labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Per number in ``index`` (0 first, which has none): do its voxels have neighbours of two structures?"""
    voxels = voxels_of(index)
    owner = index[index > 0].astype(np.int64)
    pairs = np.empty(0, np.int64)
    for found in _neighbours(voxels, labels):
        labelled = found > 0
        pairs = np.unique(np.concatenate([pairs, owner[labelled] * (LARGEST + 1) + found[labelled]]))
    return np.asarray(np.bincount(pairs // (LARGEST + 1), minlength=count + 1) >= 2)


def _neighbours(voxels: NDArray[np.int64], labels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Labels of the 26 neighbours of ``voxels (N, 3)`` (and their own), one ``(N,)`` after the other; 0 outside."""
    padded = np.pad(labels, 1)
    for step in itertools.product((0, 1, 2), repeat=3):
        yield padded[tuple((voxels + step).T)]
