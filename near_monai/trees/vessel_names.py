"""Which vessel of a tree whose side is known is which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from near_monai.geometry.coordinates import FloatArray
from near_monai.trees.large_vessels import extent, large_children, side_branches, trunk_of, vessel
from near_monai.trees.rooted_tree import Branch, RootedTree

#: Two forks are one within so many mm.
SAME_FORK_MM = 6.0
#: mm by which the one that lies further to the front makes it e times more probable that it is the LAD.
FRONT_MM = 6.0
#: A side branch has a name if it is at least so long, in mm, with all that it carries.
NAMED_MM = 8.0
#: mm along their vessels at which marginals leave: nearer to the root it may be another branch of the left main, or the
#: conus branch; further away posterior ones.
OBTUSE_MM, ACUTE_MM = (SAME_FORK_MM, 105.0), (20.0, 105.0)
#: A branch of the LAD that is shorter than this, in mm, and sets out so straight (cosine) towards the middle of the
#: heart may be a septal one.
SEPTAL_MM, INWARD = 25.0, 0.3
#: mm of a branch that tell where it sets out to.
SETS_OUT_MM = 10.0
#: Share of the length of what gets a name that has it in truth, by Laplace's rule of succession, on 24 generated trees
#: without noise that decided nothing else (benchmarks.trees, seed 31).
RIGHT_NAMES = {"LM": 0.87, "LAD": 0.92, "LCX": 0.92, "RCA": 0.91, "D": 0.96, "OM": 0.96, "AM": 0.94}
#: What they are in maps and VTP files, where a vessel without a name is 8, and 0 in a VTP.
NAME_NUMBERS = {name: number for number, name in enumerate(RIGHT_NAMES, 1)}
NAMELESS = len(NAME_NUMBERS) + 1


def middle_of(trees: Sequence[RootedTree]) -> FloatArray:
    """Mean ``(3,)`` of all points of ``trees``, world mm."""
    return np.asarray(np.concatenate([branch.points for tree in trees for branch in tree.branches]).mean(0))


def named_left(tree: RootedTree, heart: FloatArray) -> RootedTree:
    """The left tree with the names of its vessels.

    Of the two vessels after the main stem the front one is the LAD, whose branches are diagonals (D), the other one the
    LCX, whose branches are obtuse marginals (OM). ``heart`` ``(3,)`` is its middle, world mm.
    """
    trunk = trunk_of(tree)
    ways = {first: vessel(tree, first) for first in _after_the_main(tree, trunk[-1])}
    front = {first: float(_points(tree, way)[:, 1].mean()) for first, way in ways.items()}
    order = sorted(front, key=front.__getitem__)
    gap = front[order[-1]] - front[order[0]]
    order_right = float(1 / (1 + np.exp(-gap / FRONT_MM)))
    lad, lcx = ways[order[-1]], ways[order[0]]
    names = dict.fromkeys(trunk, "LM") | dict.fromkeys(lad, "LAD") | dict.fromkeys(lcx, "LCX")
    for along, first in side_branches(tree, lad):
        if along >= SAME_FORK_MM and extent(tree, first) >= NAMED_MM and not _may_be_septal(tree, first, heart):
            names |= dict.fromkeys(vessel(tree, first), "D")
    names |= _marginals(tree, lcx, "OM", OBTUSE_MM)
    return replace(tree, side="left", branches=_named(tree, names, order_right))


def named_right(tree: RootedTree) -> RootedTree:
    """The right tree, its main vessel, and the acute marginals (AM) that leave it."""
    rca = vessel(tree, 0)
    names = dict.fromkeys(rca, "RCA") | _marginals(tree, rca, "AM", ACUTE_MM)
    return replace(tree, side="right", branches=_named(tree, names, 1.0))


def _after_the_main(tree: RootedTree, number: int) -> list[int]:
    """The large vessels after branch ``number``; a fork soon after it counts as the same one, which has three."""
    found = []
    for child in large_children(tree, number):
        again = large_children(tree, child.id) if child.length <= SAME_FORK_MM else []
        found += [branch.id for branch in again] if len(again) > 1 else [child.id]
    return found


def _marginals(tree: RootedTree, own: list[int], name: str, where: tuple[float, float]) -> dict[int, str]:
    found: dict[int, str] = {}
    for along, first in side_branches(tree, own):
        if where[0] <= along <= where[1] and extent(tree, first) >= NAMED_MM:
            found |= dict.fromkeys(vessel(tree, first), name)
    return found


def _may_be_septal(tree: RootedTree, first: int, heart: FloatArray) -> bool:
    branch = tree.branches[first]
    way = branch.points[int(np.searchsorted(branch.arc, min(SETS_OUT_MM, branch.length)))] - branch.points[0]
    inward = heart - branch.points[0]
    cosine = way @ inward / max(float(np.linalg.norm(way) * np.linalg.norm(inward)), 1e-9)
    return bool(extent(tree, first) < SEPTAL_MM and cosine > INWARD)


def _named(tree: RootedTree, names: dict[int, str], order_right: float) -> tuple[Branch, ...]:
    """The branches with their ``names``; which of LAD and LCX is which is as probable as ``order_right``."""
    found = []
    for branch in tree.branches:
        name = names.get(branch.id)
        sure = RIGHT_NAMES.get(name or "", 0.0) * (1.0 if name in ("LM", "RCA", "AM") else order_right)
        found.append(replace(branch, name=name, name_probability=round(sure, 3) if name else None))
    return tuple(found)


def _points(tree: RootedTree, branches: Sequence[int]) -> FloatArray:
    return np.concatenate([tree.branches[number].points for number in branches])
