"""Boxes of voxels: the part of a volume that matters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from near_monai.geometry.coordinates import Grid


@dataclass(frozen=True)
class Box:
    """Voxels ``start`` (inclusive) to ``stop`` (exclusive) of a grid."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @classmethod
    def of(cls, slices: tuple[slice, slice, slice]) -> Box:
        """The box of three slices, as ``scipy.ndimage.find_objects`` gives them."""
        (a, x), (b, y), (c, z) = ((side.start, side.stop) for side in slices)
        return cls((a, b, c), (x, y, z))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels per axis."""
        a, b, c = (hi - lo for lo, hi in zip(self.start, self.stop, strict=True))
        return a, b, c

    def slices(self, factor: int = 1) -> tuple[slice, slice, slice]:
        """Index of this box in an array with one cell per ``factor`` voxels."""
        a, b, c = (slice(lo // factor, hi // factor) for lo, hi in zip(self.start, self.stop, strict=True))
        return a, b, c

    def grow(self, voxels: int, shape: tuple[int, int, int]) -> Box:
        """The box with ``voxels`` more on every side, clipped to a grid of ``shape``."""
        a, b, c = (max(lo - voxels, 0) for lo in self.start)
        x, y, z = (min(hi + voxels, n) for hi, n in zip(self.stop, shape, strict=True))
        return Box((a, b, c), (x, y, z))

    def overlap(self, other: Box) -> Box:
        """What the box shares with ``other``; no voxels if they are apart."""
        a, b, c = (max(one, two) for one, two in zip(self.start, other.start, strict=True))
        x, y, z = (min(one, two) for one, two in zip(self.stop, other.stop, strict=True))
        return Box((a, b, c), (max(a, x), max(b, y), max(c, z)))

    def around(self, other: Box) -> Box:
        """The smallest box that holds both."""
        a, b, c = (min(one, two) for one, two in zip(self.start, other.start, strict=True))
        x, y, z = (max(one, two) for one, two in zip(self.stop, other.stop, strict=True))
        return Box((a, b, c), (x, y, z))

    def within(self, outer: Box) -> Box:
        """This box in the voxel coordinates of the sub-grid ``outer``."""
        a, b, c = (lo - o for lo, o in zip(self.start, outer.start, strict=True))
        x, y, z = (hi - o for hi, o in zip(self.stop, outer.start, strict=True))
        return Box((a, b, c), (x, y, z))

    def moved(self, start: tuple[int, int, int]) -> Box:
        """The box, given in voxels of a part that begins at ``start``, in those of the whole."""
        a, b, c = (lo + s for lo, s in zip(self.start, start, strict=True))
        x, y, z = (hi + s for hi, s in zip(self.stop, start, strict=True))
        return Box((a, b, c), (x, y, z))

    def grid(self, parent: Grid) -> Grid:
        """The sub-grid of ``parent`` that the box covers."""
        return parent.crop(self.start, self.shape)


def voxels_of(mask: NDArray[np.generic]) -> NDArray[np.intp]:
    """Indices ``(N, 3)`` of the voxels of ``mask`` that are not 0: ``numpy.argwhere``, eight times faster."""
    return np.array(np.unravel_index(np.flatnonzero(mask), mask.shape)).T  # columns lie in one piece


def box_of(mask: NDArray[np.generic]) -> Box:
    """Bounding box of the voxels of ``mask`` that are not 0; there must be some, and none below 0."""
    start, stop = [0, 0, 0], list(mask.shape)
    for axis in np.argsort(mask.strides)[::-1].tolist():  # what is cut off first lies apart in memory
        part = mask[tuple(map(slice, start, stop))]
        found = np.flatnonzero(part.max(axis=tuple(a for a in range(3) if a != axis)))
        start[axis], stop[axis] = int(found[0]), int(found[-1]) + 1
    (a, b, c), (x, y, z) = start, stop
    return Box((a, b, c), (x, y, z))


def crop_box(mask: NDArray[np.bool_], spacing: ArrayLike, margin_mm: float) -> Box:
    """Bounding box of ``mask`` plus ``margin_mm`` on every side, as far as the volume reaches."""
    a, b, c = mask.shape
    return widen(box_of(mask), spacing, margin_mm, (a, b, c))


def widen(box: Box, spacing: ArrayLike, margin_mm: float, shape: tuple[int, int, int]) -> Box:
    """``box`` plus ``margin_mm`` on every side, as far as a volume of ``shape`` reaches."""
    reach = [int(np.ceil(margin_mm / s - 1e-6)) for s in np.asarray(spacing)]
    a, b, c = (max(lo - r, 0) for lo, r in zip(box.start, reach, strict=True))
    x, y, z = (min(hi + r, n) for hi, r, n in zip(box.stop, reach, shape, strict=True))
    return Box((a, b, c), (x, y, z))


def occupied(array: NDArray[np.generic]) -> Box:
    """Bounding box of what is not 0, the whole array if nothing is: all that has to be looked at."""
    a, b, c = array.shape
    return box_of(array) if array.any() else Box((0, 0, 0), (a, b, c))


def voxels_where(array: NDArray[Any], test: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> NDArray[np.intp]:
    """:func:`voxels_of` what passes ``test``, which 0 does not; nothing of the size of ``array`` is made."""
    slow = int(np.argmax(np.abs(array.strides)))
    flat = []
    for number, plane in enumerate(np.moveaxis(array, slow, 0)):
        if plane.any():
            found = np.insert(voxels_of(test(plane)), slow, number, axis=1)
            flat.append(np.ravel_multi_index(tuple(found.T), array.shape))
    return np.stack(np.unravel_index(np.sort(np.concatenate(flat)) if flat else np.zeros(0, int), array.shape), 1)


def box_where(array: NDArray[Any], test: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> Box:
    """Bounding box of the voxels of ``array`` ``(X, Y, Z)`` that pass ``test``; there must be some, and 0 is none.

    It is looked at plane by plane: nothing of the size of ``array`` is made.
    """
    slow = int(np.argmax(np.abs(array.strides)))
    others = [axis for axis in range(3) if axis != slow]
    hits = [np.zeros(n, bool) for n in array.shape]
    for number, plane in enumerate(np.moveaxis(array, slow, 0)):
        if plane.any():
            passed = test(plane)
            hits[slow][number] = passed.any()
            hits[others[0]] |= passed.any(1)
            hits[others[1]] |= passed.any(0)
    (a, x), (b, y), (c, z) = ((int(found[0]), int(found[-1]) + 1) for found in map(np.flatnonzero, hits))
    return Box((a, b, c), (x, y, z))


def centres_in(patch: Grid, target: Grid) -> Box:
    """Voxels of ``target`` whose centres lie in ``patch`` (lower faces included, so that patches share none)."""
    low = np.ceil(target.to_voxel(patch.to_mm([-0.5] * 3)) - 1e-6)
    high = np.ceil(target.to_voxel(patch.to_mm(np.asarray(patch.shape) - 0.5)) - 1e-6)
    a, b, c = (int(x) for x in np.clip(low, 0, target.shape))
    x, y, z = (int(x) for x in np.clip(high, 0, target.shape))
    return Box((a, b, c), (max(x, a), max(y, b), max(z, c)))
