"""The course of a missing stretch of vessel: a curve that leaves both ends in their directions, and a tube along it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from near_monai.geometry.boxes import Box
from near_monai.geometry.centrelines import tube_around
from near_monai.geometry.coordinates import FloatArray, Grid

#: Points of a curve.
STEPS = 33


@dataclass(frozen=True, eq=False)
class Course:
    """A curve in mm.

    Attributes:
        points: ``(N, 3)`` from end to end.
        length_mm: its length.
    """

    points: FloatArray

    @classmethod
    def between(cls, start: FloatArray, stop: FloatArray, leaving: FloatArray, arriving: FloatArray) -> Course:
        """The cubic Hermite curve from ``start`` to ``stop``.

        Args:
            start: ``(3,)`` mm.
            stop: ``(3,)`` mm.
            leaving: ``(3,)`` unit direction at ``start``; zeros where none is known.
            arriving: ``(3,)`` unit direction at ``stop``, likewise.
        """
        way = stop - start
        reach = float(np.linalg.norm(way))
        first, last = (reach * d if d.any() else way for d in (leaving, arriving))
        t = np.linspace(0, 1, STEPS)[:, None]
        points = start + t**2 * (3 - 2 * t) * way + t * (1 - t) ** 2 * first - t**2 * (1 - t) * last
        return cls(points)

    @property
    def length_mm(self) -> float:
        """Length along the curve."""
        return float(np.linalg.norm(np.diff(self.points, axis=0), axis=1).sum())

    def fine(self, step: float) -> FloatArray:
        """Points ``(M, 3)`` along the curve, no further apart than ``step`` mm."""
        arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(self.points, axis=0), axis=1))])
        at = np.linspace(0, arc[-1], int(np.ceil(arc[-1] / step)) + 2)
        return np.stack([np.interp(at, arc, column) for column in self.points.T], 1)

    def voxels(self, grid: Grid) -> NDArray[np.intp]:
        """The voxels ``(M, 3)`` of ``grid`` that the curve passes, each once, in any order."""
        voxels = np.round(grid.to_voxel(self.fine(min(grid.spacing) / 2))).astype(np.intp)
        return np.unique(np.clip(voxels, 0, np.subtract(grid.shape, 1)), axis=0)

    def tube(self, radii: tuple[float, float], grid: Grid) -> tuple[Box, NDArray[np.bool_]]:
        """A tube along the curve, whose radius goes from the first of ``radii`` to the second, in mm.

        The voxels of the axis belong to it whatever their size, or it would break where slices are thicker than the
        vessel.

        Returns:
            Where it lies, and the tube there.
        """
        path = self.fine(min(grid.spacing) / 2)
        there, tube = tube_around(path, np.linspace(*radii, len(path)), grid)
        tube[tuple((self.voxels(grid) - there.start).T)] = True
        return there, tube
