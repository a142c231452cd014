"""Which tree is the left one: only where orientation and shape agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np

from near_monai.formats.label_maps import LabelMap
from near_monai.trees.large_vessels import first_fork
from near_monai.trees.rooted_tree import RootedTree
from near_monai.trees.vessel_names import middle_of, named_left, named_right

#: A tree that is shorter than this, in mm, may be a part of one.
WHOLE_MM = 60.0
#: The left main forks into two large vessels within so many mm; 6 to 25 in anatomy, on generated trees below 15.
LEFT_FORK_MM = 25.0
#: The right one goes without a large fork for at least so many mm, or all its length.
RIGHT_FORK_MM = 30.0
#: mm by which the left tree must lie further to the left than the right one.
APART_MM = 10.0
#: A position is none if the origin, or the middle of the volume, is 0 to so many voxels: programs write that which know
#: no other.
MADE_UP_VOXELS = 1.0


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
    left, right = sorted(large, key=first_fork)
    shape = first_fork(left) <= LEFT_FORK_MM and first_fork(right) >= RIGHT_FORK_MM
    place = middle_of([right])[0] - middle_of([left])[0] >= APART_MM  # RAS: x grows to the right
    if not (shape and place):
        return list(trees)
    heart = middle_of(large)
    named = {id(left): named_left(left, heart), id(right): named_right(right)}
    return [named.get(id(tree), tree) for tree in trees]
