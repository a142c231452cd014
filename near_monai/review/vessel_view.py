"""The refined vessels of a case for the 3-D view: their smooth surface, and branches with what was changed on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from scipy.spatial import cKDTree

from near_monai.anatomy import Anatomy
from near_monai.data.class_selection import mask_of
from near_monai.formats.label_maps import LabelMap
from near_monai.geometry.coordinates import FloatArray
from near_monai.review.class_looks import Look
from near_monai.review.surface_scene import Mesh, level_set
from near_monai.review.undoable_edits import Edit
from near_monai.runs.run_records import Row
from near_monai.trees.one_map import trees_in
from near_monai.trees.rooted_tree import Branch, RootedTree

#: Edge of a cell of the surface in mm.
CELL_MM = 0.7
#: A voxel of an edit belongs to a place of a centreline within so many radii of it; walls lie one radius away.
NEAR_RADII = 1.5


@dataclass(frozen=True, eq=False)
class Vessels:
    """The vessels of one class.

    Attributes:
        surface: their wall.
        branches: a record per branch: ``name``, ``points`` ``(N, 3)`` in world mm, ``radius`` ``(N,)`` and ``length``
            in mm, and ``changed``: name and kind of edits, and from where to where along the branch they reach, in mm.
    """

    surface: Mesh
    branches: list[dict[str, Any]]


def has_trees(part: Row, anatomy: Anatomy) -> bool:
    """Whether a class is shown as trees: vessels as fine as coronary arteries are; an aorta would take ten seconds."""
    tubular = {structure.name for structure in anatomy.structures if structure.tubular}
    return part["scale"] == 1 and part.get("structure", part.get("name")) in tubular


def vessels_in(file: LabelMap, look: Look, edits: Sequence[Edit], anatomy: Anatomy) -> Vessels | None:
    """The vessels of a class of a refined map, if it holds any.

    Args:
        file: the map.
        look: the class.
        edits: what was changed in it.
        anatomy: the table that says which class the aorta is.

    Raises:
        NearError: the spacing of the map cannot be in mm.
    """
    if not mask_of(file.array, look.label).any():
        return None
    found = trees_in(file, look.label, anatomy, str(file.path))
    meshed = level_set(found.wall.smooth, found.wall.grid, CELL_MM) if found.wall else None
    if meshed is None:
        return None
    points, faces = meshed
    name = f"after {look.name}".rstrip()
    surface = Mesh(name, apply_affine(file.affine, file.grid.to_voxel(points)), faces, look.colour, clear=True)
    branches = [branch for tree in found.trees for branch in tree.branches]
    changed = _changed(branches, [edit for edit in edits if edit.label == look.label], file)
    names = [name for number, tree in enumerate(found.trees, 1) for name in _names(tree, number, look)]
    records = [
        {
            "name": name,
            "points": np.round(branch.points, 2).tolist(),
            "radius": np.round(branch.radius, 3).tolist(),
            "length": branch.length,
            "changed": stretches,
        }
        for name, branch, stretches in zip(names, branches, changed, strict=True)
    ]
    return Vessels(surface, records)


def _names(tree: RootedTree, number: int, look: Look) -> Iterator[str]:
    """What branches are called: their vessel or segment, if it is known, and their number in the tree."""
    for branch in tree.branches:
        known = branch.name or (None if branch.label is None else f"label {branch.label}")
        words = [look.name, tree.side or f"tree {number}", f"branch {branch.id}", f"({known})" if known else ""]
        yield " ".join(filter(None, words))


def _changed(branches: Sequence[Branch], edits: Sequence[Edit], file: LabelMap) -> list[list[Row]]:
    """Per branch the stretches that were added or bridged.

    Every voxel of an edit belongs to the nearest point of all centrelines.
    """
    found: list[list[Row]] = [[] for _ in branches]
    if not branches:
        return found
    points, radius, arc = (
        np.concatenate([getattr(branch, what) for branch in branches]) for what in ("points", "radius", "arc")
    )
    owner = np.repeat(np.arange(len(branches)), [len(branch.points) for branch in branches])
    tree = cKDTree(points)
    for edit in edits:
        if edit.kind not in ("added", "bridged"):
            continue
        apart, nearest = tree.query(apply_affine(file.affine, edit.voxels))
        there = np.unique(nearest[apart <= NEAR_RADII * radius[nearest] + max(file.grid.spacing) / 2])
        numbers = np.unique(owner[there]).tolist()
        for number in numbers:
            at: FloatArray = arc[there[owner[there] == number]]
            if len(at) == 1 < len(numbers):
                continue  # a fork is the end of several branches
            stretch = [round(float(x), 1) for x in (at.min(), at.max())]
            found[number].append({"name": edit.name, "kind": edit.kind, "from_to": stretch})
    return found
