"""A closed mesh cut open at an end of a vessel: what lies beyond a plane goes, and a loop of edges in it stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from near_monai.exports.flat_ends import Cut, End
from near_monai.exports.surface_files import sides_of
from near_monai.geometry.coordinates import FloatArray

#: A vertex that is so near to the plane, in lengths of an edge, is moved onto it: no triangle becomes a sliver.
NEAR = 0.25
#: What is cut off reaches at most so many radii from the middle of the cut, plus so many mm.
REACH_RADII, REACH_MM = 2.5, 2.0

Opened = tuple[FloatArray, NDArray[np.int32], NDArray[np.intp]]


def opened(points: FloatArray, faces: NDArray[np.int32], cut: Cut, end: End, thick: float = 0.0) -> Opened | None:
    """A mesh without what lies beyond a cut.

    Args:
        points: ``(N, 3)``.
        faces: ``(M, 3)``, anticlockwise as seen from outside.
        cut: the plane.
        end: the end that lies beyond it.
        thick: mm by which the mesh lies outside the wall of the vessel.

    Returns:
        Points, of which the first ``N`` may have moved a little and more follow; faces; and the loop ``(K,)`` of
        points around the opening, anticlockwise as seen from beyond. ``None`` if the cut is not clean: it would take
        more than the end, or leave more than one loop.
    """
    height = cut.beyond(points)
    away = np.linalg.norm(points - cut.middle, axis=1)
    near = away <= REACH_RADII * cut.radius + REACH_MM + 2 * thick
    around = faces[near[faces].any(1)]
    edge = float(np.linalg.norm(points[around[:, 0]] - points[around[:, 1]], axis=1).mean())
    on = (np.abs(height) <= NEAR * edge) & (away <= 2 * (cut.radius + thick) + edge)
    height = np.where(on, 0.0, height)
    tip = _tip(points, around, height, end.points[-1] + (end.radius + thick) * cut.outward)
    if tip is None or not near[tip].all() or not _own(points[tip], end):
        return None
    gone = np.zeros(len(points), bool)
    gone[tip] = True
    moved = np.where(on[:, None], points - cut.beyond(points)[:, None] * cut.outward, points)
    return _clipped(moved, faces, gone, height)


def _tip(
    points: FloatArray, faces: NDArray[np.int32], height: FloatArray, target: FloatArray
) -> NDArray[np.intp] | None:
    """Vertices of ``faces`` that hang together beyond the plane, nearest to ``target``; ``None`` if none is beyond."""
    pairs = sides_of(faces)
    pairs = pairs[(height[pairs] > 0).all(1)]
    beyond = np.unique(pairs)
    if not len(beyond):
        return None
    graph = coo_array((np.ones(len(pairs)), np.searchsorted(beyond, pairs).T), (len(beyond),) * 2)
    part = connected_components(graph, directed=False)[1]
    nearest = np.linalg.norm(points[beyond] - target, axis=1).argmin()
    return beyond[part == part[nearest]]


def _own(points: FloatArray, end: End) -> bool:
    """Whether most of ``points`` belong to the vessel of ``end``."""
    if not len(end.others):
        return True
    own, others = (cKDTree(line).query(points)[0] for line in (end.points, end.others))
    return bool((own <= others).mean() > 0.5)


def _clipped(
    points: FloatArray, faces: NDArray[np.int32], gone: NDArray[np.bool_], height: FloatArray
) -> Opened | None:
    """The mesh without the vertices that are ``gone``; a triangle that loses some is cut where it crosses the plane."""
    lost = gone[faces].sum(1)
    cut = faces[(lost > 0) & (lost < 3)]
    kept = faces[lost == 0]
    new: dict[tuple[int, int], int] = {}
    extra: list[FloatArray] = []

    def crossing(before: int, beyond: int) -> int:
        if height[before] == 0:
            return before
        if (before, beyond) not in new:
            share = height[before] / (height[before] - height[beyond])
            new[before, beyond] = len(points) + len(extra)
            extra.append(points[before] + share * (points[beyond] - points[before]))
        return new[before, beyond]

    rims: list[tuple[int, int]] = []
    rest: list[list[int]] = []
    for face in cut.tolist():
        first = next(n for n in range(3) if not gone[face[n]] and gone[face[(n + 1) % 3]])
        a, b, c = face[first], face[(first + 1) % 3], face[(first + 2) % 3]  # a stays, b goes
        leaving = crossing(a, b)
        coming = crossing(a, c) if gone[c] else crossing(c, b)
        rims.append((leaving, coming))
        ring = list(dict.fromkeys([leaving, coming, a] if gone[c] else [leaving, coming, c, a]))
        rest += [ring[:3], [ring[0], *ring[2:]]] if len(ring) == 4 else [ring] if len(ring) == 3 else []
    loop = _loop([(b, a) for a, b in rims if a != b])
    if loop is None or _lies_in_it(kept, loop, height):
        return None
    together = np.concatenate([points, np.array(extra).reshape(-1, 3)])
    return together, np.concatenate([kept, np.array(rest, np.int32).reshape(-1, 3)]), loop


def _loop(edges: list[tuple[int, int]]) -> NDArray[np.intp] | None:
    """The points of directed ``edges`` in their order, if these make one simple loop."""
    after = dict(edges)
    if len(after) < len(edges) or len(set(after.values())) < len(edges) or len(edges) < 3:
        return None
    loop = [edges[0][0]]
    while len(loop) <= len(edges) and (following := after.get(loop[-1])) is not None and following != loop[0]:
        loop.append(following)
    return np.array(loop) if len(loop) == len(edges) else None


def _lies_in_it(faces: NDArray[np.int32], loop: NDArray[np.intp], height: FloatArray) -> bool:
    """Whether one of ``faces`` that touch the loop lies in the plane, and would lie on what closes it."""
    known = faces[np.isin(faces, loop[loop < len(height)]).any(1)]
    return bool((height[known] == 0).all(1).any())
