"""The frame of a region: how a part of a label is turned, and its voxel sizes rounded, before F sees it.

A file may store its axes in any order and direction, may be cropped or padded, and may say 0.35 mm or 0.349999994 mm.
None of that is anatomy, and F is no symmetric function. A region therefore begins at its own first voxel, its axes are
turned into an order and direction that follow from the label alone, and its voxel sizes are rounded: the same label
gives the same numbers, however it is stored.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from near_monai.geometry.boxes import Box
from near_monai.geometry.coordinates import Grid

#: Voxel sizes keep this many binary digits: a step of 0.006 %, far from every usual size (0.35, 0.5, 90/256 mm) and its
#: neighbours in single precision.
DIGITS = 14

Triple = tuple[int, int, int]
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Pose:
    """How an array is turned.

    Attributes:
        order: the axes that become the first, second and third.
        flipped: of these, which are reversed.
    """

    order: Triple = (0, 1, 2)
    flipped: tuple[bool, bool, bool] = (False, False, False)

    def turn(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """A view of ``array`` ``(..., X, Y, Z)``, its last three axes turned."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.order))
        return np.flip(turned, tuple(lead + axis for axis in range(3) if self.flipped[axis]))

    def undo(self, turned: NDArray[Scalar]) -> NDArray[Scalar]:
        """A view of a ``turned`` array, turned back."""
        lead = turned.ndim - 3
        array = np.flip(turned, tuple(lead + axis for axis in range(3) if self.flipped[axis]))
        return array.transpose(*range(lead), *(lead + axis for axis in np.argsort(self.order).tolist()))

    def picked(self, values: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        """What is known of the axes of an array, in the order of the turned one."""
        a, b, c = (values[axis] for axis in self.order)
        return a, b, c


@dataclass(frozen=True)
class Frame:
    """Where a region lies in its case, and how it is turned.

    Attributes:
        origin: mm of its first voxel in the frame of the case.
        step: voxel size in mm there.
        shape: voxels per axis there.
        pose: how it is turned.
    """

    origin: tuple[float, float, float]
    step: tuple[float, float, float]
    shape: Triple
    pose: Pose = Pose()

    @classmethod
    def of(cls, box: Box, native: Grid, pose: Pose) -> Frame:
        """The frame of ``box``, which may reach beyond the ``native`` grid."""
        part = box.grid(native)
        return cls(part.origin, part.spacing, part.shape, pose)

    @property
    def place(self) -> Grid:
        """The region in the frame of the case."""
        return Grid(self.shape, self.step, self.origin)

    @property
    def grid(self) -> Grid:
        """The turned region: it begins at 0 mm, and its voxel sizes are rounded."""
        return self.turned(self.place)

    def turned(self, target: Grid) -> Grid:
        """``target``, a grid in the frame of the case, in the frame of the region."""
        first = np.round((np.subtract(target.origin, self.origin)) / self.step, 6)  # whole for voxels of the case
        ratio = np.round(np.divide(target.spacing, self.step), 9)
        last = np.subtract(self.shape, 1) - (first + (np.asarray(target.shape) - 1) * ratio)
        size = np.array([rounded(s) for s in self.step])
        order = list(self.pose.order)
        start = np.where(self.pose.flipped, last[order], first[order])
        return Grid.of(np.asarray(target.shape)[order], (ratio * size)[order], start * size[order])


def rounded(spacing: float) -> float:
    """A voxel size with :data:`DIGITS` binary digits."""
    mantissa, exponent = math.frexp(spacing)
    return math.ldexp(round(mantissa * 2**DIGITS), exponent - DIGITS)


def poses_of(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> list[Pose]:
    """The poses that follow from a mask alone: turned copies of it get poses that make them equal again.

    Axes are sorted by length, voxel size and by how the voxels are spread along them, and point to where there are
    fewer. Where that leaves a choice, the first of the turned masks in the order of their bytes is taken.

    Args:
        mask: ``(X, Y, Z)``, cut to its voxels.
        spacing: its voxel size in mm.

    Returns:
        One, but of a mask that is its own mirror image all that turn it into the same: F is no symmetric function, and
        only all of them together give such a mask a symmetric answer.
    """
    spreads = [mask.sum(tuple(other for other in range(3) if other != axis)).tolist() for axis in range(3)]
    keys = [(len(spread), rounded(s), max(spread, spread[::-1])) for spread, s in zip(spreads, spacing, strict=True)]
    choices = list(_poses(keys, [_reversals(spread) for spread in spreads]))
    if len(choices) == 1:
        return choices
    bytes_of = {pose: np.packbits(pose.turn(mask)).tobytes() for pose in choices}
    return [pose for pose in choices if bytes_of[pose] == min(bytes_of.values())]


def _reversals(spread: list[int]) -> tuple[bool, ...]:
    """Whether an axis is reversed so that the larger numbers come first; both where it makes no difference."""
    back = spread[::-1]
    return (False, True) if spread == back else (back > spread,)


def _poses(keys: list[tuple[Any, ...]], reversals: list[tuple[bool, ...]]) -> Iterator[Pose]:
    """Poses that sort the axes by their keys."""
    best = sorted(keys)
    for order in itertools.permutations(range(3)):
        if [keys[axis] for axis in order] == best:
            for flips in itertools.product(*(reversals[axis] for axis in order)):
                (a, b, c), (x, y, z) = order, flips
                yield Pose((a, b, c), (x, y, z))
