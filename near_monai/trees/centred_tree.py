"""The vessels of a component as lines below a voxel, with their radii and forks, and cut into branches at these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from near_monai.geometry.coordinates import FloatArray
from near_monai.trees.cross_sections import STEP_MM, Wall, arc_of, centred, resampled, sections
from near_monai.trees.radius_noise import without_noise
from near_monai.trees.vessel_paths import Lumen
from near_monai.trees.vessels import Vessel

#: A branch is outside its parent from so many of the parent's radii on ...
OUTSIDE = 1.0
#: ... plus so many of its own: its sections hold nothing of the parent's lumen then.
CLEAR = 0.5
#: mm of a branch that tell from where it comes.
ARRIVING_MM = 3.0
#: A path is followed to its last voxel that is at least so deep, as a share of what is usual within so many of its
#: largest depths of the end.
DEEP, END_DEPTHS = 0.8, 2.5
#: Points before an end whose radii say how wide the vessel is there.
END_POINTS = 6
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
            line = _root_line(lumen.mm[vessel.path], lumen.depth[vessel.path], wall, reach)
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


def _root_line(path: FloatArray, depth: FloatArray, wall: Wall, reach: float) -> Line | None:
    start, stop = len(path) - _deep_part(path[::-1], depth[::-1]), _deep_part(path, depth)
    if stop - start < 2:
        return None
    points = centred(wall, path[start:stop], reach)
    points = _ended(_ended(points, wall, reach)[::-1], wall, reach)[::-1]
    return Line(points, _radii(wall, points, reach)) if len(points) >= 2 else None


def _branch_line(parent: Line, vessel: Vessel, lumen: Lumen, wall: Wall, reach: float) -> Line | None:
    path, depth = lumen.mm[vessel.path], lumen.depth[vessel.path]
    apart, nearest = cKDTree(parent.points).query(path)
    outside = apart >= OUTSIDE * parent.radius[nearest] + CLEAR * float(np.median(depth))
    start = int(np.argmax(outside)) if outside.any() else len(path)
    stop = _deep_part(path, depth)
    if stop - start < 2:
        return None
    points = _ended(centred(wall, path[start:stop], reach), wall, reach)
    if len(points) < 2:
        return None
    radius = _radii(wall, points, reach)
    at = _fork(parent, points)
    joined = resampled(np.concatenate([parent.points[at : at + 1], points[:1]]))[:-1]
    radius = np.concatenate([np.full(len(joined), radius[0]), radius])
    return Line(np.concatenate([joined, points]), radius, parent, at)


def _radii(wall: Wall, points: FloatArray, reach: float) -> FloatArray:
    return without_noise(sections(wall, points, reach).radius, STEP_MM)


def _deep_part(path: FloatArray, depth: FloatArray) -> int:
    """How many voxels of ``path`` to keep: its last ones run into a corner of the end, whatever way the vessel goes."""
    left = arc_of(path[::-1])[::-1]
    usual = float(np.median(depth[left <= END_DEPTHS * float(depth.max())]))
    return int(np.flatnonzero(depth >= DEEP * usual)[-1]) + 1


def _ended(points: FloatArray, wall: Wall, reach: float) -> FloatArray:
    """``points`` cut, or prolonged straight on, to where a ball as wide as the vessel touches its end."""
    radius = float(np.median(sections(wall, points, reach).radius[-END_POINTS:]))
    arc = arc_of(points)
    before = points[int(np.searchsorted(arc, max(arc[-1] - max(ARRIVING_MM, radius), 0.0)))]
    way = points[-1] - (before if (before != points[-1]).any() else points[0])
    way = way / max(float(np.linalg.norm(way)), 1e-9)
    more = min(float(wall.rays(points[-1:], way[None, None], reach)[0, 0]) - radius, radius)
    if more <= 0:
        return points[arc <= arc[-1] + more]
    steps = np.arange(STEP_MM, more, STEP_MM)[:, None]
    return np.concatenate([points, points[-1] + steps * way])


def _fork(parent: Line, points: FloatArray) -> int:
    """The point of ``parent`` from which a branch comes whose first ``points`` outside of it are known."""
    arc = arc_of(points)
    ahead = points[min(int(np.searchsorted(arc, ARRIVING_MM)), len(points) - 1)]
    back = (points[0] - ahead) / max(float(np.linalg.norm(points[0] - ahead)), 1e-9)
    apart = np.linalg.norm(parent.points - points[0], axis=1)
    near = np.flatnonzero(apart <= 2 * apart.min())
    way = parent.points[near] - points[0]
    along = np.maximum(way @ back, 0.0)
    return int(near[np.linalg.norm(way - along[:, None] * back, axis=1).argmin()])
