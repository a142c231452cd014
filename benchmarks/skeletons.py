"""Skeletons that others make, to compare trees with: their voxels, ends and depths; they know no roots."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

from benchmarks.tree_scores import Lines
from near_monai.geometry.coordinates import FloatArray, Grid

#: skan's word for a branch between an end and a fork.
TERMINAL = 1


def skeletons(mask: NDArray[np.bool_], grid: Grid) -> Iterator[tuple[str, Lines]]:
    """skimage's skeleton as it is; and, if skan is installed, its branches without spurs.

    The radius is the distance to the nearest background voxel.
    """
    line = skeletonize(np.pad(mask, 1))[1:-1, 1:-1, 1:-1]
    depth = ndimage.distance_transform_edt(mask, grid.spacing)
    voxels = np.argwhere(line)
    count = ndimage.convolve(line.astype(np.uint8), np.ones((3, 3, 3), np.uint8), mode="constant")[tuple(voxels.T)]
    yield "skeletonize", _lines(voxels, voxels[count <= 2], depth, grid)
    if find_spec("skan"):
        yield "skan", _lines(*_without_spurs(line, depth, grid), depth, grid)


def _without_spurs(line: NDArray[np.bool_], depth: FloatArray, grid: Grid) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Voxels and ends of skan's branches: what ends in the vessel that it leaves is pruned, as long as any does."""
    from skan import Skeleton, summarize

    skeleton = Skeleton(line, spacing=grid.spacing)
    while True:
        table = summarize(skeleton, separator="_")
        ends = skeleton.coordinates[table[["node_id_src", "node_id_dst"]].to_numpy()].astype(int)
        deepest = depth[tuple(np.moveaxis(ends, -1, 0))].max(1)
        spurs = np.flatnonzero((table["branch_type"] == TERMINAL) & (table["branch_distance"] < deepest))
        if not len(spurs):
            break
        skeleton = skeleton.prune_paths(spurs)
    voxels = skeleton.coordinates.astype(int)
    return voxels[skeleton.degrees > 0], voxels[skeleton.degrees == 1]


def _lines(voxels: NDArray[np.intp], ends: NDArray[np.intp], depth: FloatArray, grid: Grid) -> Lines:
    none = np.full(len(voxels), -1)
    radius = depth[tuple(voxels.T)]
    return Lines(grid.to_mm(voxels), radius, grid.to_mm(ends), np.zeros((0, 3)), none, np.zeros(0, np.intp))
