"""Centrelines of the pieces of a label: their points, calibres, ends and directions; and tubes around them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from near_monai.geometry.boxes import Box, voxels_of
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import FloatArray, Grid
from near_monai.geometry.distance import depth_at
from near_monai.geometry.skeleton import skeleton

#: mm of centreline behind a point that give its direction and its calibre.
BEHIND_MM = 5.0
#: A direction that is known to fewer mm is none.
SHORTEST_MM = 0.75


def tube_around(points: FloatArray, radius: FloatArray, grid: Grid) -> tuple[Box, NDArray[np.bool_]]:
    """All voxels within ``radius`` ``(N,)`` mm of the nearest of ``points`` ``(N, 3)`` mm.

    Returns:
        A box of ``grid`` that holds them, empty where they lie outside, and the voxels in it.
    """
    low = np.maximum(np.floor(grid.to_voxel(points.min(0) - radius.max())).astype(int), 0)
    high = np.minimum(np.ceil(grid.to_voxel(points.max(0) + radius.max())).astype(int) + 1, grid.shape)
    (a, b, c), (x, y, z) = low.tolist(), np.maximum(high, low).tolist()
    there = Box((a, b, c), (x, y, z))
    centres = np.stack(np.meshgrid(*there.grid(grid).axes_mm(), indexing="ij"), -1)
    distance, nearest = cKDTree(points).query(centres)
    return there, np.asarray(distance <= radius[nearest])


@dataclass(frozen=True, eq=False)
class Centrelines:
    """Centreline voxels of all components of a mask.

    Attributes:
        mm: ``(N, 3)`` their centres.
        owner: ``(N,)`` component of each, from 0.
        radius: ``(N,)`` distance in mm from each to the wall.
        end: ``(N,)`` whether it is an end: at most one neighbour on the centreline.
    """

    mm: FloatArray
    owner: NDArray[np.int32]
    radius: FloatArray
    end: NDArray[np.bool_]

    @classmethod
    def of(cls, found: Components, index: NDArray[np.int32], grid: Grid) -> Centrelines:
        """Centrelines of the components ``found``, given their ``index`` ``(X, Y, Z)``."""
        line = np.pad(skeleton(found), 1)
        voxel = voxels_of(line)
        neighbours = sum(line[tuple((voxel + step).T)].astype(int) for step in itertools.product((-1, 0, 1), repeat=3))
        voxel -= 1
        owner = index[tuple(voxel.T)] - np.int32(1)
        return cls(grid.to_mm(voxel), owner, depth_at(index > 0, grid, voxel), np.asarray(neighbours <= 2))

    @cached_property
    def tree(self) -> cKDTree:
        """For what lies near a point."""
        return cKDTree(self.mm)

    @cached_property
    def groups(self) -> list[NDArray[np.intp]]:
        """Centreline voxels of every component."""
        order = np.argsort(self.owner, kind="stable")
        count = int(self.owner.max(initial=-1)) + 1
        return np.split(order, np.searchsorted(self.owner[order], np.arange(1, count)))[:count]

    @cached_property
    def spans(self) -> FloatArray:
        """Per component: diagonal in mm of the box around its centreline."""
        return np.array([np.linalg.norm(np.ptp(self.mm[own], axis=0)) for own in self.groups])

    @cached_property
    def thickest(self) -> FloatArray:
        """Per component: the radius in mm that a tenth of its centreline exceeds."""
        return np.array([np.quantile(self.radius[own], 0.9) for own in self.groups])

    def behind(self, number: int) -> NDArray[np.intp]:
        """Voxels of the same component within :data:`BEHIND_MM` of voxel ``number``."""
        own = self.groups[int(self.owner[number])]
        return own[np.linalg.norm(self.mm[own] - self.mm[number], axis=1) <= BEHIND_MM]

    def direction(self, number: int) -> FloatArray:
        """Unit vector in which the centreline leaves at the end ``number``; zeros where none is known."""
        way = np.asarray(self.mm[number] - self.mm[self.behind(number)].mean(0))
        length = float(np.linalg.norm(way))
        return way / length if length >= SHORTEST_MM else np.zeros(3)

    def axis(self, number: int) -> FloatArray:
        """Unit vector along the centreline at voxel ``number``, of either sign; zeros where none is known."""
        near = self.mm[self.behind(number)]
        if len(near) < 3:
            return np.zeros(3)
        _, size, axes = np.linalg.svd(near - near.mean(0), full_matrices=False)
        return np.asarray(axes[0]) if size[0] > 2 * size[1] else np.zeros(3)

    def calibre(self, number: int) -> float:
        """Median radius in mm near voxel ``number``: at an end alone it would be too small."""
        return float(np.median(self.radius[self.behind(number)]))
