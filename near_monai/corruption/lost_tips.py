"""Lost ends of vessels, found on the skeleton of the label.

Terms are those of :mod:`near_monai.corruption.surface_errors`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from skimage.morphology import skeletonize

from near_monai.corruption.local_errors import CLEARANCE, Points
from near_monai.corruption.surface_errors import Corruption, Field, Range
from near_monai.geometry.boxes import voxels_of


class LostTip(Corruption):
    """Missing ends: the vessel is removed from an end of the centreline inwards, at most to the next bifurcation.

    Args:
        length: range of the removed length in mm.
        count: number of ends, thin ones first.
        whole: probability of losing the branch up to its bifurcation instead, or twice the longest ``length`` of it.
    """

    def __init__(self, length: Range = (2.0, 15.0), count: int = 1, whole: float = 0.2) -> None:
        self.length, self.count, self.whole = length, count, whole

    def __call__(self, field: Field, spacing: ArrayLike) -> Field:
        """See :class:`Corruption`. Ends at the border of the array, where the vessel may go on, are left alone."""
        step, out = np.asarray(spacing, np.float64), field.copy()
        skeleton = _skeleton(field, step) if self.count and np.any(field < 0) else None
        if skeleton is None:
            return out
        left = self.count
        chance = skeleton.radius[skeleton.ends] ** -2.0
        for end in self.R.choice(skeleton.ends, len(chance), replace=False, p=chance / chance.sum()):
            lost = self.R.uniform(*self.length)
            if self.R.random_sample() < self.whole:
                lost = 2 * self.length[1]
            path = _walk(skeleton, int(end), lost - float(skeleton.cap[end]))
            if left and path and np.all(skeleton.sound[path]):
                left -= 1
                _clear(out, step, skeleton.centre, path, float(skeleton.cap[path].max()) + CLEARANCE)
        return out


class _Skeleton(NamedTuple):
    """Centreline of a label, P points.

    Attributes:
        centre: positions in mm, ``(P, 3)``.
        radius: distance to the wall in mm, ``(P,)``.
        cap: distance in mm of the farthest vessel voxel that has no nearer point, ``(P,)``.
        sound: False where ``cap`` is so large that a piece of the skeleton must be missing, ``(P,)``: skimage's
            ``skeletonize`` loses part or all of some straight, smooth tubes (scikit-image issue 3757).
        links: neighbours of every point.
        ends: points with one neighbour, off the border of the array.
    """

    centre: Points
    radius: Points
    cap: Points
    sound: NDArray[np.bool_]
    links: list[list[int]]
    ends: NDArray[np.int_]


def _skeleton(field: Field, spacing: Points) -> _Skeleton | None:
    """Skeleton of ``field < 0``; None where it is empty or has no free end."""
    inside = voxels_of(field < 0)
    low, high = inside.min(axis=0), inside.max(axis=0) + 1
    voxels = np.argwhere(skeletonize(field[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] < 0)) + low
    if not len(voxels):
        return None
    centre = voxels * spacing
    radius = np.maximum(-field[tuple(voxels.T)], spacing.min() / 2).astype(np.float64)
    distance, owner = cKDTree(centre).query(inside * spacing)
    cap = np.zeros(len(centre))
    np.maximum.at(cap, owner, distance)
    links = [[j for j in near if j != i] for i, near in enumerate(cKDTree(voxels).query_ball_point(voxels, 1.8))]
    border = (np.minimum(voxels, np.asarray(field.shape) - 1 - voxels) * spacing).min(axis=1)
    single = np.array([len(near) == 1 for near in links])
    ends = np.flatnonzero(single & (border > cap + spacing.max()))
    return _Skeleton(centre, radius, cap, cap < 2 * radius + 3.0, links, ends) if len(ends) else None


def _walk(skeleton: _Skeleton, end: int, length: float) -> list[int]:
    """Points from ``end`` inwards for ``length`` mm, or up to the wall of the vessel that the branch leaves."""
    path, travelled = [end], 0.0
    while travelled < length:
        onward = [n for n in skeleton.links[path[-1]] if n not in path]
        if len(onward) != 1:
            if onward:
                gap = np.linalg.norm(skeleton.centre[path] - skeleton.centre[path[-1]], axis=1)
                path = [p for p, far in zip(path, gap > skeleton.radius[path[-1]], strict=True) if far]
            break
        travelled += float(np.linalg.norm(skeleton.centre[onward[0]] - skeleton.centre[path[-1]]))
        path.append(onward[0])
    return path


def _clear(field: Field, spacing: Points, centre: Points, path: list[int], reach: float) -> None:
    """Empty the voxels within ``reach`` mm of the centreline points ``path`` that have no nearer centreline point."""
    low = np.maximum(np.floor((centre[path].min(axis=0) - reach) / spacing).astype(int), 0)
    high = np.minimum(np.ceil((centre[path].max(axis=0) + reach) / spacing).astype(int) + 1, field.shape)
    near = np.argwhere(field[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] < CLEARANCE) + low
    gone = np.zeros(len(centre) + 1, bool)  # one more than the points: the answer for "none within reach"
    gone[path] = True
    _, nearest = cKDTree(centre).query(near * spacing, distance_upper_bound=reach)
    field[tuple(near[gone[nearest]].T)] = max(float(field.max()), CLEARANCE)
