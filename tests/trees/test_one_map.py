"""Trees of maps: bodies whose axes, radii and forks are known."""

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy.spatial import cKDTree

import near_monai
from near_monai.anatomy import HEART
from near_monai.data.class_selection import AUTO
from near_monai.datasets.coronary_cases import phantom_pair
from near_monai.errors import NearError
from near_monai.formats.label_maps import LabelMap
from near_monai.geometry.coordinates import Grid
from near_monai.phantoms.coronary import coronary_tree
from near_monai.phantoms.exact_shapes import NamedShape, Phantom, RoundCones
from near_monai.trees.one_map import trees_in
from near_monai.trees.rooted_tree import RootedTree

SPACING = (0.4, 0.45, 0.6)
#: Ends, and radii there, of the cones of a Y: a stem of 30 mm, and branches of 25 and 18 mm.
Cone = tuple[Sequence[float], Sequence[float], float, float]
STEM: Cone = ([0, 0, 0], [30, 0, 0], 2.0, 1.7)
ONE: Cone = ([30, 0, 0], [52, 11, 3], 1.5, 1.2)
OTHER: Cone = ([30, 0, 0], [42, -13, 2], 1.0, 0.8)


def drawn(cones: Sequence[Cone]) -> tuple[NDArray[np.bool_], Grid]:
    start, end, r0, r1 = (np.array(column, float) for column in zip(*cones, strict=True))
    count = np.arange(len(cones))
    phantom = Phantom((NamedShape("y", 9, RoundCones(start, end, r0, r1, count, 0 * count)),))
    grid = phantom.grid(SPACING, 3.0)
    return phantom.signed_distance(grid, 2.0, 9) < 0, grid


def in_mm(points: NDArray[np.floating], grid: Grid) -> NDArray[np.floating]:
    """Points of a tree of an array, in the frame of its phantom."""
    return grid.to_mm(points / np.asarray(grid.spacing))


def test_a_y_has_its_parents_lengths_radii_and_angle() -> None:
    mask, grid = drawn([STEM, ONE, OTHER])
    (tree,) = near_monai.tree(mask, SPACING)
    assert tree.side is None and tree.root_at == "thick end"
    stem, one, other = tree.branches
    assert (stem.parent, one.parent, other.parent) == (None, 0, 0)
    assert (stem.generation, one.generation, one.goes_on, other.goes_on) == (0, 1, True, False)
    np.testing.assert_allclose(in_mm(tree.root, grid), STEM[0], atol=0.7)
    for branch, (start, end, r0, r1) in zip((stem, one, other), (STEM, ONE, OTHER), strict=True):
        points, way = in_mm(branch.points, grid), np.subtract(end, start)
        length = float(np.linalg.norm(way))
        share = (points - start) @ way / length**2
        off = np.linalg.norm(points - start - share[:, None] * way, axis=1)
        assert off.mean() < 0.15, "the line is that of the cone"
        assert branch.length == pytest.approx(length, abs=1.0)
        clear = (share > 0.2) & (share < 0.9)
        np.testing.assert_allclose(branch.radius[clear], (r0 + (r1 - r0) * share)[clear], rtol=0.06)
        assert branch.radius.min() == pytest.approx(r1, rel=0.1)
        assert branch.taper == pytest.approx((r0 - r1) / length, abs=0.01)
        assert branch.tortuosity == pytest.approx(1, abs=0.02)
    ways = [np.subtract(end, start) / np.linalg.norm(np.subtract(end, start)) for start, end, *_ in (ONE, OTHER)]
    angle = np.degrees(np.arccos(ways[0] @ ways[1]))
    assert one.angle == pytest.approx(angle, abs=8) and other.angle == one.angle and np.isnan(stem.angle)


def test_a_loop_is_cut_and_a_bump_is_no_branch() -> None:
    angle = np.linspace(0, 2 * np.pi, 41)[:-1]
    ring = np.stack([12 * np.cos(angle), 12 * np.sin(angle), 0 * angle], 1)
    cones: list[Cone] = [(a.tolist(), b.tolist(), 1.2, 1.2) for a, b in zip(ring, np.roll(ring, -1, 0), strict=True)]
    mask, _ = drawn([*cones, ([12, 0, 0], [30, 0, 0], 1.8, 1.6), ([20, 0, 0], [20, 1.5, 0], 1.5, 1.0)])
    (tree,) = near_monai.tree(mask, SPACING)
    assert len(tree.branches) == 3, "the stem, and the two arms of the ring"
    assert [branch.parent for branch in tree.branches] == [None, 0, 0]
    assert tree.length == pytest.approx(18 + 2 * np.pi * 12, rel=0.1)


def test_a_wide_vessel_is_one_line() -> None:
    x, y, z = np.indices((60, 30, 30)) * 1.0
    aorta = (np.hypot(y - 14.3, z - 14.6) < 9) & (x > 3) & (x < 57)
    (tree,) = near_monai.tree(aorta, (1, 1, 1))
    (branch,) = tree.branches
    assert branch.mean_radius == pytest.approx(9, rel=0.02)
    assert np.abs(branch.points[5:-5, 1:] - [14.3, 14.6]).max() < 0.3


def test_generated_trees() -> None:
    _, truth, grid = phantom_pair(11, 5, "none")
    cones = coronary_tree(np.random.default_rng((11, 5, 1))).parts[0].shape
    assert isinstance(cones, RoundCones)
    trees = near_monai.tree(truth, grid.spacing)
    assert len(trees) == 2
    roots = cones.start[[0, int(np.argmax(cones.side == 1))]]
    for tree in trees:
        assert np.linalg.norm(roots - in_mm(tree.root, grid), axis=1).min() < 1.5
    share = np.linspace(0, 1, 8)[:, None, None]
    axes = (cones.start + share * (cones.end - cones.start)).reshape(-1, 3)
    radii = (cones.r0 + share[..., 0] * (cones.r1 - cones.r0)).ravel()
    points = np.concatenate([branch.points for tree in trees for branch in tree.branches])
    radius = np.concatenate([branch.radius for tree in trees for branch in tree.branches])
    away, nearest = cKDTree(axes).query(in_mm(points, grid))
    assert away.mean() < 0.1
    wrong = radius / radii[nearest] - 1
    assert abs(np.median(wrong)) < 0.02 and np.median(np.abs(wrong)) < 0.03


def test_the_root_is_at_the_aorta() -> None:
    mask, _ = drawn([STEM, ONE, OTHER])
    array = mask.astype(np.uint8) * 9
    array[-8:] = 6  # at the thin end
    (tree,) = near_monai.tree(array, SPACING)
    assert tree.root_at == "aorta" and tree.branches[0].mean_radius < 1.5


def test_points_are_in_the_world() -> None:
    mask, grid = drawn([STEM, ONE, OTHER])
    affine = np.array([[0, 0, -0.6, 40], [0, 0.45, 0, -7], [0.4, 0, 0, 100], [0, 0, 0, 1.0]])
    (tree,) = near_monai.tree(nib.Nifti1Image(mask.astype(np.uint8), affine))
    expected = apply_affine(affine, grid.to_voxel(np.array(STEM[0])))
    np.testing.assert_allclose(tree.root, expected, atol=0.7)


def test_segments_are_carried_onto_branches() -> None:
    mask, grid = drawn([STEM, ONE, OTHER])
    x, y, _ = np.meshgrid(*grid.axes_mm(), indexing="ij")
    array = np.where(mask, np.where(x < 30, 5, np.where(y > 0, 6, 9)), 0)
    (tree,) = near_monai.tree(array, SPACING, which="fg")
    assert [branch.label for branch in tree.branches] == [5, 6, 9]
    assert [branch.label for branch in near_monai.tree(mask, SPACING)[0].branches] == [None] * 3


def test_what_is_no_vessel_is_left_out() -> None:
    mask, _ = drawn([STEM])
    mask[0, 0, 0] = True
    mask[:6, -8:, -6:] = True  # a lump
    found = trees_in(LabelMap.from_array(mask.astype(np.uint8), np.diag([*SPACING, 1])), AUTO, HEART, "map")
    assert len(found.trees) == 1 and found.left_out == 2
    with pytest.raises(NearError, match="empty"):
        near_monai.tree(np.zeros((4, 4, 4), np.uint8), SPACING)


def test_the_record_is_plain(tmp_path: Path) -> None:
    mask, _ = drawn([STEM, ONE, OTHER])
    record = near_monai.tree(mask, SPACING)[0].record()
    assert isinstance(record["root_mm"], list) and record["side"] is None
    first: dict[str, object] = record["branches"][0]
    assert {"id", "parent", "points_mm", "radius_mm", "length_mm", "taper", "tortuosity"} <= set(first)
    json.dumps(record["branches"][0]["points_mm"], allow_nan=False)
    assert isinstance(near_monai.tree(mask, SPACING)[0], RootedTree)
