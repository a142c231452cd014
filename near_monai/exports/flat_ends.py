"""Flat ends of vessels: where a surface is cut at right angles to the vessel, and which triangles close the cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from near_monai.geometry.coordinates import FloatArray, spacing_of
from near_monai.trees.rooted_tree import RootedTree

#: A cut reaches so many radii from the middle of an end, plus so many mm.
REACH_RADII, REACH_MM = 2.5, 2.0
#: mm of a vessel before an end that tell its direction.
BEFORE_MM = 2.0
#: A triangle closes a cut if it looks within this cosine in its direction and lies within so many voxels of it.
FACING, NEAR_VOXELS = 0.7, 0.6
INLET, OUTLET = "inlet", "outlet"


@dataclass(frozen=True, eq=False)
class End:
    """An end of a vessel, in world mm.

    Attributes:
        kind: ``"inlet"`` at a root, ``"outlet"`` at the other ends.
        points: ``(N, 3)`` the centreline before it, the end itself last.
        radius: there, mm.
        others: ``(M, 3)`` all other centrelines: what lies nearer to them is not cut.
    """

    kind: str
    points: FloatArray
    radius: float
    others: FloatArray


def ends_of(trees: Sequence[RootedTree]) -> list[End]:
    """All ends of ``trees``: of each the inlet first."""
    found = []
    branches = [(tree, branch) for tree in trees for branch in tree.branches]
    for tree, branch in branches:
        others = [other.points for _, other in branches if other is not branch]
        rest = np.concatenate(others) if others else np.zeros((0, 3))
        if branch.parent is None:
            found.append(End(INLET, branch.points[::-1], float(branch.radius[0]), rest))
        if not tree.children(branch.id):
            found.append(End(OUTLET, branch.points, float(branch.radius[-1]), rest))
    return found


@dataclass(frozen=True, eq=False)
class Cap:
    """A cut through the field of a surface, in its own frame: mm along the axes from voxel 0.

    Attributes:
        line: ``(N, 3)`` the centreline before it, the middle of the cut last.
        outward: ``(3,)`` unit vector.
        radius: of the vessel there, mm.
        others: ``(M, 3)`` other centrelines.
    """

    line: FloatArray
    outward: FloatArray
    radius: float
    others: FloatArray

    @classmethod
    def of(cls, end: End, affine: ArrayLike, corner: NDArray[np.integer]) -> Cap:
        """``end`` in the frame of a field whose voxel 0 is voxel ``corner`` of a map with ``affine``."""
        back = np.linalg.inv(np.asarray(affine, np.float64))
        spacing = np.asarray(spacing_of(affine))

        def local(points: FloatArray) -> FloatArray:
            return np.asarray((points @ back[:3, :3].T + back[:3, 3] - corner) * spacing)

        line = local(end.points)
        before = line[np.linalg.norm(line - line[-1], axis=1) >= min(BEFORE_MM, float(np.ptp(line, 0).max()))]
        way = line[-1] - (before[-1] if len(before) else line[0])
        return cls(line, way / np.linalg.norm(way), end.radius, local(end.others))

    def beyond(self, points: FloatArray) -> FloatArray:
        """``(...)`` mm by which ``points (..., 3)`` lie beyond the cut; below 0 before it."""
        return np.asarray((points - self.line[-1]) @ self.outward)

    def cut(self, smooth: NDArray[np.float32], spacing: FloatArray) -> None:
        """Take away, in place, what lies beyond; what is nearer to other centrelines stays."""
        reach = REACH_RADII * self.radius + REACH_MM
        low = np.maximum(np.floor((self.line[-1] - reach) / spacing).astype(int), 0)
        high = np.minimum(np.ceil((self.line[-1] + reach) / spacing).astype(int) + 1, smooth.shape)
        part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        points = (np.moveaxis(np.indices(smooth[part].shape), 0, -1) + low) * spacing
        mine = np.linalg.norm(points - self.line[-1], axis=-1) <= reach
        mine &= self.beyond(points) > -2 * float(spacing.max())
        if len(self.others):
            own = cKDTree(self.line).query(points[mine])[0]
            mine[mine] = own <= cKDTree(self.others).query(points[mine])[0]
        cut = np.maximum(smooth[part], self.beyond(points).astype(np.float32))
        smooth[part] = np.where(mine, cut, smooth[part])

    def faces(self, points: FloatArray, faces: NDArray[np.integer], spacing: FloatArray) -> NDArray[np.intp]:
        """Numbers of the ``faces`` that close the cut."""
        a, b, c = (points[column] for column in faces.T)
        normal = np.cross(b - a, c - a)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        middle = (a + b + c) / 3
        near = np.abs(self.beyond(middle)) <= NEAR_VOXELS * float(spacing.mean())
        near &= np.linalg.norm(middle - self.line[-1], axis=1) <= 2 * self.radius
        return np.flatnonzero(near & (normal @ self.outward >= FACING))

    def flatten(self, points: FloatArray, faces: NDArray[np.integer]) -> None:
        """Move, in place, the corners of ``faces`` onto the cut."""
        corners = np.unique(faces)
        points[corners] -= self.beyond(points[corners])[:, None] * self.outward
