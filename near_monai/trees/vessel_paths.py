"""The ways through the voxels of a vessel, from its root to all of its ends: a tree, whatever loops the voxels make.

Every voxel has one shortest way to the root, which keeps to the middle because shallow voxels cost more. The farthest
voxel's way is the first path; what lies near it is explained by it; the farthest of what is left begins the next path,
which ends where it meets an older one (Sato et al., TEASAR, 2000).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from near_monai.geometry.coordinates import FloatArray, Grid

#: A path explains what lies within this many radii of it, plus so many mm: a wall is as rough as that.
WITHIN_RADII, WITHIN_MM = 1.5, 1.0
#: Cost of a step is its length over the depth to this power.
CENTRED = 2
#: mm behind an end that tell how thick it is; the first of them are its tip.
BEHIND_MM, TIP_MM = 10.0, 1.5
#: mm around an end in which all vessels tell how thick the tree is there.
AROUND_MM = 15.0
#: How much it counts that vessels become thinner away from an end; 57 of 60 roots of refined generated trees are found
#: with the three, 53 by the depth behind the end alone.
THINNING = 0.5


@dataclass(frozen=True, eq=False)
class Lumen:
    """The voxels of one component, and the steps between them.

    Attributes:
        mm: ``(N, 3)`` their centres, in the mm frame of a grid.
        depth: ``(N,)`` how deep in mm each lies below the smooth wall; at least ``shallow``.
        pairs: ``(2, M)`` voxels that touch each other.
        shallow: the depth in mm of what lies outside of the smooth wall: the roughness of the mask.
    """

    mm: FloatArray
    depth: FloatArray
    pairs: NDArray[np.intp]
    shallow: float

    @classmethod
    def of(cls, voxels: NDArray[np.intp], smooth: NDArray[np.float32], grid: Grid) -> Lumen:
        """The lumen of ``voxels`` ``(N, 3)`` of ``grid``, in the order of the array.

        ``smooth`` ``(X, Y, Z)`` is the signed distance to the wall, see
        :func:`near_monai.geometry.smooth_distance.smooth_distance`.
        """
        wide = np.add(grid.shape, 2)  # a rim, so that the last voxel of a row is no neighbour of the first of the next
        flat = np.ravel_multi_index(tuple(voxels.T), tuple(wide))
        pairs = []
        for step in itertools.islice(itertools.product((-1, 0, 1), repeat=3), 14, None):
            target = flat + int(np.dot(step, [wide[1] * wide[2], wide[2], 1]))
            place = np.minimum(np.searchsorted(flat, target), len(flat) - 1)
            met = np.flatnonzero(flat[place] == target)
            pairs.append(np.stack([met, place[met]]))
        shallow = min(grid.spacing) / 4
        depth = np.maximum(-smooth[tuple(voxels.T)].astype(np.float64), shallow)
        return cls(grid.to_mm(voxels), depth, np.concatenate(pairs, axis=1), shallow)

    @cached_property
    def lengths(self) -> FloatArray:
        """``(M,)`` mm of every step."""
        one, other = self.pairs
        return np.asarray(np.linalg.norm(self.mm[one] - self.mm[other], axis=1))

    @cached_property
    def tree(self) -> cKDTree:
        """For what lies near a point."""
        return cKDTree(self.mm)

    def graph(self, cost: FloatArray) -> csr_array:
        """The steps as a graph, with a ``cost (M,)`` each."""
        return coo_array((cost, self.pairs), (len(self.mm),) * 2).tocsr()

    def distances(self, root: int) -> FloatArray:
        """``(N,)`` mm from ``root`` through the lumen."""
        return np.asarray(dijkstra(self.graph(self.lengths), directed=False, indices=root))

    def ways(self, root: int) -> NDArray[np.int32]:
        """``(N,)`` the next voxel on the way to ``root`` that keeps to the middle; below 0 at ``root``."""
        one, other = self.pairs
        cost = self.lengths / (0.5 * (self.depth[one] + self.depth[other])) ** CENTRED
        return np.asarray(dijkstra(self.graph(cost), directed=False, indices=root, return_predecessors=True)[1])

    def paths(self, root: int) -> list[list[int]]:
        """Paths of voxels, longest first: each begins at ``root`` or on an older path, and runs to an end."""
        distance, way = self.distances(root), self.ways(root)
        taken, explained, paths = np.zeros(len(distance), bool), np.zeros(len(distance), bool), []
        taken[root] = True
        for tip in np.argsort(-distance).tolist():
            if explained[tip] or tip == root:
                continue
            path = [tip]
            while not taken[path[-1]]:
                path.append(int(way[path[-1]]))
            new = np.array(path[:-1])
            taken[new] = True
            near = self.tree.query_ball_point(self.mm[new], WITHIN_RADII * self.depth[new] + WITHIN_MM)
            explained[np.concatenate([np.asarray(found, np.intp) for found in near])] = True
            paths.append(path[::-1])
        return paths

    def ends(self) -> dict[int, float]:
        """Every end, and how much it looks like the root: thick behind it, and vessels become thinner away from it."""
        start = int(self.distances(int(np.argmax(self.depth))).argmax())
        paths = self.paths(start)
        if not paths:
            return {start: 0.0}
        ways = {path[-1]: path[::-1] for path in paths} | {start: paths[0]}
        behind = np.array([self._calibre_behind(way) for way in ways.values()])
        near, thinning = self._around(list(ways), paths)
        looks = behind / behind.max() + near / near.max() + THINNING * thinning
        return dict(zip(ways, looks.tolist(), strict=True))

    def _calibre_behind(self, way: list[int]) -> float:
        """Median depth in mm of the voxels behind the end at which ``way`` begins."""
        arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(self.mm[way], axis=0), axis=1))])
        behind = (arc <= BEHIND_MM) & (arc >= min(TIP_MM, arc[-1] / 2))
        return float(np.median(self.depth[way][behind]))

    def _around(self, ends: list[int], paths: list[list[int]]) -> tuple[FloatArray, FloatArray]:
        """Per end: mean depth in mm of ``paths`` near it, and minus the correlation of depth with the way to it."""
        line = np.unique(np.concatenate(paths))
        steps = np.searchsorted(line, np.concatenate([np.stack([path[:-1], path[1:]], 1) for path in paths])).T
        lengths = np.linalg.norm(self.mm[line[steps[0]]] - self.mm[line[steps[1]]], axis=1)
        graph = coo_array((lengths, steps), (len(line),) * 2).tocsr()
        away = np.asarray(dijkstra(graph, directed=False, indices=np.searchsorted(line, ends)))
        depth = self.depth[line]
        near = np.array([depth[row <= AROUND_MM].mean() for row in away])
        centred = away - away.mean(1, keepdims=True)
        together = (centred * (depth - depth.mean())).mean(1) / np.maximum(away.std(1) * depth.std(), 1e-9)
        return near, -together
