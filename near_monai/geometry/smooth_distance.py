"""A smooth signed distance of a mask: without staircase, and with as much volume as the mask has, place by place."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from near_monai.errors import NearError
from near_monai.geometry.boxes import voxels_of
from near_monai.geometry.distance import signed_distance

#: Standard deviation, in voxels, of the Gaussian that takes the staircase out of the distance.
SMOOTH = 1.0
#: Standard deviation, in voxels, of the places in which the volume is kept.
PLACE = 2.0
#: Steps by which the wall is moved until it is. Tubes of 0.6 to 2.2 mm radius, on voxels of 0.5 mm, are right within
#: 1.5 % then, and their walls within a tenth of a voxel (tests/geometry/test_smooth_distance.py).
CORRECTIONS = 4
#: Voxels beyond a mask within which its smooth distance is told.
REACH = 3
#: Less wall than this in a place, as a share of that of a plane through it, is none to correct.
LEAST_WALL = 0.02
#: Middles of the eight parts of a voxel.
EIGHTHS = np.array(list(itertools.product((-0.25, 0.25), repeat=3)))


def smooth_distance(mask: ArrayLike, spacing: ArrayLike, reach: float = 0.0) -> NDArray[np.float32]:
    """Signed distance in mm whose zero set is smooth and encloses, in every place, the volume of the mask's voxels.

    A Gaussian alone makes thin vessels thinner: it moves a wall by its variance times the curvature. Here the volume
    that a place of :data:`PLACE` voxels lacks, over the area of the wall in it, moves the wall back. The volume is that
    of the linear interpolation, so that whoever looks between voxels finds the same wall as marching cubes.

    Args:
        mask: ``(X, Y, Z)``; at least :data:`REACH` voxels of background on every side, or the wall ends there.
        spacing: ``(3,)`` voxel size in mm.
        reach: mm up to which the distance is told; it is told within :data:`REACH` voxels in any case.

    Returns:
        ``(X, Y, Z)`` float32, negative inside.

    Raises:
        NearError: the mask is empty.
    """
    inside = np.asarray(mask) != 0
    if not inside.any():
        raise NearError("the mask is empty; expected at least one voxel")
    step = np.asarray(spacing, np.float64)
    wide = float(step.mean())
    distance = signed_distance(inside, step, max(REACH * float(step.max()), reach))
    smooth = gaussian_filter(distance, SMOOTH, truncate=3.0)
    for _ in range(CORRECTIONS):
        wall = _in_place((np.abs(smooth) < wide / 2) / np.float32(wide))
        lacking = _in_place(inside - _shares(smooth, wide))
        smooth -= np.clip(lacking / np.maximum(wall, LEAST_WALL / (PLACE * wide)), -wide / 2, wide / 2)
    return np.asarray(smooth)


def _in_place(amount: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much there is in the place around every voxel."""
    return np.asarray(gaussian_filter(amount, PLACE, truncate=2.0))


def _shares(smooth: NDArray[np.float32], wide: float) -> NDArray[np.float32]:
    """The share of every voxel that lies inside: that of its eighths, where the wall is near."""
    share = (smooth < 0).astype(np.float32)
    near = voxels_of(np.abs(smooth) < 1.2 * wide)  # half a voxel's diagonal, and some
    found = np.zeros(len(near), np.float32)
    for part in EIGHTHS:
        there = map_coordinates(smooth, (near + part).T, order=1, mode="nearest")
        found += np.clip(0.5 - there / (wide / 2), 0, 1) / len(EIGHTHS)
    share[tuple(near.T)] = found
    return share
