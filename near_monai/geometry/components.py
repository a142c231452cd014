"""26-connected components of a mask: their cost follows the mask, not the volume around it.

Vessels are kept as lists of voxels. A list of a chamber's voxels would take thirty times the memory of its mask: where
a mask fills its box, components are numbered in place, and lists are made when somebody asks for them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from near_monai.geometry.boxes import Box, box_of, voxels_of

#: Where less than this share of the box around a mask is set, it is faster to look at the voxels that are; vessels fill
#: a hundredth.
SPARSE = 0.02
#: All 26 neighbours.
CUBE = np.ones((3, 3, 3))


@dataclass(frozen=True, eq=False)
class Components:
    """The components of a mask, in the order of their first voxels.

    Attributes:
        shape: that of the mask.
        voxels: ``(N, 3)`` indices of its voxels, in the order of the array.
        owner: ``(N,)`` the component of every one of them, from 0.
    """

    shape: tuple[int, ...]
    voxels: NDArray[np.intp]
    owner: NDArray[np.int32]

    @staticmethod
    def of(mask: NDArray[np.bool_]) -> Components:
        """The components of ``mask`` ``(X, Y, Z)``."""
        if not mask.any():
            return Components.at(np.zeros((0, 3), np.intp), mask.shape)
        box = box_of(mask)
        part = mask[box.slices()]
        if np.count_nonzero(part) > SPARSE * part.size:
            return _InPlace(mask.shape, box, ndimage.label(part, CUBE)[0])
        voxels = voxels_of(part) + box.start
        return Components(mask.shape, voxels, _owners(voxels, mask.shape))

    @staticmethod
    def at(voxels: NDArray[np.intp], shape: tuple[int, ...]) -> Components:
        """The components of ``voxels`` ``(N, 3)`` of a volume of ``shape``, in its order."""
        if not len(voxels):
            return Components(shape, voxels, np.zeros(0, np.int32))
        box = around(voxels)
        if len(voxels) <= SPARSE * np.prod(box.shape):
            return Components(shape, voxels, _owners(voxels, shape))
        place = tuple((voxels - box.start).T)
        part = np.zeros(box.shape, bool)
        part[place] = True
        return Components(shape, voxels, ndimage.label(part, CUBE)[0][place] - 1)

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def sizes(self) -> NDArray[np.intp]:
        """Voxels of every component."""
        return np.bincount(self.owner)

    @cached_property
    def parts(self) -> list[NDArray[np.intp]]:
        """The voxels ``(n, 3)`` of every component."""
        order = np.argsort(self.owner, kind="stable")
        return np.split(self.voxels[order], np.cumsum(self.sizes)[:-1]) if len(self) else []

    @cached_property
    def boxes(self) -> list[Box]:
        """The bounding box of every component."""
        return [around(part) for part in self.parts]

    def only(self, chosen: NDArray[np.bool_]) -> Components:
        """Those that are ``chosen``, ``(len(self),)``, numbered anew."""
        kept = chosen[self.owner]
        return Components(self.shape, self.voxels[kept], (np.cumsum(chosen) - 1).astype(np.int32)[self.owner[kept]])

    def mask(self, number: int, box: Box | None = None) -> NDArray[np.bool_]:
        """Component ``number`` alone, on its own ``box``, or on a larger one."""
        box = box or self.boxes[number]
        mask = np.zeros(box.shape, bool)
        mask[tuple((self.parts[number] - box.start).T)] = True
        return mask

    def index(self) -> NDArray[np.int32]:
        """Per voxel of the whole volume the number of its component from 1, 0 outside."""
        index = np.zeros(self.shape, np.int32)
        index[tuple(self.voxels.T)] = self.owner + 1
        return index

    def sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """The sum over every component of ``values`` ``(X, Y, Z)``: of a mask the number of its voxels in it."""
        return np.bincount(self.owner, values[tuple(self.voxels.T)], len(self)).astype(np.float64)

    def near(self, chosen: NDArray[np.bool_], steps: int) -> Components:
        """What lies in the boxes of the ``chosen``, ``(len(self),)``, with ``steps`` voxels more on every side.

        They are numbered as before, and some may be missing.
        """
        there, (a, b, c) = np.zeros(self.shape, bool), self.shape
        for number in np.flatnonzero(chosen).tolist():
            there[self.boxes[number].grow(steps, (a, b, c)).slices()] = True
        return self._in(there)

    def _in(self, there: NDArray[np.bool_]) -> Components:
        """What lies in the mask ``there``."""
        kept = there[tuple(self.voxels.T)]
        return Components(self.shape, self.voxels[kept], self.owner[kept])

    def put(self, array: NDArray[Any], chosen: NDArray[np.bool_], value: object) -> None:
        """Set the voxels of the components that are ``chosen``, ``(len(self),)``, of ``array`` ``(X, Y, Z)``."""
        array[tuple(self.voxels[chosen[self.owner]].T)] = value


class _InPlace(Components):
    """Components of a mask that fills its ``box``: ``numbers`` holds, per voxel of it, that of its component from 1."""

    box: Box
    numbers: NDArray[np.int32]

    def __init__(self, shape: tuple[int, ...], box: Box, numbers: NDArray[np.int32]) -> None:
        vars(self).update(shape=shape, box=box, numbers=numbers)  # past the guard of a frozen class

    @cached_property
    def voxels(self) -> NDArray[np.intp]:
        return voxels_of(self.numbers) + self.box.start

    @cached_property
    def owner(self) -> NDArray[np.int32]:
        return self.numbers[self.numbers > 0] - 1

    @cached_property
    def sizes(self) -> NDArray[np.intp]:
        return self._by_plane(None)

    @cached_property
    def boxes(self) -> list[Box]:
        return [Box.of(found).moved(self.box.start) for found in ndimage.find_objects(self.numbers)]

    def __len__(self) -> int:
        return len(self.boxes)

    def mask(self, number: int, box: Box | None = None) -> NDArray[np.bool_]:
        box = box or self.boxes[number]
        mask, there = np.zeros(box.shape, bool), box.overlap(self.boxes[number])
        mask[there.within(box).slices()] = self.numbers[there.within(self.box).slices()] == number + 1
        return mask

    def index(self) -> NDArray[np.int32]:
        index = np.zeros(self.shape, np.int32)
        index[self.box.slices()] = self.numbers
        return index

    def sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        return self._by_plane(values[self.box.slices()])

    def _in(self, there: NDArray[np.bool_]) -> Components:
        inside = self.numbers * there[self.box.slices()]
        return Components(self.shape, voxels_of(inside) + self.box.start, inside[inside > 0] - 1)

    def put(self, array: NDArray[Any], chosen: NDArray[np.bool_], value: object) -> None:
        for number in np.flatnonzero(chosen).tolist():
            array[self.boxes[number].slices()][self.mask(number)] = value

    def _by_plane(self, weights: NDArray[Any] | None) -> NDArray[Any]:
        """Per component the sum of the ``weights`` of its voxels (``None``: of ones), plane by plane to stay small."""
        count, own = len(self) + 1, itertools.repeat(None) if weights is None else (plane.ravel() for plane in weights)
        planes = (plane.ravel() for plane in self.numbers)
        return np.sum([np.bincount(plane, some, count) for plane, some in zip(planes, own, strict=False)], axis=0)[1:]


def count_components(mask: NDArray[np.bool_]) -> int:
    """Number of 26-connected components of ``mask`` ``(X, Y, Z)``."""
    return len(Components.of(mask))


def around(voxels: NDArray[np.intp]) -> Box:
    """Bounding box of ``voxels`` ``(N, 3)``; there must be some."""
    (a, b, c), (x, y, z) = voxels.min(0).tolist(), (voxels.max(0) + 1).tolist()
    return Box((a, b, c), (x, y, z))


def _owners(voxels: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Component, from 0, of every one of ``voxels`` ``(N, 3)`` in the order of the array."""
    wide = np.add(shape, 2)  # a rim, so that the last voxel of a row is no neighbour of the first of the next
    flat = np.asarray(np.ravel_multi_index(tuple(voxels.T), tuple(wide)))
    pairs = []
    for step in itertools.islice(itertools.product((-1, 0, 1), repeat=3), 14, None):  # the half that comes later
        target = flat + int(np.dot(step, [wide[1] * wide[2], wide[2], 1]))
        place = np.minimum(np.searchsorted(flat, target), len(flat) - 1)
        met = np.flatnonzero(flat[place] == target)
        pairs.append(np.stack([met, place[met]]))
    one, other = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(one.size, bool), (one, other)), (len(flat),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1])
