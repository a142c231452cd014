"""Flat ends of vessels: where a surface may be cut at right angles to the vessel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from near_monai.geometry.coordinates import FloatArray, spacing_of
from near_monai.trees.cross_sections import arc_of
from near_monai.trees.rooted_tree import RootedTree

#: mm of a vessel before an end that tell its direction.
BEFORE_MM = 2.0
#: A cut that is not clean is tried again further back, in steps of so many mm, up to so many radii from the end.
BACK_MM, BACK_RADII = 0.25, 2.0
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

    def local(self, affine: ArrayLike, corner: NDArray[np.integer]) -> End:
        """The end in mm along the axes of a map with ``affine``, from its voxel ``corner`` on."""
        back = np.linalg.inv(np.asarray(affine, np.float64))
        spacing = np.asarray(spacing_of(affine))

        def moved(points: FloatArray) -> FloatArray:
            return np.asarray((points @ back[:3, :3].T + back[:3, 3] - corner) * spacing)

        return End(self.kind, moved(self.points), self.radius, moved(self.others))

    def cuts(self) -> Iterator[Cut]:
        """Where to cut: at the end, or else further back."""
        arc = arc_of(self.points)
        for back in np.arange(0.0, min(BACK_RADII * self.radius, arc[-1] / 2) + BACK_MM, BACK_MM):
            middle = np.array([np.interp(arc[-1] - back, arc, column) for column in self.points.T])
            far = arc[-1] - back - BEFORE_MM
            before = np.array([np.interp(max(far, 0.0), arc, column) for column in self.points.T])
            way = middle - before
            if way.any():
                yield Cut(middle, way / np.linalg.norm(way), self.radius)


@dataclass(frozen=True, eq=False)
class Cut:
    """A plane across a vessel.

    Attributes:
        middle: ``(3,)`` where the vessel passes it.
        outward: ``(3,)`` unit vector.
        radius: of the vessel there, mm.
    """

    middle: FloatArray
    outward: FloatArray
    radius: float

    def beyond(self, points: FloatArray) -> FloatArray:
        """``(...)`` mm by which ``points (..., 3)`` lie beyond the plane; below 0 before it."""
        return np.asarray((points - self.middle) @ self.outward)

    def flat(self, points: FloatArray) -> FloatArray:
        """``points (N, 3)`` in the plane ``(N, 2)``, mm from the middle; anticlockwise as seen from beyond."""
        return np.asarray((points - self.middle) @ self._axes.T)

    def in_space(self, flat: FloatArray) -> FloatArray:
        """Points ``(N, 2)`` of the plane in space ``(N, 3)``."""
        return np.asarray(self.middle + flat @ self._axes)

    @property
    def _axes(self) -> FloatArray:
        """Unit vectors ``(2, 3)`` in the plane."""
        first = np.cross(self.outward, np.eye(3)[np.abs(self.outward).argmin()])
        first /= np.linalg.norm(first)
        return np.stack([first, np.cross(self.outward, first)])


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
