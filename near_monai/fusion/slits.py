"""Slits: what was labelled, is not any more, and lies in a narrow gap between two structures."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from near_monai.anatomy import HEART, LARGEST, Anatomy
from near_monai.fusion.map_changes import Change
from near_monai.fusion.overlaps import Claim
from near_monai.geometry.boxes import Box, box_of, voxels_of
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid

#: What was labelled, lies between two structures and is at most so many mm wide is a slit.
SLIT_MM = 2.0
#: More than any label.
NO_LABEL = np.int32(LARGEST + 1)


class Gaps:
    """A label map, what it lost of the map that it was made of, and which of that is a slit.

    The map changes in few places at a time, and only there is looked again whether a gap is narrow.

    Args:
        array: label map ``(X, Y, Z)``; a copy of it is kept.
        before: the map that it was made of: only what that labelled can become a slit.
        grid: their grid.

    Attributes:
        array: the map as it is now; :meth:`put` changes it.
        voxels: ``(N, 3)`` indices of what it lost, in the order of the array.
        narrow: ``(N,)`` whether they lie in a gap of at most :data:`SLIT_MM`.
    """

    def __init__(self, array: NDArray[np.uint8], before: NDArray[np.uint8], grid: Grid) -> None:
        self.wide = np.pad(array, 1)  # a rim of 0, so that every voxel has neighbours
        self.array = self.wide[1:-1, 1:-1, 1:-1]
        self.before = before
        self.half = np.array([max(1, round(SLIT_MM / 2 / step)) for step in grid.spacing])
        lost = (before > 0) & (array == 0)
        self.voxels = voxels_of(lost)
        self.narrow = self._narrow(self.voxels, box_of(lost)) if len(self.voxels) else np.zeros(0, bool)

    def slits(self) -> NDArray[np.intp]:
        """Indices ``(N, 3)`` of the voxels of slits."""
        low, high = self._least_and_most()
        gaps = Components.at(self.voxels[self.narrow], self.array.shape)
        least, most = np.full(len(gaps), NO_LABEL, low.dtype), np.zeros(len(gaps), high.dtype)
        np.minimum.at(least, gaps.owner, low[self.narrow])
        np.maximum.at(most, gaps.owner, high[self.narrow])
        between = low < high  # the closing rounds the rim of a gap: there the voxels' own neighbours tell
        between[self.narrow] |= (least < most)[gaps.owner]
        return self.voxels[between]

    def neighbours(self, voxels: NDArray[np.intp]) -> Iterator[NDArray[np.uint8]]:
        """Labels of the 26 neighbours of ``voxels`` ``(N, 3)`` (and their own), one ``(N,)`` after the other."""
        flat, labels = np.ravel_multi_index(tuple(voxels.T + 1), self.wide.shape), self.wide.ravel()
        _, b, c = self.wide.shape
        for step in itertools.product((-1, 0, 1), repeat=3):
            yield labels[flat + int(np.dot(step, [b * c, c, 1]))]

    def put(self, voxels: NDArray[np.intp], labels: NDArray[np.uint8]) -> None:
        """Change the map: ``voxels`` ``(N, 3)`` get ``labels`` ``(N,)``."""
        if not len(voxels):
            return
        self.array[tuple(voxels.T)] = labels
        lost = voxels[(labels == 0) & (self.before[tuple(voxels.T)] > 0)]
        _, first = np.unique(self._flat(np.concatenate([self.voxels, lost])), return_index=True)
        known = np.concatenate([self.narrow, np.zeros(len(lost), bool)])[first]
        every = np.concatenate([self.voxels, lost])[first]
        left = self.array[tuple(every.T)] == 0
        self.voxels, self.narrow = every[left], known[left]
        reach = 2 * self.half  # so far a changed voxel can close or open a gap
        away = cKDTree(voxels / reach).query(self.voxels / reach, p=np.inf, distance_upper_bound=1 + 1e-6)[0]
        (near,) = np.nonzero(np.isfinite(away))
        groups = Components.at(self.voxels[near], self.array.shape)
        for number, box in enumerate(groups.boxes):
            own = near[groups.owner == number]
            self.narrow[own] = self._narrow(self.voxels[own], box)

    def _flat(self, voxels: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.asarray(np.ravel_multi_index(tuple(voxels.T), self.array.shape))

    def _narrow(self, voxels: NDArray[np.intp], box: Box) -> NDArray[np.bool_]:
        """Which of ``voxels`` ``(N, 3)``, all in ``box``, a closing of all that is labelled would fill."""
        low, high = np.subtract(box.start, 2 * self.half), np.add(box.stop, 2 * self.half)
        (a, b, c), (x, y, z) = np.maximum(low, 0).tolist(), np.minimum(high, self.array.shape).tolist()
        there, size = Box((a, b, c), (x, y, z)), (2 * self.half + 1).tolist()
        labelled = self.array[there.slices()] > 0
        closed = ndimage.minimum_filter(ndimage.maximum_filter(labelled, size), size)  # much faster than by name
        return np.asarray(closed[tuple((voxels - there.start).T)])

    def _least_and_most(self) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """The smallest and the largest label beside each of the lost voxels: they differ between two structures.

        :data:`NO_LABEL` and 0 where there is none.
        """
        low, high = np.full(len(self.voxels), NO_LABEL), np.zeros(len(self.voxels), self.array.dtype)
        for found in self.neighbours(self.voxels):
            np.maximum(high, found, out=high)
            np.minimum(low, found, out=low, where=found > 0)
        return low, high


def slits(after: NDArray[np.uint8], before: NDArray[np.uint8], grid: Grid) -> NDArray[np.intp]:
    """Voxels that ``before`` labels, ``after`` does not, and that lie in a narrow gap between two structures.

    Args:
        after: label map ``(X, Y, Z)``.
        before: the map that it was made of.
        grid: their grid.

    Returns:
        ``(N, 3)`` indices.
    """
    return Gaps(after, before, grid).slits()


def fill_slits(
    gaps: Gaps,
    claims: Iterable[Claim],
    grid: Grid,
    anatomy: Anatomy = HEART,
    without: NDArray[np.uint8] | None = None,
) -> list[Change]:
    """Give the voxels of slits to the neighbour that is surest of them, the first in the priority if none is.

    Args:
        gaps: the map; it is changed.
        claims: the structures that may get a voxel.
        grid: its grid.
        anatomy: the table.
        without: per voxel of the map, a structure that does not get it.

    Returns:
        What was filled.
    """
    changes: list[Change] = []
    ordered = sorted(claims, key=lambda claim: anatomy.rank(claim.index))
    while True:  # what was filled may make a slit of what was none
        voxels = gaps.slits()
        owner = _owners(voxels, gaps, ordered, without)
        if not owner.any():  # no slit is left, or none that a neighbour may get
            return changes
        gaps.put(voxels, owner)
        for index in np.unique(owner[owner > 0]).tolist():
            changes += Change.each("slit", index, "filled", voxels[owner == index], grid, f"with {anatomy.name(index)}")


def _owners(
    voxels: NDArray[np.intp], gaps: Gaps, ordered: Sequence[Claim], without: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """Who gets each of the ``voxels`` ``(N, 3)`` of a slit, from its rim inwards; 0 where nobody may."""
    owner = np.zeros(len(voxels), gaps.array.dtype)
    waiting = np.arange(len(voxels))
    while len(waiting):
        given = _given_to(voxels[waiting], gaps, ordered, without)
        owner[waiting] = given
        gaps.array[tuple(voxels[waiting].T)] = given
        if not given.any():
            break
        waiting = waiting[given == 0]
    return owner


def _given_to(
    voxels: NDArray[np.intp], gaps: Gaps, ordered: Sequence[Claim], without: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """Which of its neighbours gets each of ``voxels`` ``(N, 3)``; 0 where none may."""
    neighbours = np.stack(list(gaps.neighbours(voxels)))
    winner, best = np.zeros(len(voxels), gaps.array.dtype), np.full(len(voxels), -1, np.float32)
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
