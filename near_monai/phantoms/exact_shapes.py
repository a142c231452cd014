"""Phantoms: shapes given by formulas, whose signed distance is known at any resolution.

A shape is anything that can tell its signed distance on a grid and its bounding box (:class:`Shape`); a
:class:`Phantom` is a list of named shapes, each with the class index it has in a label map. Vessels are unions of
round cones (:class:`RoundCones`): short tubes with round ends whose radius changes linearly along the axis.

Signed distance is in mm, negative inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from near_monai.errors import NearError
from near_monai.geometry.coordinates import FloatArray, Grid

IntArray = NDArray[np.integer]


class Shape(Protocol):
    """What a phantom needs to know about a shape."""

    def signed_distance(self, grid: Grid, truncate: float) -> FloatArray:
        """Signed distance in mm at the voxel centres of ``grid``, float32 ``(X, Y, Z)``, clipped to +-``truncate``."""
        ...

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest mm corner of the bounding box, ``(3,)`` each."""
        ...


@dataclass(frozen=True)
class RoundCones:
    """Union of S round cones; a round cone is the convex hull of two balls.

    The sign and the distance outside are exact. Inside a single round cone the depth is exact too; where several
    overlap it is a lower bound, because the true surface may be farther than that of any one of them.

    Attributes:
        start: centres of the first balls, ``(S, 3)`` mm.
        end: centres of the second balls, ``(S, 3)`` mm.
        r0: radii of the first balls, ``(S,)`` mm.
        r1: radii of the second balls, ``(S,)`` mm.
        branch: branch each cone belongs to, ``(S,)``; the cones of a branch are consecutive, from root to tip.
        side: 0 left coronary tree, 1 right coronary tree, ``(S,)``.

    Raises:
        NearError: there is no cone, the lengths differ, or a radius is not positive.
    """

    start: FloatArray
    end: FloatArray
    r0: FloatArray
    r1: FloatArray
    branch: IntArray
    side: IntArray

    def __post_init__(self) -> None:
        shapes = [np.shape(x) for x in (self.start, self.end, self.r0, self.r1, self.branch, self.side)]
        n = len(self.r0)
        if n == 0 or shapes != [(n, 3)] * 2 + [(n,)] * 4:
            raise NearError(f"RoundCones: expected (S, 3), (S, 3) and four (S,) with S >= 1, got {shapes}")
        if min(np.min(self.r0), np.min(self.r1)) <= 0:
            raise NearError("RoundCones: every radius must be positive (mm); drop the cones that have none")

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest mm corner of the bounding box, ``(3,)`` each."""
        low, high = self._boxes(0.0)
        return low.min(0), high.max(0)

    def signed_distance(self, grid: Grid, truncate: float) -> FloatArray:
        """Signed distance in mm at the voxel centres of ``grid``.

        Each cone is evaluated only inside its own bounding box grown by ``truncate``: beyond it the distance to that
        cone is larger than ``truncate`` anyway.

        Args:
            grid: where to evaluate; it may cut through the shape or miss it.
            truncate: largest distance of interest in mm, > 0.

        Returns:
            float32 ``(X, Y, Z)``, clipped to +-``truncate``.

        Raises:
            NearError: ``truncate`` is not positive.
        """
        if not truncate > 0:
            raise NearError(f"signed_distance: truncate must be positive (mm), got {truncate}")
        result = np.full(grid.shape, truncate, np.float32)
        axes = grid.axes_mm()
        low, high = self._boxes(truncate)
        first = np.maximum(np.ceil(grid.to_voxel(low)).astype(int), 0)
        stop = np.minimum(np.floor(grid.to_voxel(high)).astype(int) + 1, grid.shape)
        unit, length = self._axes()
        for n in np.flatnonzero((first < stop).all(1)):
            box = tuple(slice(a, b) for a, b in zip(first[n], stop[n], strict=True))
            x, y, z = np.ix_(*(axis[part] - c for axis, part, c in zip(axes, box, self.start[n], strict=True)))
            along = x * unit[n, 0] + y * unit[n, 1] + z * unit[n, 2]
            found = _cone_distance(along, x**2 + y**2 + z**2, length[n], self.r0[n], self.r1[n])
            np.minimum(result[box], found, out=result[box], casting="same_kind")
        return np.maximum(result, np.float32(-truncate), out=result)

    def _axes(self) -> tuple[FloatArray, FloatArray]:
        """Unit axes ``(S, 3)`` (zero where both balls share their centre) and lengths ``(S,)`` mm."""
        length = np.linalg.norm(self.end - self.start, axis=1)
        return (self.end - self.start) / np.maximum(length, 1e-12)[:, None], length

    def _boxes(self, margin: float) -> tuple[FloatArray, FloatArray]:
        """Corners of the bounding box of every cone grown by ``margin`` mm, ``(S, 3)`` each."""
        r0, r1 = self.r0[:, None] + margin, self.r1[:, None] + margin
        return np.minimum(self.start - r0, self.end - r1), np.maximum(self.start + r0, self.end + r1)


def _cone_distance(
    along: FloatArray, square: FloatArray, length: ArrayLike, r0: ArrayLike, r1: ArrayLike
) -> FloatArray:
    """Signed distance to round cones, in the frame of each cone.

    A round cone is the union of the balls around a + t (b - a) with radius r0 + t (r1 - r0), t in [0, 1], so the
    distance is the minimum over t of sqrt((along - t L)^2 + q^2) - r0 + t (r0 - r1): convex in t, with its minimum
    where (along - t L) / q = tan(alpha), sin(alpha) = (r0 - r1) / L. If |r0 - r1| >= L one ball holds the other and
    the minimum is at an end.

    Args:
        along: coordinate of the point along the axis, 0 at the first ball, mm.
        square: squared distance to the centre of the first ball, mm^2.
        length: distance L between the two centres, mm.
        r0: radius of the first ball, mm.
        r1: radius of the second ball, mm.

    Returns:
        Signed distance in mm, in the shape that the arguments broadcast to.
    """
    length, drop = np.maximum(length, 1e-12), np.subtract(r0, r1)
    sine = drop / length
    nested = np.abs(sine) >= 1
    tangent = np.where(nested, 0.0, sine / np.sqrt(np.where(nested, 1.0, 1 - sine**2)))
    across = np.sqrt(np.maximum(square - along**2, 0.0))
    t = np.where(nested, sine < 0, np.clip((along - across * tangent) / length, 0, 1))
    distance: FloatArray = np.hypot(along - t * length, across) - r0 + t * drop
    return distance


@dataclass(frozen=True)
class NamedShape:
    """One shape of a phantom, with its name and its class index in a label map."""

    name: str
    label: int
    shape: Shape


@dataclass(frozen=True)
class Phantom:
    """Named shapes in one mm frame.

    Raises:
        NearError: there is no part.
    """

    parts: tuple[NamedShape, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise NearError("Phantom: expected at least one part, got none")

    def signed_distance(self, grid: Grid, truncate: float, label: int) -> FloatArray:
        """Signed distance to the union of the parts of class ``label``: float32 ``(X, Y, Z)`` mm, +-``truncate``.

        Raises:
            NearError: no part has this label.
        """
        shapes = [part.shape for part in self.parts if part.label == label]
        if not shapes:
            raise NearError(f"Phantom: no part has label {label}; it has {sorted({p.label for p in self.parts})}")
        result = shapes[0].signed_distance(grid, truncate)
        for shape in shapes[1:]:
            np.minimum(result, shape.signed_distance(grid, truncate), out=result)
        return result

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest mm corner of the bounding box of all parts, ``(3,)`` each."""
        low, high = zip(*(part.shape.bounds() for part in self.parts), strict=True)
        return np.min(low, axis=0), np.max(high, axis=0)

    def grid(self, spacing: tuple[float, float, float], margin: float) -> Grid:
        """The smallest grid of ``spacing`` mm whose voxel centres cover the bounding box plus ``margin`` mm."""
        low, high = self.bounds()
        i, j, k = (int(n) for n in np.ceil((high - low + 2 * margin) / spacing) + 1)
        x, y, z = (float(c) for c in low - margin)
        return Grid((i, j, k), spacing, (x, y, z))
