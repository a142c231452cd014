"""The vessels of a component as lines below a voxel, with their radii and forks, and cut into branches at these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from near_monai.geometry.coordinates import FloatArray
from near_monai.trees.cross_sections import RADII_MM, STEP_MM, Wall, arc_of, centred, resampled, sections
from near_monai.trees.vessel_paths import Lumen
from near_monai.trees.vessels import Vessel

#: A branch is outside its parent from so many of the parent's radii on ...
OUTSIDE = 1.0
#: ... plus so many of its own: its sections hold nothing of the parent's lumen then.
CLEAR = 0.5
#: mm of a branch that tell from where it comes.
ARRIVING_MM = 3.0
#: Rays are at most so many times as long as the vessel is deep, plus so many mm.
REACH_DEPTHS, REACH_MM = 3.0, 2.0


@dataclass(eq=False)
class Line:
    """A vessel as a line.

    Attributes:
        points: ``(N, 3)`` mm in the frame of the grid, from the root on.
        radius: ``(N,)`` mm.
        parent: the line that it leaves.
        at: the point of ``parent`` where it does, which is its own first one.
    """

    points: FloatArray
    radius: FloatArray
    parent: Line | None = None
    at: int = 0


@dataclass(frozen=True, eq=False)
class Piece:
    """A branch: what lies between two forks, or a fork and an end.

    Attributes:
        points: ``(N, 3)`` mm in the frame of the grid.
        radius: ``(N,)`` mm.
        parent: number of the branch before it; ``None`` at the root.
        straight_on: whether it goes on its parent's vessel.
    """

    points: FloatArray
    radius: FloatArray
    parent: int | None
    straight_on: bool


def lines_of(vessels: Sequence[Vessel], lumen: Lumen, wall: Wall) -> list[Line]:
    """Lines of ``vessels``, each after its parent; what ends within its parent, or is shorter than wide, is none."""
    lines: dict[int, Line] = {}
    for vessel in vessels:
        reach = REACH_DEPTHS * float(lumen.depth[vessel.path].max()) + REACH_MM
        if vessel.parent is None:
            line = _root_line(lumen.mm[vessel.path], wall, reach)
        elif id(vessel.parent) in lines:
            line = _branch_line(lines[id(vessel.parent)], vessel, lumen, wall, reach)
        else:
            line = None
        if line is not None:
            lines[id(vessel)] = line
    return list(lines.values())


def pieces_of(lines: Sequence[Line]) -> list[Piece]:
    """``lines`` cut at their forks; each branch after its parent."""
    pieces: list[Piece] = []
    ends: dict[tuple[int, int], int] = {}
    for line in lines:
        cuts = sorted({other.at for other in lines if other.parent is line} - {0, len(line.points) - 1})
        before = None if line.parent is None else ends.get((id(line.parent), line.at))
        straight_on = False
        for start, stop in zip([0, *cuts], [*cuts, len(line.points) - 1], strict=True):
            part = slice(start, stop + 1)
            pieces.append(Piece(line.points[part], line.radius[part], before, straight_on))
            before, straight_on = len(pieces) - 1, True
            ends[(id(line), stop)] = before
    return pieces


def _root_line(path: FloatArray, wall: Wall, reach: float) -> Line | None:
    points = centred(wall, path, reach)
    radius = _radii(wall, points, reach)
    first, stop = _trim(points[::-1], radius[::-1]), _trim(points, radius)
    start = len(points) - first
    return Line(points[start:stop], radius[start:stop]) if stop - start >= 2 else None


def _branch_line(parent: Line, vessel: Vessel, lumen: Lumen, wall: Wall, reach: float) -> Line | None:
    path = lumen.mm[vessel.path]
    apart, nearest = cKDTree(parent.points).query(path)
    own = float(np.median(lumen.depth[vessel.path]))
    within = np.flatnonzero(apart < OUTSIDE * parent.radius[nearest] + CLEAR * own)
    start = int(within[-1]) + 1 if len(within) else 1
    if start >= len(path) - 1:
        return None
    points = centred(wall, path[start:], reach)
    radius = _radii(wall, points, reach)
    stop = _trim(points, radius)
    if stop < 2:
        return None
    points, radius = points[:stop], radius[:stop]
    at = _fork(parent, points, float(radius[0]))
    joined = resampled(np.concatenate([parent.points[at : at + 1], points[:1]]))[:-1]
    radius = np.concatenate([np.full(len(joined), radius[0]), radius])
    return Line(np.concatenate([joined, points]), radius, parent, at)


def _radii(wall: Wall, points: FloatArray, reach: float) -> FloatArray:
    return np.asarray(gaussian_filter1d(sections(wall, points, reach).radius, RADII_MM / STEP_MM, mode="nearest"))


def _trim(points: FloatArray, radius: FloatArray) -> int:
    """How many of ``points`` to keep: a line ends where a ball as wide as the vessel touches its end."""
    left = arc_of(points[::-1])[::-1]
    ball = np.array([np.median(radius[(left >= here) & (left <= here + 3.0)]) for here in left])
    return int(np.count_nonzero(left >= ball))


def _fork(parent: Line, points: FloatArray, radius: float) -> int:
    """The point of ``parent`` from which a branch comes whose first ``points`` outside of it are known."""
    arc = arc_of(points)
    ahead = points[min(int(np.searchsorted(arc, ARRIVING_MM)), len(points) - 1)]
    back = (points[0] - ahead) / max(float(np.linalg.norm(points[0] - ahead)), 1e-9)
    apart = np.linalg.norm(parent.points - points[0], axis=1)
    near = np.flatnonzero(apart <= 2 * apart.min())
    way = parent.points[near] - points[0]
    along = np.maximum(way @ back, 0.0)
    return int(near[np.linalg.norm(way - along[:, None] * back, axis=1).argmin()])
