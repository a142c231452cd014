"""The wall of a hollow vessel: what lies within a distance of its surface, outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from near_monai.exports.even_triangles import even_triangles
from near_monai.geometry.boxes import voxels_of
from near_monai.geometry.coordinates import FloatArray
from near_monai.geometry.distance import signed_distance

#: Voxels around the outside of a wall in which the distance is exact.
AROUND = 3
#: Standard deviation, in voxels, of the Gaussian that rounds creases where walls of neighbours meet, in which triangles
#: would fold.
CREASE = 0.7


def wall_around(
    points: FloatArray,
    faces: NDArray[np.int32],
    smooth: NDArray[np.float32],
    spacing: FloatArray,
    wall: float,
    triangle: float | None,
) -> tuple[FloatArray, NDArray[np.int32]]:
    """The outside of a wall that is nowhere thinner than ``wall`` mm, but for what triangles cut off, 0.03.

    Args:
        points: ``(N, 3)`` mm from voxel 0: the inside.
        faces: ``(M, 3)``.
        smooth: ``(X, Y, Z)`` whose zero set the inside is; as much background around it as the wall needs.
        spacing: ``(3,)`` mm.
        wall: mm.
        triangle: mean length of the edges in mm, at most.

    Returns:
        Vertices, and faces anticlockwise as seen from outside.
    """
    around = AROUND * float(spacing.max())
    distance = signed_distance(smooth < 0, spacing, wall + around)
    near = voxels_of(np.abs(distance - wall) < around)
    corners = np.concatenate([points, points[faces].mean(1)])
    inside = cKDTree(corners)
    distance[tuple(near.T)] = np.copysign(inside.query(near * spacing)[0], smooth[tuple(near.T)])
    rounded = gaussian_filter(distance, CREASE, truncate=3.0)
    outside, triangles = even_triangles(rounded - np.float32(wall), spacing, triangle)
    away, nearest = inside.query(outside)  # a Gaussian moves a bent wall inwards
    way = (outside - corners[nearest]) / np.maximum(away, 1e-9)[:, None]
    return outside + np.maximum(wall - away, 0.0)[:, None] * way, triangles
