"""Reconnection: torn-off pieces of a tree are joined to it by tubes, where direction, calibre, distance and F agree.

Which of them joined what the label had apart is found afterwards (:mod:`near_monai.repair.bridges`): F joins pieces,
too.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from near_monai.geometry.boxes import Box, voxels_of
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.distance import depth_at
from near_monai.geometry.skeleton import skeleton

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
#: ... and this share if both sides hold a piece of more than :data:`TREE` of the volume: they can be the left and the
#: right tree, which may meet with their thin tips and must not be joined.
TREE_THICK_END = 0.8
TREE = 0.2
#: A piece is at most this many times wider than what it is joined to.
WIDER = 1.5
#: F's mean probability in the gap must reach this. It is low in gaps, and lower by far where no vessel is due.
JUDGED = 0.05


Slices: TypeAlias = tuple[slice, slice, slice]


@dataclass(frozen=True)
class _Centreline:
    """Centreline voxels of all components: mm, component, radius in mm, and whether one is an end."""

    mm: NDArray[np.floating]
    owner: NDArray[np.int32]
    radius: NDArray[np.floating]
    end: NDArray[np.bool_]

    def calibre(self, own: NDArray[np.int64], number: int) -> float:
        """Median radius in mm of the voxels ``own`` near voxel ``number``: at an end alone it would be too small."""
        near = np.linalg.norm(self.mm[own] - self.mm[number], axis=1) <= BEHIND_MM
        return float(np.median(self.radius[own[near]]))


@dataclass(frozen=True)
class _Joint:
    """A possible bridge from ``start``, an end, to ``stop``; the lower ``cost`` the better. All in mm.

    ``thick``: it leaves its piece at the piece's thick end.
    """

    cost: float
    owners: tuple[int, int]
    start: NDArray[np.floating]
    stop: NDArray[np.floating]
    radii: tuple[float, float]
    gap_mm: float
    thick: bool


def reconnect(mask: NDArray[np.bool_], probability: NDArray[np.float32], grid: Grid) -> NDArray[np.int32]:
    """Tubes between the components of ``mask``; each joins two that were apart and touches no third one.

    Args:
        mask: ``(X, Y, Z)`` refined mask.
        probability: F on the same grid: it judges every tube.
        grid: their grid.

    Returns:
        Per voxel, same shape, the number from 1 of the tube that adds it, or 0.
    """
    added = np.zeros(mask.shape, np.int32)
    found = Components.of(mask)
    if len(found) < 2:
        return added
    index, volume = found.index(), np.concatenate([[0], found.sizes])
    large = volume > TREE * volume[1:].sum()
    leader, tree = np.arange(len(volume)), large.copy()
    for joint in sorted(_joints(_centreline(found, index, grid), volume), key=lambda j: j.cost):
        a, b = leader[list(joint.owners)]
        whole = joint.thick and large[joint.owners[0]]  # a large piece that hangs on by its thick end is no other tree
        if a == b or (tree[a] and tree[b] and not whole):
            continue
        there, tube, path = _tube(joint, grid)
        met = np.unique(index[there][ndimage.maximum_filter(tube, 3)])
        if not set(met.tolist()) <= {0, *joint.owners}:
            continue
        judged = probability[path][index[path] == 0]
        if not len(judged) or not judged.mean() >= JUDGED:
            continue
        tube &= index[there] == 0
        index[there][tube] = joint.owners[0]  # for the tubes to come it is a part of the piece
        leader[leader == a] = b
        tree[b] |= tree[a]
        added[there][tube] = added.max() + 1
    return added


def _centreline(found: Components, index: NDArray[np.int32], grid: Grid) -> _Centreline:
    line = np.pad(skeleton(found), 1)
    voxel = voxels_of(line)
    neighbours = sum(line[tuple((voxel + step).T)].astype(int) for step in itertools.product((-1, 0, 1), repeat=3))
    voxel -= 1
    radius = depth_at(index > 0, grid, voxel)
    return _Centreline(grid.to_mm(voxel), index[tuple(voxel.T)], radius, neighbours <= 2)


def _joints(line: _Centreline, volume: NDArray[np.int64]) -> list[_Joint]:
    """For every end of every component but the largest: the best point of each other component."""
    tree = cKDTree(line.mm)
    order = np.argsort(line.owner, kind="stable")
    groups = np.split(order, np.searchsorted(line.owner[order], np.arange(1, len(volume) + 1))[:-1])
    largest = int(volume[1:].argmax()) + 1
    return [
        joint
        for number, own in enumerate(groups)
        if number != largest and len(own) and _span(line, own) >= SHORTEST_MM
        for end in own[line.end[own]]
        for joint in _joints_of(int(end), line, tree, groups)
    ]


def _joints_of(end: int, line: _Centreline, tree: cKDTree, groups: list[NDArray[np.int64]]) -> list[_Joint]:
    """What the end ``end`` of a piece can be joined to."""
    number = int(line.owner[end])
    own = groups[number]
    behind = own[np.linalg.norm(line.mm[own] - line.mm[end], axis=1) <= BEHIND_MM]
    direction = line.mm[end] - line.mm[behind].mean(0)
    length = float(np.linalg.norm(direction))
    radius, thickest = float(np.median(line.radius[behind])), float(np.quantile(line.radius[own], 0.9))
    if 2 * length < SHORTEST_MM or radius < THICK_END * thickest:
        return []
    near = np.asarray(tree.query_ball_point(line.mm[end], REACH_MM + radius + float(line.radius.max())))
    near = near[line.owner[near] != number]
    way = line.mm[near] - line.mm[end]
    reach = np.linalg.norm(way, axis=1)
    cosine = way @ direction / (reach * length)
    gap = np.maximum(reach - line.radius[end] - line.radius[near], 0)
    fits = (cosine >= ALIGNED) & (gap <= min(REACH_MM, _span(line, own))) & (radius <= WIDER * line.radius[near])
    cost = reach * (2 - cosine)
    joints = []
    for other in np.unique(line.owner[near[fits]]).tolist():
        choice = np.flatnonzero(fits & (line.owner[near] == other))
        best = choice[cost[choice].argmin()]
        stop = int(near[best])
        radii = (radius, line.calibre(groups[other], stop))
        thick = radius >= TREE_THICK_END * thickest
        ends = (line.mm[end], line.mm[stop])
        joints.append(_Joint(float(cost[best]), (number, other), *ends, radii, float(gap[best]), thick))
    return joints


def _span(line: _Centreline, own: NDArray[np.int64]) -> float:
    """Diagonal in mm of the box around the centreline voxels ``own``."""
    return float(np.linalg.norm(np.ptp(line.mm[own], axis=0)))


def _tube(
    joint: _Joint, grid: Grid
) -> tuple[tuple[slice, slice, slice], NDArray[np.bool_], tuple[NDArray[np.int64], ...]]:
    """Where the bridge lies: slices, the tube in them, and the voxels of its axis on the whole grid.

    Its radius goes from the torn-off piece's to the other's, if that is smaller. The voxels of the axis belong to it
    whatever their size, or it would break where slices are thicker than the vessel.
    """
    steps = int(np.ceil(2 * np.linalg.norm(joint.stop - joint.start) / min(grid.spacing))) + 2
    path = np.linspace(joint.start, joint.stop, steps)
    radius = np.linspace(joint.radii[0], min(joint.radii), steps)
    low = np.maximum(np.floor(grid.to_voxel(path.min(0) - radius.max())).astype(int), 0)
    high = np.minimum(np.ceil(grid.to_voxel(path.max(0) + radius.max())).astype(int) + 1, grid.shape)
    (a, b, c), (x, y, z) = low.tolist(), high.tolist()
    there = Box((a, b, c), (x, y, z))
    corner = np.stack(np.meshgrid(*there.grid(grid).axes_mm(), indexing="ij"), -1)
    distance, nearest = cKDTree(path).query(corner)
    tube = distance <= radius[nearest]
    axis = np.unique(np.round(grid.to_voxel(path)).astype(int), axis=0)
    tube[tuple((axis - low).T)] = True
    return there.slices(), tube, tuple(axis.T)
