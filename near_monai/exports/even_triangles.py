"""The zero set of a distance between voxels in even triangles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, spline_filter
from scipy.sparse import coo_array, csr_array, diags_array
from skimage.measure import marching_cubes, mesh_surface_area

from near_monai.exports.surface_files import sides_of, volume_of
from near_monai.geometry.coordinates import FloatArray

#: Times that vertices move towards the middle of their neighbours, and back to the zero set: triangles become even.
ROUNDS = 6
#: Times that the level of neighbours is averaged: over some voxels, so that it has no staircase of its own.
LEVEL_ROUNDS = 12
#: Largest step to the zero set, in voxels.
STEP = 0.25
#: Steps by which the level is moved until the surface encloses the volume that is wanted.
VOLUME_ROUNDS = 2
#: How much of a triangle's mean depth below the zero set is that of its middle; its corners lie on it.
MIDDLE = 0.75


@dataclass(frozen=True, eq=False)
class Field:
    """A signed distance between the voxels, by cubic splines.

    Attributes:
        spline: ``(X, Y, Z)`` coefficients.
        spacing: ``(3,)`` voxel size in mm.
    """

    spline: NDArray[np.float32]
    spacing: FloatArray

    def at(self, points: FloatArray) -> FloatArray:
        """``(N,)`` mm at ``points (N, 3)`` in mm from voxel 0."""
        voxels = (points / self.spacing).T
        return np.asarray(map_coordinates(self.spline, voxels, order=3, prefilter=False, mode="nearest"), np.float64)

    def gradient(self, points: FloatArray) -> FloatArray:
        """``(N, 3)`` mm per mm at ``points (N, 3)``."""
        steps = np.diag(self.spacing / 4)
        return np.stack([(self.at(points + d) - self.at(points - d)) / (2 * d.sum()) for d in steps], 1)

    def projected(self, points: FloatArray, level: FloatArray | float = 0.0) -> FloatArray:
        """``points (N, 3)`` moved along the gradient to where the field has its ``level``."""
        slope = self.gradient(points)
        square = np.maximum((slope**2).sum(1), 0.05)
        limit = STEP * float(self.spacing.min())
        for _ in range(2):
            off = (self.at(points) - level) / square
            move = off[:, None] * slope
            length = np.linalg.norm(move, axis=1, keepdims=True)
            points = points - move * np.minimum(1, limit / np.maximum(length, 1e-12))
        return points


def even_triangles(
    smooth: NDArray[np.float32], spacing: FloatArray, triangle: float | None = None, volume: float | None = None
) -> tuple[FloatArray, NDArray[np.int32]]:
    """The zero set of ``smooth`` ``(X, Y, Z)`` in mm from voxel 0, of a ``volume`` in mm^3 if one is given.

    Returns:
        Vertices, and faces anticlockwise as seen from outside.
    """
    vertices, faces, _, _ = marching_cubes(smooth, 0.0, spacing=tuple(spacing))
    points = vertices.astype(np.float64)
    field = Field(spline_filter(smooth, order=3, output=np.float32, mode="nearest"), spacing)
    mean = _neighbours(faces, len(points))
    level = _level(smooth, points, faces, field)
    for _ in range(LEVEL_ROUNDS):
        level = mean @ level
    for _ in range(ROUNDS):
        points = field.projected(0.5 * points + 0.5 * (mean @ points), level)
    while triangle is not None and _edge(points, faces) > triangle:
        points, level, faces = _finer(points, level, faces)
        points = field.projected(points, level)
    level = level + _below(points, level, faces, field)
    points = field.projected(points, level)
    for _ in range(VOLUME_ROUNDS if volume is not None else 0):
        missing = float(volume or 0) - volume_of(points, faces)
        level = level + missing / mesh_surface_area(points, faces)
        points = field.projected(points, level)
    return points, faces


def _level(smooth: NDArray[np.float32], points: FloatArray, faces: NDArray[np.integer], field: Field) -> FloatArray:
    """What cubic splines say at every vertex of the zero set of linear interpolation, whose volume is that of the mask.

    It is asked in the middles of the triangles, moved to that set: the vertices lie on edges of voxels, further out.
    """
    middles = points[faces].mean(1)
    for _ in range(3):
        off = map_coordinates(smooth, (middles / field.spacing).T, order=1, mode="nearest")
        slope = field.gradient(middles)
        middles = middles - (off / np.maximum((slope**2).sum(1), 0.05))[:, None] * slope
    return _at_corners(field.at(middles), faces, len(points))


def _neighbours(faces: NDArray[np.integer], count: int) -> csr_array:
    """The matrix that gives every vertex the mean of its neighbours."""
    a, b, c = faces.T
    one, other = np.concatenate([a, b, c, b, c, a]), np.concatenate([b, c, a, a, b, c])
    graph = coo_array((np.ones(len(one)), (one, other)), (count, count)).tocsr()
    graph.data[:] = 1.0
    return csr_array(diags_array(1.0 / np.maximum(graph.sum(1), 1.0)) @ graph)


def _finer(
    points: FloatArray, level: FloatArray, faces: NDArray[np.integer]
) -> tuple[FloatArray, FloatArray, NDArray[np.int32]]:
    """Every triangle cut into four at the middles of its sides."""
    sides = np.sort(sides_of(faces), axis=1)
    edges, which = np.unique(sides, axis=0, return_inverse=True)
    ab, bc, ca = np.split(which.ravel() + len(points), 3)
    a, b, c = faces.T
    cut: Sequence[tuple[NDArray[np.integer], ...]] = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
    return (
        np.concatenate([points, points[edges].mean(1)]),
        np.concatenate([level, level[edges].mean(1)]),
        np.concatenate([np.stack(part, 1) for part in cut]).astype(np.int32),
    )


def _edge(points: FloatArray, faces: NDArray[np.integer]) -> float:
    """Mean length of the edges."""
    return float(np.linalg.norm(points[faces] - points[np.roll(faces, 1, axis=1)], axis=2).mean())


def _below(points: FloatArray, level: FloatArray, faces: NDArray[np.integer], field: Field) -> FloatArray:
    """By how many mm flat triangles lie below the zero set around every one of ``points``, on the mean."""
    return _at_corners(MIDDLE * (level[faces].mean(1) - field.at(points[faces].mean(1))), faces, len(points))


def _at_corners(values: FloatArray, faces: NDArray[np.integer], count: int) -> FloatArray:
    """Per vertex, of ``count``, the mean of the ``values`` ``(M,)`` of its ``faces``."""
    total = np.bincount(faces.ravel(), np.repeat(values, 3), minlength=count)
    return np.asarray(total / np.maximum(np.bincount(faces.ravel(), minlength=count), 1))
