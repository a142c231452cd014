"""Solid shapes of a whole-heart phantom: ellipsoids, bumpy and cut off by planes, and tubes through given points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from near_monai.geometry.coordinates import FloatArray, Grid
from near_monai.phantoms.exact_shapes import RoundCones
from near_monai.phantoms.vessel_courses import resample


@dataclass(frozen=True)
class Plane:
    """Half space: what lies behind the plane through ``point (3,)`` mm with outward normal ``normal (3,)``."""

    point: FloatArray
    normal: FloatArray


@dataclass(frozen=True)
class Ellipsoid:
    """Bumpy ellipsoid, cut off by planes.

    The sign is exact and the distance is right to first order near the surface.

    Attributes:
        centre: ``(3,)`` mm.
        axes: semi-axes, ``(3,)`` mm.
        pose: its axes are the columns of this orthogonal matrix, ``(3, 3)``.
        bumps: rows of (amplitude as a share of the radius, phase, wave vector (3,)), as for
            :class:`near_monai.phantoms.vessel_courses.Heart`.
        cuts: only what lies behind all of these planes belongs to the shape.
    """

    centre: FloatArray
    axes: FloatArray
    pose: FloatArray
    bumps: FloatArray = field(default_factory=lambda: np.zeros((0, 5)))
    cuts: tuple[Plane, ...] = ()

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest mm corner of a box around it, ``(3,)`` each; cuts are not looked at."""
        swollen = self.axes * (1 + np.abs(self.bumps[:, 0]).sum())
        reach = np.linalg.norm(self.pose * swollen, axis=1)
        return self.centre - reach, self.centre + reach

    def signed_distance(self, grid: Grid, truncate: float) -> FloatArray:
        """As of every shape; only the box around it, grown by ``truncate``, is evaluated."""
        result = np.full(grid.shape, truncate, np.float32)
        low, high = self.bounds()
        first = np.maximum(np.ceil(grid.to_voxel(low - truncate)).astype(int), 0)
        stop = np.minimum(np.floor(grid.to_voxel(high + truncate)).astype(int) + 1, grid.shape)
        if (first >= stop).any():
            return result
        box = tuple(slice(a, b) for a, b in zip(first, stop, strict=True))
        axes = [axis[part].astype(np.float32) for axis, part in zip(grid.axes_mm(), box, strict=True)]
        result[box] = np.clip(self._distance(axes), -truncate, truncate)
        return result

    def _distance(self, axes: list[FloatArray]) -> FloatArray:
        """Distance at the points of three ``axes``: the level set k - 1 over the length of its gradient."""
        offset = [axis - np.float32(c) for axis, c in zip(axes, self.centre, strict=True)]
        turned = [_along(offset, column) / np.float32(a) for column, a in zip(self.pose.T, self.axes, strict=True)]
        k = np.sqrt(sum(t * t for t in turned)) + np.float32(1e-6)
        slope = np.sqrt(sum((t / np.float32(a)) ** 2 for t, a in zip(turned, self.axes, strict=True)))
        radius = np.ones_like(k)
        for amplitude, phase, *wave in self.bumps.astype(np.float32):
            swing = sum(w * t for w, t in zip(wave, turned, strict=True))
            radius += amplitude * np.sin(swing / k + phase)
        distance: FloatArray = (k / radius - 1) * k / (slope + np.float32(1e-6))
        for plane in self.cuts:
            height = _along([axis - np.float32(p) for axis, p in zip(axes, plane.point, strict=True)], plane.normal)
            np.maximum(distance, height, out=distance)
        return distance


def _along(offset: list[FloatArray], direction: FloatArray) -> FloatArray:
    """Component of the points of three axes along ``direction (3,)``, float32 ``(X, Y, Z)``."""
    x, y, z = (axis * np.float32(d) for axis, d in zip(offset, direction, strict=True))
    total: FloatArray = x[:, None, None] + y[:, None] + z
    return total


def tube(points: Sequence[ArrayLike], radius: ArrayLike) -> RoundCones:
    """Round tube along a smooth curve through ``points (K, 3)`` mm with ``radius (K,)`` mm at them."""
    knots = np.array([np.asarray(point, np.float64) for point in points])
    line = resample(knots)
    chord = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    size = np.interp(np.linspace(0, chord[-1], len(line)), chord, np.asarray(radius, np.float64))
    # cones of 2 mm are fine enough for tubes this wide
    keep = np.unique(np.append(np.arange(0, len(line), 3), len(line) - 1))
    line, size = line[keep], size[keep]
    none = np.zeros(len(line) - 1, int)
    return RoundCones(line[:-1], line[1:], size[:-1], size[1:], none, none)
