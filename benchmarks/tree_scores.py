"""How well trees of a map agree with a generated tree whose axes, radii and parents are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from near_monai.geometry.coordinates import FloatArray, Grid
from near_monai.phantoms.coronary import grow_tree, random_pose
from near_monai.phantoms.vessel_courses import Branch
from near_monai.trees.rooted_tree import RootedTree

#: A point of a true axis is found if a centreline passes within so many mm, or half its radius if that is more.
FOUND_MM = 1.0
#: A true branch counts if it is longer than this, and is found if at least this share of it is.
LONG_MM, FOUND_SHARE = 10.0, 0.5
#: An end is false if it lies further off the axes than this, or if the vessel is found for so many mm behind it.
OFF_MM, BEHIND_MM = 2.0, 3.0
#: A root is right within so many mm: a centreline ends a radius before a mask.
ROOT_MM = 5.0
#: mm between the points of true axes.
STEP_MM = 0.1


@dataclass(frozen=True, eq=False)
class Truth:
    """A generated tree.

    Attributes:
        points: ``(N, 3)`` mm on the axes of all branches, :data:`STEP_MM` apart.
        radius: ``(N,)`` mm.
        branch: ``(N,)`` the branch of each.
        arc: ``(N,)`` mm along its branch.
        parent: of every branch; -1 at a root.
        side: of every branch, 0 left.
    """

    points: FloatArray
    radius: FloatArray
    branch: NDArray[np.intp]
    arc: FloatArray
    parent: NDArray[np.intp]
    side: NDArray[np.intp]

    @classmethod
    def of(cls, seed: int, number: int) -> Truth:
        """The tree behind ``phantom_pair(seed, number, ...)``."""
        rng = np.random.default_rng((seed, number, 1))
        grown = grow_tree(rng)
        return cls.posed(grown.branches, grown.parents, random_pose(rng))

    @classmethod
    def posed(cls, branches: Mapping[str, Branch], parents: Mapping[str, str | None], pose: FloatArray) -> Truth:
        """``branches`` that leave their ``parents``, turned by ``pose``."""
        names, rows = list(branches), []
        for number, branch in enumerate(branches.values()):
            points = branch.points @ pose.T
            arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
            at = np.arange(0, arc[-1], STEP_MM)
            columns = [np.interp(at, arc, column) for column in (*points.T, branch.radius)]
            rows.append(np.stack([*columns, np.full(len(at), number), at], 1))
        table = np.concatenate(rows)
        parent = np.array([names.index(p) if (p := parents[name]) is not None else -1 for name in names])
        side = np.array([branch.side for branch in branches.values()])
        return cls(table[:, :3], table[:, 3], table[:, 4].astype(np.intp), table[:, 5], parent, side)

    @property
    def roots(self) -> FloatArray:
        """``(2, 3)`` mm."""
        return self.points[[int(np.flatnonzero(self.branch == b)[0]) for b in np.flatnonzero(self.parent < 0)]]


@dataclass(frozen=True, eq=False)
class Lines:
    """What a method found, in the frame of the truth.

    Attributes:
        points: ``(N, 3)`` mm.
        radius: ``(N,)`` mm.
        ends: ``(M, 3)`` where lines end, roots left out.
        roots: ``(K, 3)`` mm; none where a method knows no roots.
        part: ``(N,)`` the branch of every point, over all trees; -1 where a method knows no branches.
        parents: of every branch, -1 at a root.
    """

    points: FloatArray
    radius: FloatArray
    ends: FloatArray
    roots: FloatArray
    part: NDArray[np.intp]
    parents: NDArray[np.intp]


def lines_of_trees(trees: Sequence[RootedTree], grid: Grid) -> Lines:
    """Trees of an array on ``grid``."""
    points, radius, part, parents, ends = [], [], [], [], []
    for tree in trees:
        first = len(parents)
        for branch in tree.branches:
            points.append(branch.points)
            radius.append(branch.radius)
            part.append(np.full(len(branch.points), len(parents)))
            parents.append(-1 if branch.parent is None else first + branch.parent)
            if not tree.children(branch.id):
                ends.append(branch.points[-1])
    place = np.asarray(grid.origin)
    return Lines(
        np.concatenate(points) + place,
        np.concatenate(radius),
        np.array(ends).reshape(-1, 3) + place,
        np.array([tree.root for tree in trees]).reshape(-1, 3) + place,
        np.concatenate(part),
        np.array(parents),
    )


def scores(truth: Truth, found: Lines) -> dict[str, float]:
    """Figures of one case."""
    axis, lines = cKDTree(truth.points), cKDTree(found.points)
    away, nearest = axis.query(found.points)
    near = away <= np.maximum(FOUND_MM, truth.radius[nearest] / 2)
    relative = found.radius[near] / truth.radius[nearest[near]] - 1
    back, met = lines.query(truth.points)
    seen = back <= np.maximum(FOUND_MM, truth.radius / 2)
    long = [b for b in range(len(truth.parent)) if truth.arc[truth.branch == b].max() > LONG_MM]
    share = {b: float(seen[_clear(truth, b)].mean()) for b in long}
    kept = [b for b in long if share[b] >= FOUND_SHARE]
    row = {
        "centreline distance, mm": float((away[near].mean() + back[seen].mean()) / 2),
        "points off the axes": float(1 - near.mean()),
        "length found": float(seen.mean()),
        "radius error": float(np.abs(relative).mean()),
        "radius error but for the case's": float(np.abs((1 + relative) / (1 + np.median(relative)) - 1).mean()),
        "radius bias": float(relative.mean()),
        "long branches": len(long),
        "long branches found": len(kept),
        "false ends": _false_ends(truth, found.ends, seen, axis),
    }
    if len(found.roots):
        apart = np.linalg.norm(truth.roots[:, None] - found.roots, axis=2).min(1)
        row |= {"roots right": float((apart <= ROOT_MM).mean()), "parents": 0, "wrong parents": 0}
        owner = truth.branch[nearest]
        for b in kept:
            if truth.parent[b] >= 0:
                row["parents"] += 1
                row["wrong parents"] += not _parent_right(truth, b, found, owner, near, met, seen)
    return row


def _clear(truth: Truth, branch: int) -> NDArray[np.bool_]:
    """Points of a branch outside the lumen of its parent."""
    own = truth.branch == branch
    if truth.parent[branch] < 0:
        return own
    other = truth.branch == truth.parent[branch]
    away, nearest = cKDTree(truth.points[other]).query(truth.points[own])
    clear = own.copy()
    clear[own] = away > truth.radius[other][nearest]
    return clear if clear.any() else own


def _false_ends(truth: Truth, ends: FloatArray, seen: NDArray[np.bool_], axis: cKDTree) -> int:
    """Ends that lie off all axes, or at which a true vessel goes on and is found behind."""
    count = 0
    for away, at in zip(*axis.query(ends), strict=True):
        behind = (truth.branch == truth.branch[at]) & (truth.arc > truth.arc[at] + truth.radius[at])
        count += away > OFF_MM or bool(np.count_nonzero(seen & behind) * STEP_MM >= BEHIND_MM)
    return count


def _parent_right(
    truth: Truth,
    branch: int,
    found: Lines,
    owner: NDArray[np.intp],
    near: NDArray[np.bool_],
    met: NDArray[np.intp],
    seen: NDArray[np.bool_],
) -> bool:
    """Whether the way to the root from where ``branch`` begins leads to the true parent next."""
    there = np.flatnonzero(_clear(truth, branch) & seen)
    first = there[: max(len(there) // 3, 1)]
    part = int(np.bincount(found.part[met[first]]).argmax())
    while part >= 0:
        own = owner[(found.part == part) & near]
        most = int(np.bincount(own).argmax()) if len(own) else branch
        if most != branch:
            return most == truth.parent[branch]
        part = int(found.parents[part])
    return False
