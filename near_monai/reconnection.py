"""Reconnection: torn-off pieces of a tree are joined to it by tubes, where direction, calibre, distance and F agree.

A gap in a label can be a mistake of the label, or an occlusion, a stent or a motion artefact. Every bridge is therefore
recorded and kept as a mask of its own, so that a person can take it back.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from near_monai.boxes import box_of
from near_monai.cleaning import components
from near_monai.coords import Grid
from near_monai.distance import signed_distance
from near_monai.skeleton import skeleton

#: Longest gap in mm, from wall to wall.
REACH_MM = 8.0
#: mm of centreline behind an end that give its direction and its calibre.
BEHIND_MM = 5.0
#: An end with less centreline than this many mm has no direction.
SHORTEST_MM = 1.5
#: Cosine of the largest angle between an end and the bridge that leaves it (60 degrees).
ALIGNED = 0.5
#: A piece is torn off at its thick end: the end must have this share of the piece's largest radius ...
THICK_END = 0.5
#: ... and this share if both pieces hold more than :data:`TREE` of the volume: they can be the left and the right tree,
#: which may meet with their thin tips but are never joined.
TREE_THICK_END = 0.8
TREE = 0.2
#: A piece is at most this many times wider than what it is joined to.
WIDER = 1.5
#: F's mean probability in the gap must reach this. It is low in gaps, and lower by far where no vessel is due.
JUDGED = 0.05


@dataclass(frozen=True)
class Bridge:
    """A tube that was added.

    Attributes:
        start: end of the torn-off piece, ``(x, y, z)`` mm in the frame of the grid.
        stop: point of the centreline that it was joined to.
        gap_mm: length of the gap from wall to wall.
        radius_mm: mean radius of the tube.
        probability: F's mean in the gap.
        voxels: number of voxels added.
    """

    start: tuple[float, float, float]
    stop: tuple[float, float, float]
    gap_mm: float
    radius_mm: float
    probability: float
    voxels: int


@dataclass(frozen=True)
class _Centreline:
    """Centreline voxels of all components: voxel indices, mm, component, radius in mm, and whether one is an end."""

    voxel: NDArray[np.int64]
    mm: NDArray[np.floating]
    owner: NDArray[np.int32]
    radius: NDArray[np.floating]
    end: NDArray[np.bool_]


@dataclass(frozen=True)
class _Joint:
    """A possible bridge from centreline voxel ``start`` (an end) to ``stop``; the lower ``cost`` the better."""

    cost: float
    start: int
    stop: int
    gap_mm: float


def reconnect(
    mask: NDArray[np.bool_], probability: NDArray[np.float32], grid: Grid
) -> tuple[NDArray[np.bool_], list[Bridge]]:
    """Bridges between the components of ``mask``; they never close a loop.

    Args:
        mask: ``(X, Y, Z)`` refined mask.
        probability: F on the same grid: it judges every bridge.
        grid: their grid.

    Returns:
        The voxels to add (a mask of the same shape) and one record per bridge.
    """
    added = np.zeros_like(mask)
    bridges: list[Bridge] = []
    if not mask.any():
        return added, bridges
    box = box_of(mask)
    inner, sub = box.slices(), box.grid(grid)
    index, count = components(mask[inner])
    if count < 2:
        return added, bridges
    line = _centreline(index, sub)
    leader = np.arange(count + 1)
    for joint in sorted(_joints(line, np.bincount(index.ravel())), key=lambda j: j.cost):
        a, b = leader[line.owner[[joint.start, joint.stop]]]
        judged = _judge(mask[inner], probability[inner], line, joint, sub)
        if a == b or judged < JUDGED:
            continue
        leader[leader == a] = b
        radii = line.radius[[joint.start, joint.stop]]
        tube = _tube(line, joint, sub) & ~mask[inner]
        added[inner] |= tube
        start, stop = (tuple(float(x) for x in line.mm[n]) for n in (joint.start, joint.stop))
        bridges.append(Bridge(start, stop, joint.gap_mm, float(radii.mean()), judged, int(np.count_nonzero(tube))))  # type: ignore[arg-type]
    return added, bridges


def _centreline(index: NDArray[np.int32], grid: Grid) -> _Centreline:
    line = np.pad(skeleton(index > 0), 1)
    voxel = np.argwhere(line)
    neighbours = sum(line[tuple((voxel + step).T)].astype(int) for step in itertools.product((-1, 0, 1), repeat=3))
    voxel -= 1
    depth = -signed_distance(np.pad(index > 0, 1), grid.spacing)[1:-1, 1:-1, 1:-1]
    at = tuple(voxel.T)
    return _Centreline(voxel, grid.to_mm(voxel), index[at], depth[at], neighbours <= 2)


def _joints(line: _Centreline, volume: NDArray[np.int64]) -> list[_Joint]:
    """For every end of every component but the largest: the best point of each other component."""
    tree = cKDTree(line.mm)
    largest = int(volume[1:].argmax()) + 1
    tree_like = volume > TREE * volume[1:].sum()
    joints = []
    for end in np.flatnonzero(line.end & (line.owner != largest)):
        own = line.owner == line.owner[end]
        behind = own & (np.linalg.norm(line.mm - line.mm[end], axis=1) <= BEHIND_MM)
        direction = line.mm[end] - line.mm[behind].mean(0)
        length = 2 * np.linalg.norm(direction)
        radius = float(np.median(line.radius[behind]))
        thickness = radius / float(np.quantile(line.radius[own], 0.9))
        if length < SHORTEST_MM or thickness < THICK_END:
            continue
        near = np.asarray(tree.query_ball_point(line.mm[end], REACH_MM + radius + line.radius.max()))
        near = near[line.owner[near] != line.owner[end]]
        way = line.mm[near] - line.mm[end]
        reach = np.linalg.norm(way, axis=1)
        cosine = way @ direction / (reach * length / 2)
        gap = np.maximum(reach - radius - line.radius[near], 0)
        span = np.linalg.norm(np.ptp(line.mm[own], axis=0))
        fits = (cosine >= ALIGNED) & (gap <= min(REACH_MM, span)) & (radius <= WIDER * line.radius[near])
        if thickness < TREE_THICK_END and tree_like[line.owner[end]]:
            fits &= ~tree_like[line.owner[near]]
        cost = reach * (2 - cosine)
        for other in np.unique(line.owner[near[fits]]):
            choice = np.flatnonzero(fits & (line.owner[near] == other))
            best = choice[cost[choice].argmin()]
            joints.append(_Joint(float(cost[best]), int(end), int(near[best]), float(gap[best])))
    return joints


def _path(line: _Centreline, joint: _Joint, grid: Grid) -> NDArray[np.floating]:
    """Points in mm along the bridge, at most half a voxel apart."""
    a, b = line.mm[joint.start], line.mm[joint.stop]
    steps = int(np.ceil(2 * np.linalg.norm(b - a) / min(grid.spacing))) + 1
    return np.linspace(a, b, max(steps, 2))


def _judge(
    mask: NDArray[np.bool_], probability: NDArray[np.float32], line: _Centreline, joint: _Joint, grid: Grid
) -> float:
    """F's mean probability on the part of the bridge that is not vessel yet; 1 where nothing is missing."""
    at = tuple(np.round(grid.to_voxel(_path(line, joint, grid))).astype(int).T)
    gap = ~mask[at]
    return float(probability[at][gap].mean()) if gap.any() else 1.0


def _tube(line: _Centreline, joint: _Joint, grid: Grid) -> NDArray[np.bool_]:
    """Voxels of the bridge: its radius goes from one end's to the other's, at most the torn-off piece's."""
    path = _path(line, joint, grid)
    first = line.radius[joint.start]
    radius = np.linspace(first, min(first, line.radius[joint.stop]), len(path))
    radius = np.maximum(radius, 0.75 * max(grid.spacing))  # or the tube could fall between voxel centres
    low = np.maximum(np.floor(grid.to_voxel(path.min(0) - radius.max())).astype(int), 0)
    high = np.minimum(np.ceil(grid.to_voxel(path.max(0) + radius.max())).astype(int) + 1, grid.shape)
    corner = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"), -1)
    distance, nearest = cKDTree(path).query(grid.to_mm(corner))
    tube = np.zeros(grid.shape, bool)
    tube[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = distance <= radius[nearest]
    return tube
