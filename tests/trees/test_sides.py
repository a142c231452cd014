"""Left and right: right where a map says where left is and its shape agrees, and nothing otherwise."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy.spatial import cKDTree

import near_monai
from near_monai.cli import main
from near_monai.formats.label_maps import LabelMap, read_label
from near_monai.phantoms.coronary import grow_tree
from near_monai.phantoms.exact_shapes import NamedShape, Phantom, RoundCones
from near_monai.trees.rooted_tree import RootedTree
from near_monai.trees.sides import orientation_known
from near_monai.trees.vessel_names import NAME_NUMBERS, NAMELESS

#: Where the base of a generated heart, and the groove on its front, point to in a patient (RAS).
BASE, GROOVE = np.array([0.62, -0.45, 0.64]), np.array([-0.35, 0.9, 0.1])
SPACING, PLACE = 0.7, np.array([31.0, -22.0, 510.0])
Given = tuple[NDArray[np.uint8], NDArray[np.float64], RoundCones, list[str]]


@pytest.fixture(scope="module")
def heart() -> Given:
    """A map of two trees as they lie in a patient, its affine, the cones in the world, and names of their branches."""
    up = BASE / np.linalg.norm(BASE)
    front = GROOVE - (GROOVE @ up) * up
    front /= np.linalg.norm(front)
    grown = grow_tree(np.random.default_rng((77, 0)))
    cones = grown.cones(np.stack([front, np.cross(up, front), up], 1))
    phantom = Phantom((NamedShape("coronary", 9, cones),))
    grid = phantom.grid((SPACING,) * 3, 3.0)
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = grid.origin + PLACE
    inside = phantom.signed_distance(grid, 2.0, 9) < 0
    moved = replace(cones, start=cones.start + PLACE, end=cones.end + PLACE)
    return inside.astype(np.uint8) * np.uint8(9), affine, moved, list(grown.branches)


def true_side(tree: RootedTree, cones: RoundCones) -> str:
    return ("left", "right")[int(cones.side[cKDTree(cones.start).query(tree.root)[1]])]


def test_sides_and_names(heart: Given) -> None:
    array, affine, cones, _ = heart
    trees = near_monai.tree(nib.Nifti1Image(array, affine))
    assert {tree.side for tree in trees} == {"left", "right"}
    assert all(tree.side == true_side(tree, cones) for tree in trees)
    left, right = sorted(trees, key=lambda tree: str(tree.side))
    assert {"LM", "LAD", "LCX", "D", "OM"} == {branch.name for branch in left.branches} - {None}
    assert {"RCA"} <= {branch.name for branch in right.branches} <= {"RCA", "AM", None}
    for branch in left.branches + right.branches:
        assert (branch.name is None) == (branch.name_probability is None)
        assert branch.name_probability is None or 0.4 < branch.name_probability < 1


def test_names_as_a_map(heart: Given, tmp_path: Path) -> None:
    array, affine, cones, names = heart
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "a.nii.gz")
    affine_of_nobody = np.diag([SPACING, SPACING, SPACING, 1.0])
    nib.save(nib.Nifti1Image(array, affine_of_nobody), tmp_path / "b.nii.gz")
    with pytest.raises(SystemExit) as end:
        main(["tree", str(tmp_path), "-o", str(tmp_path / "out"), "--write-labels", "--quiet"])
    assert not end.value.code
    written = read_label(tmp_path / "out" / "names" / "a.nii.gz")
    np.testing.assert_array_equal(written.array > 0, array > 0)
    voxels = np.argwhere(array > 0)
    true = cones.branch[cKDTree((cones.start + cones.end) / 2).query(apply_affine(affine, voxels))[1]]
    number = {name: NAME_NUMBERS.get(name.split()[0].rstrip("123"), NAMELESS) for name in names}
    given, right = written.array[tuple(voxels.T)], np.array([number[names[n]] for n in true])
    for name in ("LM", "LAD", "LCX", "RCA", "D", "OM"):
        own = given == NAME_NUMBERS[name]
        assert (right[own] == NAME_NUMBERS[name]).mean() > 0.8, name
    assert not (tmp_path / "out" / "names" / "b.nii.gz").exists(), "no names where nothing says where left is"
    assert set(np.unique(read_label(tmp_path / "out" / "sides" / "b.nii.gz").array)) == {0, 3}


def test_it_abstains(heart: Given) -> None:
    array, affine, *_ = heart
    for trees in (
        near_monai.tree(array, (SPACING,) * 3),  # nothing says where left is
        near_monai.tree(nib.Nifti1Image(array, np.diag([-1, 1, 1, 1]) @ affine)),  # a mirror: place contradicts shape
    ):
        assert [tree.side for tree in trees] == [None, None]
        assert all(branch.name is None for tree in trees for branch in tree.branches)


def test_made_up_positions() -> None:
    array = np.zeros((20, 30, 40), np.uint8)
    real = np.diag([-0.5, -0.5, 0.6, 1.0])
    real[:3, 3] = [80.5, 60, -900]
    assert orientation_known(LabelMap.from_array(array, real))
    for place in ((0, 0, 0), (0.2, 0, -0.1), (5, 7.5, -12)):
        made_up = real.copy()
        made_up[:3, 3] = place
        assert not orientation_known(LabelMap.from_array(array, made_up)), place
    unknown = nib.Nifti1Header()
    assert not orientation_known(LabelMap.from_array(array, real, header=unknown))
