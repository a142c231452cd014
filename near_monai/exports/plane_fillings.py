"""Loops in a plane filled with even triangles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay, cKDTree
from skimage.measure import points_in_poly

from near_monai.exports.surface_files import sides_of
from near_monai.geometry.coordinates import FloatArray

#: Points inside are as far from each other as the points of the loops, and from these at least so much of it.
CLEAR = 0.7


def filled(loops: Sequence[FloatArray]) -> tuple[FloatArray, NDArray[np.intp]] | None:
    """Triangles between loops: Delaunay's, with points added inside.

    Args:
        loops: ``(N, 2)`` points each, anticlockwise around what is filled, clockwise around holes in it.

    Returns:
        Points ``(K, 2)`` that were added; and triangles ``(M, 3)``, anticlockwise, of numbers in the points of all
        loops with these behind them. ``None`` where loops cross, or lie nearer to each other than their points.
    """
    border = np.concatenate(loops)
    stops = np.cumsum([len(loop) for loop in loops])
    after = np.arange(1, len(border) + 1)
    after[stops - 1] = stops - [len(loop) for loop in loops]
    step = float(np.linalg.norm(border[after] - border, axis=1).mean())
    added = _lattice(border, step)
    added = added[_inside(added, loops) & (cKDTree(border).query(added)[0] >= CLEAR * step)]
    points = np.concatenate([border, added])
    triangles = Delaunay(points).simplices
    triangles = triangles[_inside(points[triangles].mean(1), loops)]
    sides = sides_of(triangles)
    directed = set(map(tuple, sides.tolist()))
    open_sides = {(a, b) for a, b in directed if (b, a) not in directed}
    wanted = set(enumerate(after.tolist()))
    return (added, triangles.astype(np.intp)) if open_sides == wanted else None


def _lattice(border: FloatArray, step: float) -> FloatArray:
    """Points ``(K, 2)``, ``step`` apart in equal triangles, over the box of ``border``."""
    low, high = border.min(0), border.max(0)
    rows = np.arange(low[1], high[1], step * np.sqrt(3) / 2)
    columns = np.arange(low[0] - step, high[0], step)
    x, y = np.meshgrid(columns, rows)
    x[1::2] += step / 2
    return np.stack([x.ravel(), y.ravel()], 1)


def _inside(points: FloatArray, loops: Sequence[FloatArray]) -> NDArray[np.bool_]:
    """Which ``points (N, 2)`` lie within an odd number of ``loops``."""
    inside = np.zeros(len(points), bool)
    for loop in loops:
        inside ^= points_in_poly(points, loop)
    return inside
