"""Which tree is the left one, and which vessel is which: only where orientation and shape agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np

from near_monai.formats.label_maps import LabelMap
from near_monai.geometry.coordinates import FloatArray
from near_monai.trees.rooted_tree import Branch, RootedTree

#: A tree that is shorter than this, in mm, may be a part of one.
WHOLE_MM = 60.0
#: What follows a fork is a large vessel if it is at least so long, in mm, with all its branches.
LARGE_MM = 25.0
#: The left main forks into two large vessels within so many mm; 6 to 25 in anatomy, on generated trees below 15.
LEFT_FORK_MM = 25.0
#: Two forks are one within so many mm.
SAME_FORK_MM = 6.0
#: The right one goes without a large fork for at least so many mm, or all its length.
RIGHT_FORK_MM = 30.0
#: mm by which the left tree must lie further to the left than the right one.
APART_MM = 10.0
#: A position is none if the origin, or the middle of the volume, is 0 to so many voxels: programs write that which know
#: no other.
MADE_UP_VOXELS = 1.0
#: mm by which the one that lies further to the front makes it e times more probable that it is the LAD.
FRONT_MM = 6.0
#: Share of the length of what gets a name that has it in truth, on 24 generated trees that decided nothing else
#: (benchmarks.trees, seed 12).
RIGHT_NAMES = {"LM": 0.91, "LAD": 0.93, "LCX": 0.89, "RCA": 0.94}


def orientation_known(file: LabelMap) -> bool:
    """Whether a map says where left is: its header claims it, and its position is one that a scanner gives."""
    header: Any = file.header
    if isinstance(header, nib.Nifti1Header) and not (int(header["qform_code"]) or int(header["sform_code"])):
        return False
    step = np.linalg.norm(file.affine[:3, :3], axis=0).max() * MADE_UP_VOXELS
    middle = file.affine[:3] @ [*(np.asarray(file.array.shape) / 2), 1]
    return bool(np.abs(file.affine[:3, 3]).max() > step and np.abs(middle).max() > step)


def with_sides(trees: Sequence[RootedTree], known: bool) -> list[RootedTree]:
    """``trees`` with the sides and names of the two large ones, or without any where that cannot be told.

    Args:
        trees: all of a map.
        known: whether the map says where left is.
    """
    large = [tree for tree in trees if tree.length >= WHOLE_MM]
    if not known or len(large) != 2:
        return list(trees)
    left, right = sorted(large, key=_first_fork)
    shape = _first_fork(left) <= LEFT_FORK_MM and _first_fork(right) >= RIGHT_FORK_MM
    place = _middle(right)[0] - _middle(left)[0] >= APART_MM  # RAS: x grows to the right
    if not (shape and place):
        return list(trees)
    named = {id(left): _named_left(left), id(right): _named_right(right)}
    return [named.get(id(tree), tree) for tree in trees]


def _middle(tree: RootedTree) -> FloatArray:
    """Mean ``(3,)`` of all points, world mm."""
    return np.asarray(np.concatenate([branch.points for branch in tree.branches]).mean(0))


def _extent(tree: RootedTree, number: int) -> float:
    """Mm of branch ``number`` and everything behind it."""
    behind = sum(_extent(tree, child.id) for child in tree.children(number))
    return tree.branches[number].length + behind


def _large_children(tree: RootedTree, number: int) -> list[Branch]:
    return [child for child in tree.children(number) if _extent(tree, child.id) >= LARGE_MM]


def _trunk(tree: RootedTree) -> list[int]:
    """Branches from the root to the first fork into several large vessels."""
    trunk = [0]
    while len(large := _large_children(tree, trunk[-1])) == 1:
        trunk.append(large[0].id)
    return trunk


def _after_the_main(tree: RootedTree, number: int) -> list[int]:
    """The large vessels after branch ``number``; a fork soon after it counts as the same one, which has three."""
    found = []
    for child in _large_children(tree, number):
        again = _large_children(tree, child.id) if child.length <= SAME_FORK_MM else []
        found += [branch.id for branch in again] if len(again) > 1 else [child.id]
    return found


def _first_fork(tree: RootedTree) -> float:
    """Mm from the root to the first fork into several large vessels; infinite if there is none."""
    trunk = _trunk(tree)
    if not _large_children(tree, trunk[-1]):
        return float("inf")
    return sum(tree.branches[number].length for number in trunk)


def _named_left(tree: RootedTree) -> RootedTree:
    """The left tree, its main stem, and of the two vessels after it the front one as LAD and the other as LCX."""
    trunk = _trunk(tree)
    ways = {first: _vessel(tree, first) for first in _after_the_main(tree, trunk[-1])}
    front = {first: float(_points(tree, way)[:, 1].mean()) for first, way in ways.items()}
    order = sorted(front, key=front.__getitem__)
    gap = front[order[-1]] - front[order[0]]
    order_right = float(1 / (1 + np.exp(-gap / FRONT_MM)))
    names = dict.fromkeys(trunk, "LM") | dict.fromkeys(ways[order[-1]], "LAD") | dict.fromkeys(ways[order[0]], "LCX")
    return replace(tree, side="left", branches=_named(tree, names, order_right))


def _named_right(tree: RootedTree) -> RootedTree:
    return replace(tree, side="right", branches=_named(tree, dict.fromkeys(_vessel(tree, 0), "RCA"), 1.0))


def _named(tree: RootedTree, names: dict[int, str], order_right: float) -> tuple[Branch, ...]:
    """The branches with their ``names``; which of LAD and LCX is which is as probable as ``order_right``."""
    found = []
    for branch in tree.branches:
        name = names.get(branch.id)
        sure = RIGHT_NAMES.get(name or "", 0.0) * (order_right if name in ("LAD", "LCX") else 1.0)
        found.append(replace(branch, name=name, name_probability=round(sure, 3) if name else None))
    return tuple(found)


def _vessel(tree: RootedTree, first: int) -> list[int]:
    """Branch ``first`` and those that go on its vessel."""
    found = [first]
    while after := [child.id for child in tree.children(found[-1]) if child.goes_on]:
        found.append(after[0])
    return found


def _points(tree: RootedTree, branches: Sequence[int]) -> FloatArray:
    return np.concatenate([tree.branches[number].points for number in branches])
