"""The trees of one label map."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from near_monai.anatomy import Anatomy, table_of
from near_monai.data.class_selection import (
    AUTO,
    FOREGROUND,
    OneClass,
    Wanted,
    choose_label,
    mask_of,
    parse_class,
)
from near_monai.formats.given_images import label_map
from near_monai.formats.label_maps import LabelMap
from near_monai.formats.voxel_values import values_in
from near_monai.geometry.boxes import Box, box_of, voxels_of
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.smooth_distance import REACH, smooth_distance
from near_monai.geometry.units import check_units
from near_monai.trees.centred_tree import lines_of, pieces_of
from near_monai.trees.cross_sections import Wall
from near_monai.trees.rooted_tree import Branch, RootedTree, with_angles
from near_monai.trees.roots import AORTA_MM, Roots, chosen
from near_monai.trees.sides import orientation_known, with_sides
from near_monai.trees.vessel_names import NAME_NUMBERS, NAMELESS
from near_monai.trees.vessel_paths import Lumen
from near_monai.trees.vessels import vessels_of

#: A component of fewer voxels is no evidence of a vessel.
LEAST_VOXELS = 10
#: mm up to which it is told how deep a voxel lies; twice as far as long as more than this share of it is needed.
DEEPEST_MM, NEEDED = 4.0, 0.85
AORTA = "aorta"
#: What a voxel of a tree is in the map of sides.
LEFT, RIGHT, UNKNOWN = 1, 2, 3


@dataclass(frozen=True, eq=False)
class Found:
    """What a label map holds.

    Attributes:
        trees: its trees, longest first.
        parts: ``(N, 3)`` voxels of each.
        left_out: components that are too short to have a centreline.
        label: the class that they are of; ``None`` of an empty map.
        wall: their wall, in the mm frame of the map's grid; ``None`` of an empty map.
    """

    trees: list[RootedTree]
    parts: list[NDArray[np.intp]]
    left_out: int
    label: OneClass | None
    wall: Wall | None = None


def tree(
    label: Any, spacing: ArrayLike | None = None, which: int | str = AUTO, table: str | Path | None = None
) -> list[RootedTree]:
    """The vessels of a label map as rooted trees: centrelines, radii, branches.

    Args:
        label: see :func:`near_monai.refine`: an array, an image of nibabel or SimpleITK, or the path of a file.
        spacing: ``(3,)`` voxel size in mm of an array; its points are in mm along its axes then.
        which: class of the vessels; ``"fg"`` for all above 0; ``"auto"`` for the only class, else coronary.
        table: anatomy table; ``None`` for the heart's.

    Returns:
        One tree per component that is long enough for a centreline, longest first, in world mm (RAS). Sides are
        ``None`` for an array, which does not say where left is.

    Raises:
        NearError: not a label map, no such class, or a spacing that cannot be in mm.

    Example:
        >>> import near_monai
        >>> trees = near_monai.tree("case_1.nii.gz")
        >>> root = trees[0].branches[0]
        >>> root.parent is None, root.points.shape[1], len(root.points) == len(root.radius)
        (True, 3, True)
    """
    return trees_in(label_map(label, spacing), parse_class(which), table_of(table), "label map").trees


def trees_in(file: LabelMap, wanted: Wanted, anatomy: Anatomy, where: str) -> Found:
    """All trees of a map.

    Args:
        file: the map.
        wanted: class of the vessels.
        anatomy: the table that says which class the aorta is.
        where: name of the map for messages.

    Raises:
        NearError: it is empty, has no such class, or its spacing cannot be in mm.
    """
    label = choose_label(file.array, wanted, where, anatomy)
    mask = mask_of(file.array, label)
    box = box_of(mask)
    check_units(box, file.grid.spacing, 1.0, where)
    grid = Grid.of(np.add(box.shape, 2 * REACH), file.grid.spacing, file.grid.to_mm(np.subtract(box.start, REACH)))
    inside = np.pad(mask[box.slices()], REACH)
    found = Components.of(inside)
    wall = Wall(_deep_distance(inside, grid), grid)
    aorta = _aorta(file, label, anatomy, box)
    parts = [part for part in found.parts if len(part) >= LEAST_VOXELS]
    ends = [Roots(Lumen.of(part, wall.smooth, grid), aorta) for part in parts]
    grown = [(part, _grown(of, root, wall)) for part, of, root in zip(parts, ends, chosen(ends), strict=True)]
    placed = [(part + np.subtract(box.start, REACH), _in_world(tree, file)) for part, tree in grown if tree is not None]
    placed.sort(key=lambda pair: -pair[1].length)
    trees = with_sides([tree for _, tree in placed], orientation_known(file))
    if label is FOREGROUND and len(values_in(file.array[box.slices()])) > 2:
        trees = [_with_labels(tree, file) for tree in trees]
    return Found(trees, [part for part, _ in placed], len(found) - len(trees), label, wall)


def side_map(found: Found, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A map of ``shape``: 1 in the voxels of the left tree, 2 of the right one, 3 of those whose side is not known."""
    sides = np.zeros(shape, np.uint8)
    number = {"left": LEFT, "right": RIGHT, None: UNKNOWN}
    for tree, part in zip(found.trees, found.parts, strict=True):
        sides[tuple(part.T)] = number[tree.side]
    return sides


def name_map(found: Found, file: LabelMap) -> NDArray[np.uint8] | None:
    """A map of the names of vessels, by :data:`NAME_NUMBERS`; ``None`` if no vessel has one.

    A voxel belongs to the branch of which a ball reaches deepest around it (power distance): near a fork the wide
    vessel keeps its lumen.
    """
    if not any(branch.name for tree in found.trees for branch in tree.branches):
        return None
    names = np.zeros(file.array.shape, np.uint8)
    for tree, part in zip(found.trees, found.parts, strict=True):
        points = np.concatenate([branch.points for branch in tree.branches])
        radius = np.concatenate([branch.radius for branch in tree.branches])
        number = np.concatenate(
            [np.full(len(branch.points), NAME_NUMBERS.get(branch.name or "", NAMELESS)) for branch in tree.branches]
        )
        lift = np.sqrt(radius.max() ** 2 - radius**2)  # as a fourth coordinate it makes the distance that to the ball
        voxels = np.pad(apply_affine(file.affine, part), ((0, 0), (0, 1)))
        names[tuple(part.T)] = number[cKDTree(np.column_stack([points, lift])).query(voxels)[1]]
    return names


def _deep_distance(inside: NDArray[np.bool_], grid: Grid) -> NDArray[np.float32]:
    """The smooth distance of a mask, down to its deepest voxel."""
    reach = DEEPEST_MM
    while (smooth := smooth_distance(inside, grid.spacing, reach)).min() < -NEEDED * reach:
        reach *= 2
    return smooth


def _aorta(file: LabelMap, label: OneClass, anatomy: Anatomy, box: Box) -> cKDTree | None:
    """The voxels of the aorta near ``box``, if the table has an aorta and the map shows it as another class."""
    rows = [row for row in anatomy.structures if row.name == AORTA and row.index != label]
    if label is FOREGROUND or not rows:
        return None
    near = box.grow(int(np.ceil(AORTA_MM / min(file.grid.spacing))), file.grid.shape)
    voxels = voxels_of(file.array[near.slices()] == rows[0].index)
    return cKDTree(file.grid.to_mm(voxels + near.start)) if len(voxels) else None


def _grown(of: Roots, root: int, wall: Wall) -> RootedTree | None:
    """The tree of a component in the mm frame of the grid; ``None`` if it is not longer than wide."""
    pieces = pieces_of(lines_of(vessels_of(of.lumen, root), of.lumen, wall))
    if not pieces:
        return None
    branches: list[Branch] = []
    for number, piece in enumerate(pieces):
        before = None if piece.parent is None else branches[piece.parent]
        generation = 0 if before is None else before.generation + 1
        branches.append(Branch(number, piece.parent, piece.points, piece.radius, generation, piece.straight_on))
    tree = RootedTree(tuple(branches), AORTA if of.at_aorta else "thick end")
    return tree if tree.length >= 2 * branches[0].radius.max() else None


def _in_world(tree: RootedTree, file: LabelMap) -> RootedTree:
    placed = [
        replace(branch, points=apply_affine(file.affine, file.grid.to_voxel(branch.points))) for branch in tree.branches
    ]
    return replace(tree, branches=with_angles(placed))


def _with_labels(tree: RootedTree, file: LabelMap) -> RootedTree:
    """The tree with the class that most points of every branch lie in."""
    inverse = np.linalg.inv(file.affine)
    labelled = []
    for branch in tree.branches:
        voxels = np.round(apply_affine(inverse, branch.points)).astype(int)
        values = file.array[tuple(np.clip(voxels, 0, np.subtract(file.array.shape, 1)).T)]
        counts = np.bincount(values[values > 0], minlength=1)
        labelled.append(replace(branch, label=int(counts.argmax()) or None))
    return replace(tree, branches=tuple(labelled))
