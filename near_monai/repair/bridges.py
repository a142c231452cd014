"""Bridges: whatever joins components of a label that were apart, F's own voxels and tubes alike.

A gap in a label can be a mistake of the label, or an occlusion, a stent or a motion artefact. Every place where a
result joins what the label had apart is therefore recorded and kept as a mask of its own, so that a person can take it
back.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from near_monai.geometry.boxes import voxels_of
from near_monai.geometry.components import Components, around
from near_monai.geometry.coordinates import Grid

#: A voxel belongs to a bridge if the way from wall to wall over it is at most so many times the shortest: ends of
#: vessels are round, and a tube between them is longest on its outside.
BESIDE = 1.5
#: The 26 neighbours of a voxel.
STEPS = np.array([step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)])


@dataclass(frozen=True, eq=False)
class Bridge:
    """What joins two components of a label.

    Attributes:
        voxels: ``(N, 3)`` indices of its voxels, none of them labelled: without them the two are apart again.
        place: the middle one of them, in mm, in the frame of the grid.
        gap_mm: length of the gap from wall to wall.
        radius_mm: of a tube of this length and volume.
        probability: F's mean in it.
        volume_mm3: volume added.
    """

    voxels: NDArray[np.intp]
    place: tuple[float, float, float]
    gap_mm: float
    radius_mm: float
    probability: float
    volume_mm3: float

    def within(self, kept: NDArray[np.bool_], grid: Grid) -> Bridge | None:
        """What is left of it in the voxels of ``kept``, a mask on ``grid``."""
        voxels = self.voxels[kept[tuple(self.voxels.T)]]
        if not len(voxels):
            return None
        return replace(self, voxels=voxels, place=_middle(voxels, grid), volume_mm3=len(voxels) * grid.voxel_volume)

    def scaled(self, factor: float) -> Bridge:
        """The same with every length multiplied by ``factor``."""
        x, y, z = (v * factor for v in self.place)
        gap, radius, volume = self.gap_mm * factor, self.radius_mm * factor, self.volume_mm3 * factor**3
        return replace(self, place=(x, y, z), gap_mm=gap, radius_mm=radius, volume_mm3=volume)


def find_bridges(
    label: Components,
    mask: NDArray[np.bool_],
    probability: NDArray[np.floating],
    grid: Grid,
    tubes: NDArray[np.int32] | None = None,
) -> list[Bridge]:
    """Every bridge of ``mask`` between components of ``label``.

    Args:
        label: components of the label.
        mask: ``(X, Y, Z)`` what became of it.
        probability: F, same shape.
        grid: their grid.
        tubes: number of the tube that added a voxel, or 0; a tube belongs to its bridge as a whole.
    """
    if len(label) < 2:
        return []
    added = _Added.of(label, mask, grid, tubes)
    return [
        _record(voxels, gap, probability, grid)
        for one, other in added.pairs
        for voxels, gap in [added.between(one, other)]
    ]


def between(voxels: NDArray[np.intp], label: Components) -> NDArray[np.bool_]:
    """Which of ``voxels`` ``(N, 3)``, none of them labelled, touch two components of a label: they fill a gap."""
    if len(label) < 2:
        return np.zeros(len(voxels), bool)
    index = np.zeros(np.add(label.shape, 2), np.int32)
    index[tuple(label.voxels.T + 1)] = label.owner + 1
    met = index[tuple((voxels[:, None] + 1 + STEPS).transpose(2, 0, 1))]
    return np.asarray(met.max(1) != np.where(met > 0, met, len(label) + 1).min(1)) & (met > 0).any(1)


@dataclass(frozen=True, eq=False)
class _Added:
    """What was added to a label, and which component of the label each voxel of it is nearest to.

    Where voxels of different components meet, a bridge crosses from one to the other.

    Attributes:
        voxels: ``(N, 3)`` indices.
        owner: ``(N,)`` number from 1 of the nearest component.
        met: ``(N, 26)`` numbers of the other components whose voxels it touches, or 0.
        label: ``(M, 3)`` mm of the outer voxels of the label that are left, ...
        owners: ``(M,)`` ... and their components.
        tube: ``(N,)`` number of the tube that added the voxel, or 0.
        grid: the grid.
    """

    voxels: NDArray[np.intp]
    owner: NDArray[np.int32]
    met: NDArray[np.int32]
    label: NDArray[np.floating]
    owners: NDArray[np.int32]
    tube: NDArray[np.int32]
    grid: Grid

    @classmethod
    def of(cls, label: Components, mask: NDArray[np.bool_], grid: Grid, tubes: NDArray[np.int32] | None) -> _Added:
        kept = mask[tuple(label.voxels.T)]
        known, owners = label.voxels[kept], label.owner[kept] + np.int32(1)
        index = np.zeros(np.add(mask.shape, 2), np.int32)
        index[tuple(known.T + 1)] = owners
        labelled, outer = index > 0, _outer(index, known + 1)  # the nearest voxel of a label always is an outer one
        known, owners = known[outer], owners[outer]
        voxels, millimetres = voxels_of(mask & ~labelled[1:-1, 1:-1, 1:-1]), grid.to_mm(known)
        if len(known):
            index[tuple(voxels.T + 1)] = owners[cKDTree(millimetres).query(grid.to_mm(voxels))[1]]
            _reach_label(index, voxels + 1, labelled, known + 1, grid)
        owner = index[tuple(voxels.T + 1)]
        met = index[tuple((voxels[:, None] + 1 + STEPS).transpose(2, 0, 1))]
        tube = np.zeros(len(voxels), np.int32) if tubes is None else tubes[tuple(voxels.T)]
        return cls(voxels, owner, np.where(met == owner[:, None], 0, met), millimetres, owners, tube, grid)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of components that are joined."""
        place, step = np.nonzero(self.met)
        both = np.sort(np.stack([self.owner[place], self.met[place, step]], 1), 1)
        return [(one, other) for one, other in np.unique(both, axis=0).tolist()]

    @cached_property
    def tree_of(self) -> Callable[[int], cKDTree]:
        """The outer voxels of a component, to look for the nearest: most bridges reach the largest one."""
        return cache(lambda number: cKDTree(self.label[self.owners == number]))

    def between(self, one: int, other: int) -> tuple[NDArray[np.intp], float]:
        """The voxels of the bridge between two components, and the length of its gap in mm."""
        crossing = ((self.owner == one) & (self.met == other).any(1)) | (
            (self.owner == other) & (self.met == one).any(1)
        )
        points = self.grid.to_mm(self.voxels)
        trees = [self.tree_of(number) for number in (one, other)]
        # the way from wall to wall over a voxel: shortest between the two, longer beside them
        way = np.full(len(points), np.inf)
        way[crossing] = sum(tree.query(points[crossing])[0] for tree in trees)
        shortest = float(way[crossing].min())
        reach = shortest * BESIDE + max(self.grid.spacing)
        low, high = points[crossing].min(0) - reach, points[crossing].max(0) + reach
        own = np.isin(self.owner, (one, other)) & ~crossing
        near = own & np.all((points >= low) & (points <= high), axis=1)
        way[near] = sum(tree.query(points[near])[0] for tree in trees)
        whole = np.isin(self.tube, self.tube[crossing & (self.tube > 0)])
        chosen = crossing | whole | (way <= reach)
        parts = Components.at(self.voxels[chosen], self.grid.shape)
        held = np.isin(parts.owner, parts.owner[(crossing | whole)[chosen]])  # not what was added to the wall nearby
        return parts.voxels[held], max(shortest - min(self.grid.spacing), 0.0)


def _outer(index: NDArray[np.int32], voxels: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which of ``voxels`` ``(N, 3)`` share a face with one that is 0 in ``index``, which has a rim."""
    flat, whole = np.ravel_multi_index(tuple(voxels.T), index.shape), index.ravel()
    steps = (1, index.shape[2], index.shape[1] * index.shape[2])
    return np.logical_or.reduce([whole[flat + sign * step] == 0 for step in steps for sign in (-1, 1)])


def _reach_label(
    index: NDArray[np.int32],
    voxels: NDArray[np.intp],
    labelled: NDArray[np.bool_],
    known: NDArray[np.intp],
    grid: Grid,
) -> None:
    """Give voxels another component if no way through their like leads to the one that they are nearest to.

    The end of a vessel that grew over more than half of a gap joins nothing. Such voxels get a component that they
    touch, or none.

    Args:
        index: number of the component of every voxel of the result, or 0, with a rim of one voxel; changed.
        voxels: ``(N, 3)`` those of its voxels that were added.
        labelled: those of the label, of the shape of ``index``.
        known: ``(M, 3)`` the outer ones of these.
        grid: the grid; where it begins does not matter.
    """
    left = _islands(index, voxels, labelled)
    for part in left:
        index[tuple(part.T)] = 0
    changed = True
    while changed:
        waiting, left, changed = left, [], False
        for part in waiting:
            touched = np.unique(index[tuple((part[:, None] + STEPS).transpose(2, 0, 1))])
            near = known[np.isin(index[tuple(known.T)], touched[touched > 0])]
            if not len(near):
                left.append(part)
                continue
            nearest = cKDTree(grid.to_mm(near)).query(grid.to_mm(part))
            index[tuple(part.T)] = index[tuple(near[nearest[1][nearest[0].argmin()]])]
            changed = True


def _islands(index: NDArray[np.int32], voxels: NDArray[np.intp], labelled: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Groups of ``voxels`` of one number that touch no ``labelled`` voxel; arguments as of :func:`_reach_label`."""
    numbers, found = index[tuple(voxels.T)], []
    for number in np.unique(numbers):
        box = around(voxels[numbers == number]).grow(1, index.shape)
        parts = (part + box.start for part in Components.of(index[box.slices()] == number).parts)
        found += [part for part in parts if not labelled[tuple(part.T)].any()]
    return found


def _record(voxels: NDArray[np.intp], gap: float, probability: NDArray[np.floating], grid: Grid) -> Bridge:
    volume = len(voxels) * grid.voxel_volume
    radius = float(np.sqrt(volume / (np.pi * max(gap, min(grid.spacing)))))
    judged = float(probability[tuple(voxels.T)].mean(dtype=np.float64))
    return Bridge(voxels, _middle(voxels, grid), gap, radius, judged, volume)


def _middle(voxels: NDArray[np.intp], grid: Grid) -> tuple[float, float, float]:
    """mm of the one of ``voxels`` that is nearest to their centre."""
    points = grid.to_mm(voxels)
    x, y, z = points[np.linalg.norm(points - points.mean(0), axis=1).argmin()].tolist()
    return x, y, z
