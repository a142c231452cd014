"""Possible joints between the pieces of a label, and what is known of each from shape.

A joint leads from the end of a centreline to a point of another piece's, which may be an end, too (one vessel was
torn) or not (a branch was torn off). Whether it is made is decided elsewhere (:mod:`near_monai.repair.judge`).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from near_monai.geometry.centrelines import Centrelines
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import FloatArray, Grid
from near_monai.repair.courses import Course

#: Longest gap in mm, from wall to wall.
REACH_MM = 15.0
#: Cosine of the largest angle between an end and the way to what it may be joined to.
ALIGNED = -0.2
#: A point within so many mm of an end is that end.
AT_END_MM = 2.0
#: F below this is as good as nothing.
LEAST_F = 0.002
_AROUND = np.array(list(itertools.product((-1, 0, 1), repeat=3)))

#: What is known of a joint, in the order of :attr:`Joint.features`. "Own" is the piece whose end the joint leaves,
#: "other" the one it leads to; lengths in mm, of a structure of scale 1.
FEATURES = (
    "gap",
    "gap / calibre",
    "cosine own",
    "long axis own",
    "cosine other",
    "other is an end",
    "own has a direction",
    "own radius",
    "other radius",
    "log radii",
    "thick end own",
    "thick end other",
    "span own",
    "span other",
    "log volume own",
    "log volume other",
    "smaller share",
    "log F mean",
    "log F least",
    "F own",
    "F other",
    "beside",
    "bend",
    "rivals own",
    "rivals other",
    "shortest own",
    "shortest other",
    "thinner than the tree",
)


@dataclass(frozen=True, eq=False)
class Joint:
    """A possible joint.

    Attributes:
        pieces: the components that it joins, from 0: the one whose end it leaves, and the other.
        points: the centreline voxels where it begins and ends.
        course: the curve between them.
        radii: calibre at both, in mm.
        gap_mm: from wall to wall.
        features: what is known of it, see :data:`FEATURES`.
    """

    pieces: tuple[int, int]
    points: tuple[int, int]
    course: Course
    radii: tuple[float, float]
    gap_mm: float
    features: FloatArray


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of a label, as joints see them.

    Attributes:
        found: they.
        index: per voxel the number of its piece from 1, or 0.
        line: their centrelines.
        volume: mm^3 of each.
        likely: F's mean in each.
        axes: ``(P, 3)`` the longest principal axis of each, as long as it exceeds the next: 0 of a ball, 1 of a line.
        probability: F.
        grid: the grid of all.
    """

    found: Components
    index: NDArray[np.int32]
    line: Centrelines
    volume: FloatArray
    likely: FloatArray
    axes: FloatArray
    probability: NDArray[np.floating]
    grid: Grid

    @classmethod
    def of(cls, found: Components, probability: NDArray[np.floating], grid: Grid) -> Pieces:
        """The components ``found`` of a mask ``(X, Y, Z)``, given F there."""
        index = found.index()
        line = Centrelines.of(found, index, grid)
        likely = found.sums(probability) / np.maximum(found.sizes, 1)
        axes = np.array([_axis(grid.to_mm(part)) for part in found.parts]).reshape(-1, 3)
        return cls(found, index, line, found.sizes * grid.voxel_volume, likely, axes, probability, grid)

    @cached_property
    def ends(self) -> NDArray[np.intp]:
        """Centreline voxels where vessels end; one that touches the border of the volume goes on beyond it."""
        ends = np.flatnonzero(self.line.end)
        reach = self.line.radius[ends, None]
        low, high = (self.grid.to_voxel(self.line.mm[ends] + side) for side in (-reach, reach))
        return ends[np.all((low > 0) & (high < np.subtract(self.grid.shape, 1)), axis=1)]

    def slim(self) -> Pieces:
        """The same without what is as large as the volume: enough for :mod:`near_monai.repair.piece_features`."""
        nothing = np.zeros((0, 0, 0), np.int32)
        return replace(self, index=nothing, probability=nothing.astype(np.float32))


def _axis(points: FloatArray) -> FloatArray:
    spread, axes = np.linalg.eigh(np.cov(points.T) + 1e-9 * np.eye(3)) if len(points) > 1 else (np.ones(3), np.eye(3))
    return np.asarray(axes[:, 2] * (1 - np.sqrt(spread[1] / spread[2])))


@dataclass(frozen=True)
class _Way:
    """An end, a point of another piece, and how they lie: the cheap part of a joint."""

    start: int
    stop: int
    pieces: tuple[int, int]
    gap: float
    cosine: float
    cost: float


def find_joints(pieces: Pieces) -> list[Joint]:
    """Every end of every piece with the best point of each other piece within reach; one joint per such two points."""
    ways = [way for end in pieces.ends.tolist() for way in _ways(end, pieces.line)]
    claims = defaultdict(list)
    for way in ways:
        claims[way.start].append(way)
        claims[way.stop].append(way)
    unique = {tuple(sorted((way.start, way.stop))): way for way in sorted(ways, key=lambda way: -way.cost)}
    return [_joint(way, pieces, claims) for way in sorted(unique.values(), key=lambda way: (way.cost, way.start))]


def _ways(end: int, line: Centrelines) -> list[_Way]:
    """What ``end`` can be joined to: of every other piece, the point that is near and lies ahead."""
    own = int(line.owner[end])
    near = np.asarray(line.tree.query_ball_point(line.mm[end], REACH_MM + line.radius[end] + line.radius.max()))
    near = near[line.owner[near] != own]
    if not len(near):
        return []
    direction = line.direction(end)
    way = line.mm[near] - line.mm[end]
    reach = np.linalg.norm(way, axis=1)
    cosine = way @ direction / reach
    gap = np.maximum(reach - line.radius[end] - line.radius[near], 0)
    cost = reach * (2 - cosine)
    fits = (gap <= REACH_MM) & ((cosine >= ALIGNED) | (not direction.any()))
    ways = []
    for other in np.unique(line.owner[near[fits]]).tolist():
        choice = np.flatnonzero(fits & (line.owner[near] == other))
        best = choice[cost[choice].argmin()]
        found = (float(gap[best]), float(cosine[best]), float(cost[best]))
        ways.append(_Way(end, int(near[best]), (own, other), *found))
    return ways


def _joint(way: _Way, pieces: Pieces, claims: Mapping[int, Sequence[_Way]]) -> Joint:
    line = pieces.line
    own, other = way.pieces
    leaving = line.direction(way.start)
    straight = line.mm[way.stop] - line.mm[way.start]
    reach = float(np.linalg.norm(straight))
    along = float(np.abs(pieces.axes[own] @ straight)) / reach
    at_end, arriving, cosine_other = _arrival(way, line, straight / reach)
    course = Course.between(line.mm[way.start], line.mm[way.stop], leaving, arriving)
    between, least = _likely(course, pieces)
    gap = _free_length(course, pieces)
    radii = (line.calibre(way.start), line.calibre(way.stop))
    rivals = [_rivals(way, side, claims) for side in (0, 1)]
    volume = pieces.volume[[own, other]]
    features = [
        gap,
        gap / sum(radii),
        way.cosine,
        along,
        cosine_other,
        float(at_end),
        float(leaving.any()),
        *radii,
        float(np.log(radii[0] / radii[1])),
        radii[0] / line.thickest[own],
        radii[1] / line.thickest[other],
        line.spans[own],
        line.spans[other],
        *np.log(volume),
        float(volume.min() / pieces.volume.sum()),
        between,
        least,
        *pieces.likely[[own, other]],
        _beside(way, line),
        course.length_mm / reach,
        *(count for count, _ in rivals),
        *(share for _, share in rivals),
        radii[0] / float(line.thickest.max()),
    ]
    return Joint(way.pieces, (way.start, way.stop), course, radii, gap, np.array(features))


def _arrival(way: _Way, line: Centrelines, straight: FloatArray) -> tuple[bool, FloatArray, float]:
    """Whether a joint arrives at an end, in which direction, and the cosine between that and the ``straight`` way."""
    group = line.groups[way.pieces[1]]
    ends = group[line.end[group]]
    near = ends[np.linalg.norm(line.mm[ends] - line.mm[way.stop], axis=1) <= AT_END_MM]
    if len(near):
        arriving = -line.direction(int(near[np.linalg.norm(line.mm[near] - line.mm[way.start], axis=1).argmin()]))
        return True, arriving if arriving @ straight > 0 else np.zeros(3), float(arriving @ straight)
    return False, np.zeros(3), abs(float(line.axis(way.stop) @ straight))


def _likely(course: Course, pieces: Pieces) -> tuple[float, float]:
    """Mean and least of log F along a course, where no piece is; of F the largest in a voxel and its neighbours.

    A course is no surer than a voxel, and F's ridge may lie beside it.
    """
    voxels = course.voxels(pieces.grid)
    voxels = voxels[pieces.index[tuple(voxels.T)] == 0]
    if not len(voxels):
        return 0.0, 0.0
    near = np.clip(voxels[:, None] + _AROUND, 0, np.subtract(pieces.index.shape, 1))
    free = pieces.index[tuple(near.transpose(2, 0, 1))] == 0
    found = np.where(free, pieces.probability[tuple(near.transpose(2, 0, 1))], 0).max(1)
    logs = np.log(np.maximum(found, LEAST_F))
    return float(logs.mean()), float(logs.min())


def _free_length(course: Course, pieces: Pieces) -> float:
    """Length in mm of a course that no piece holds."""
    points = course.fine(min(pieces.grid.spacing) / 4)
    voxels = np.clip(np.round(pieces.grid.to_voxel(points)).astype(int), 0, np.subtract(pieces.index.shape, 1))
    return course.length_mm * float((pieces.index[tuple(voxels.T)] == 0).mean())


def _rivals(way: _Way, side: int, claims: Mapping[int, Sequence[_Way]]) -> tuple[int, float]:
    """How many other pieces claim the same end, and the gap to the nearest of them over that of the joint."""
    point = (way.start, way.stop)[side]
    gaps = [rival.gap for rival in claims[point] if way.pieces[1 - side] not in rival.pieces]
    return len(gaps), min(min(gaps, default=REACH_MM) / max(way.gap, 0.5), 5.0)


def _beside(way: _Way, line: Centrelines) -> float:
    """How far the shorter of two pieces leads away from the other, over its length: 1 in line with it, 0 beside it."""
    short, long = sorted(way.pieces, key=lambda piece: line.spans[piece])
    away = cKDTree(line.mm[line.groups[long]]).query(line.mm[line.groups[short]])[0]
    return float(np.ptp(away) / max(line.spans[short], 0.5))
