"""Cross-sections of a vessel along its centreline: where their middles are, and how wide they are, below a voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.signal import savgol_filter

from near_monai.geometry.coordinates import FloatArray, Grid

#: mm between the points of a centreline.
STEP_MM = 0.5
#: Rays from a point to the wall, around the axis.
RAYS = 24
#: A ray that is longer than so many times the median of its section has left through a fork.
LONGEST = 1.3
#: Points over which a centreline is smoothed, by a polynomial that leaves bends as they are (Savitzky and Golay, 1964).
WINDOW, ORDER = 9, 3
#: Times that points are moved to the middle of their sections.
ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Wall:
    """The wall of vessels.

    Attributes:
        smooth: ``(X, Y, Z)`` signed distance to it in mm, negative inside.
        grid: its grid; points are in its mm frame.
    """

    smooth: NDArray[np.float32]
    grid: Grid

    def depth(self, points: FloatArray) -> FloatArray:
        """How deep ``points (..., 3)`` lie inside, in mm; below 0 outside."""
        voxels = np.moveaxis(self.grid.to_voxel(points), -1, 0)
        return -map_coordinates(self.smooth, voxels, order=1, mode="nearest").astype(np.float64)

    def rays(self, points: FloatArray, directions: FloatArray, reach: float) -> FloatArray:
        """``(N, R)`` mm from ``points (N, 3)`` along ``directions (N, R, 3)`` to the wall, at most ``reach``."""
        steps = np.arange(0, reach + min(self.grid.spacing), min(self.grid.spacing) / 2)
        along = points[:, None, None] + directions[:, :, None] * steps[:, None]
        outside = self.depth(along) <= 0
        outside[..., -1] = True
        last = np.maximum(outside.argmax(-1), 1)
        at = points[:, None] + directions * steps[last - 1][..., None]
        to = points[:, None] + directions * steps[last][..., None]
        inner, outer = self.depth(at), self.depth(to)
        share = np.clip(inner / np.maximum(inner - outer, 1e-9), 0, 1)
        return steps[last - 1] + share * (steps[last] - steps[last - 1])


@dataclass(frozen=True, eq=False)
class Sections:
    """Cross-sections at ``(N,)`` points.

    Attributes:
        middle: ``(N, 3)`` centres of area.
        radius: ``(N,)`` of the circle of the same area, mm.
    """

    middle: FloatArray
    radius: FloatArray


def sections(wall: Wall, points: FloatArray, reach: float) -> Sections:
    """Cross-sections through ``points (N, 3)``, across the line that they make; rays are ``reach`` mm long at most."""
    across = _across(points)
    angle = np.arange(RAYS) * (2 * np.pi / RAYS)
    directions = np.cos(angle)[:, None] * across[0][:, None] + np.sin(angle)[:, None] * across[1][:, None]
    found = wall.rays(points, directions, reach)
    found = np.minimum(found, LONGEST * np.median(found, axis=1, keepdims=True))
    square = np.maximum((found**2).mean(1), 1e-9)
    shift = 2 / 3 * (found**3)[..., None] * directions
    return Sections(points + shift.mean(1) / square[:, None], np.sqrt(square))


def _across(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Two unit vectors ``(N, 3)`` at right angles to the line through ``points`` and to each other."""
    along = np.gradient(points, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    least = np.eye(3)[np.abs(along).argmin(1)]
    first = np.cross(along, least)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return first, np.cross(along, first)


def centred(wall: Wall, points: FloatArray, reach: float) -> FloatArray:
    """The line through ``points (N, 3)`` moved to the middles of its sections, in equal steps; its ends stay ends."""
    line = smoothed(resampled(points))
    for _ in range(ROUNDS):
        found = sections(wall, line, reach)
        limit = 0.5 * found.radius[:, None]
        shift = found.middle - line
        shift *= np.minimum(limit / np.maximum(np.linalg.norm(shift, axis=1, keepdims=True), 1e-9), 1)
        moved = smoothed(line + shift)
        line = resampled(np.where((wall.depth(moved) > 0)[:, None], moved, line))
    return line


def resampled(points: FloatArray) -> FloatArray:
    """Points ``(M, 3)``, at least two, along the line through ``points``, :data:`STEP_MM` apart or a little less."""
    arc = arc_of(points)
    at = np.linspace(0, arc[-1], max(int(np.ceil(arc[-1] / STEP_MM)) + 1, 2))
    return np.stack([np.interp(at, arc, column) for column in points.T], 1)


def arc_of(points: FloatArray) -> FloatArray:
    """``(N,)`` mm along the line through ``points (N, 3)``, from the first on."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])


def smoothed(points: FloatArray) -> FloatArray:
    """``points (N, 3)`` without the steps of voxels."""
    window = min(WINDOW, len(points) - 1 + len(points) % 2)
    if window <= ORDER:
        return points
    return np.asarray(savgol_filter(points, window, ORDER, axis=0, mode="interp"))
