"""Metrics: closed forms on anisotropic voxels, crude reimplementations, and agreement with gudhi."""

import math
import os
from itertools import permutations
from pathlib import Path

import gudhi
import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist

from near_monai.errors import NearError
from near_monai.formats.label_maps import read_label
from near_monai.metrics.mask_metrics import IDEAL, METRICS, ROUNDING_MM, Betti, MeasuredMask, Pair, score

SPACING = (0.4, 0.7, 1.3)
DATA = Path(os.environ.get("NEAR_MONAI_DATA", Path(__file__).parents[3] / "shared" / "data"))

Mask = NDArray[np.bool_]


def empty(*shape: int) -> Mask:
    return np.zeros(shape or (9, 11, 14), bool)


def box(shape: tuple[int, int, int], *sides: tuple[int, int]) -> Mask:
    mask = empty(*shape)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def blobs(seed: int, shape: tuple[int, int, int] = (12, 15, 18)) -> Mask:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.2)
    return noise > 0.15


def test_dice_of_overlapping_boxes() -> None:
    a, b = box((9, 11, 14), (1, 5), (2, 8), (3, 7)), box((9, 11, 14), (3, 7), (2, 8), (3, 7))
    assert score(a, b, SPACING)["dice"] == pytest.approx(0.5)


@pytest.mark.parametrize("step", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (3, -2, 4)])
def test_single_voxels_are_their_distance_apart(step: tuple[int, int, int]) -> None:
    a, b = empty(), empty()
    a[3, 5, 6] = b[3 + step[0], 5 + step[1], 6 + step[2]] = True
    apart = math.hypot(*np.multiply(step, SPACING))
    found = score(a, b, SPACING)
    assert found["hd95_mm"] == pytest.approx(apart)
    assert found["assd_mm"] == pytest.approx(apart)
    assert found["surface_dice_0.5mm"] == (apart <= 0.5)
    assert found["surface_dice_1mm"] == (apart <= 1.0)


def test_tolerance_includes_itself_whatever_the_rounding_of_the_spacing() -> None:
    a, b = empty(), empty()
    a[3, 5, 6] = b[3, 5, 7] = True
    assert score(a, b, (0.7, 0.7, 0.50000003))["surface_dice_0.5mm"] == 1.0


def surface_points(mask: Mask) -> NDArray[np.floating]:
    padded = np.pad(mask, 1)
    inside = [
        voxel
        for voxel in np.argwhere(padded)
        if not all(padded[tuple(voxel + sign * np.eye(3, dtype=int)[axis])] for axis in range(3) for sign in (-1, 1))
    ]
    return np.array(inside) * SPACING


@pytest.mark.parametrize("seed", range(3))
def test_surface_metrics_match_all_pairs(seed: int) -> None:
    a, b = blobs(seed), blobs(seed + 10)
    between = cdist(surface_points(a), surface_points(b))
    forth, back = between.min(axis=1), between.min(axis=0)
    both = np.concatenate([forth, back])
    found = score(a, b, SPACING)
    assert found["hd95_mm"] == pytest.approx(max(np.percentile(forth, 95), np.percentile(back, 95)))
    assert found["assd_mm"] == pytest.approx(both.mean())
    assert found["surface_dice_1mm"] == pytest.approx((both <= 1.0).mean())


def one_hot(mask: Mask) -> torch.Tensor:
    return torch.as_tensor(mask[None, None])


MONAI_S_OWN = pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")


@MONAI_S_OWN
@pytest.mark.parametrize("spacing", [SPACING, (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("seed", range(3))
def test_dice_hausdorff_and_surface_dice_are_monai_s(seed: int, spacing: tuple[float, float, float]) -> None:
    """MONAI's surface Dice counts surface voxels unless it is asked for sub-voxels; so does ours."""
    pred, truth = blobs(seed), blobs(seed + 10)
    a, b, steps = one_hot(pred), one_hot(truth), list(spacing)
    found = score(pred, truth, spacing)
    hd95 = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=steps)
    assert found["dice"] == pytest.approx(compute_dice(a, b).item())
    assert found["hd95_mm"] == pytest.approx(hd95.item())
    for tolerance in (0.5, 1.0):
        voxels = compute_surface_dice(a, b, [tolerance + ROUNDING_MM], include_background=True, spacing=steps)
        assert found[f"surface_dice_{tolerance:g}mm"] == pytest.approx(voxels.item())


@MONAI_S_OWN
def test_surface_dice_is_not_that_of_sub_voxels() -> None:
    """With sub-voxels (Nikolov et al.) the surface runs between voxels, and counts by its area: a plate has two sides.

    One side of a plate that is one voxel thick, and one that is two, is the same, the other is a voxel off.
    """
    pred, truth = box((9, 24, 24), (3, 4), (2, 22), (2, 22)), box((9, 24, 24), (3, 5), (2, 22), (2, 22))
    a, b = one_hot(pred), one_hot(truth)
    ours = score(pred, truth, (1.0, 1.0, 1.0))["surface_dice_0.5mm"]
    assert ours == pytest.approx(2 * 400 / (400 + 800))  # every voxel is surface, and 400 are shared
    sub_voxels = compute_surface_dice(a, b, [0.5], include_background=True, spacing=[1.0] * 3, use_subvoxels=True)
    assert sub_voxels.item() == pytest.approx(2 * (400 + 80) / (880 + 960), abs=0.04)  # one side and a rim, in mm^2


def hollow_torus() -> Mask:
    i, j, k = np.indices((23, 21, 11)) - np.array([11, 10, 5])[:, None, None, None]
    distance = np.hypot(np.hypot(i, j) - 6, k)
    return (distance < 3.2) & (distance > 1.7)


RING = box((9, 11, 14), (2, 7), (2, 9), (4, 6)) & ~box((9, 11, 14), (4, 5), (4, 7), (4, 6))
SHELL = box((9, 11, 14), (2, 7), (2, 9), (3, 10)) & ~box((9, 11, 14), (4, 5), (4, 7), (5, 8))
CORNERS = box((9, 11, 14), (2, 4), (2, 4), (2, 4)) | box((9, 11, 14), (4, 6), (4, 6), (4, 6))
APART = box((9, 11, 14), (2, 4), (2, 4), (2, 4)) | box((9, 11, 14), (5, 6), (4, 6), (4, 6))


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (empty(), (0, 0, 0)),
        (box((9, 11, 14), (2, 5), (3, 7), (4, 9)), (1, 0, 0)),
        (CORNERS, (1, 0, 0)),  # touching at a corner is connected
        (APART, (2, 0, 0)),
        (RING, (1, 1, 0)),
        (SHELL, (1, 0, 1)),
        (hollow_torus(), (1, 2, 1)),
    ],
)
def test_betti_numbers_of_known_shapes(mask: Mask, expected: tuple[int, int, int]) -> None:
    assert MeasuredMask(mask).betti == Betti(*expected)


@pytest.mark.parametrize("seed", range(4))
def test_betti_numbers_match_gudhi(seed: int) -> None:
    mask = np.pad(np.random.default_rng(seed).random((6, 7, 9)) < 0.35 + 0.15 * seed, 1)
    cubes = gudhi.CubicalComplex(top_dimensional_cells=np.where(mask, 0.0, 1.0))  # closed cubes: 26-connected
    cubes.compute_persistence()
    assert MeasuredMask(mask).betti == Betti(*cubes.persistent_betti_numbers(0.0, 0.5)[:3])


def test_topology_errors_count_islands_and_added_loops() -> None:
    found = score(RING | APART, APART, SPACING)
    assert found["betti0"] == MeasuredMask(RING | APART).betti.components
    assert found["betti0_error"] == 1.0
    assert found["loops_added"] == 1.0
    assert score(APART, RING | APART, SPACING)["loops_added"] == 0.0


@pytest.mark.parametrize("width", [1, 2, 3, 4, 6])
def test_skeleton_survives_in_every_tube(width: int) -> None:
    """Scikit-image deletes tubes of even width (issue 3757); a plain tube of width 3 must not hide it."""
    shape = (11, 26, 40)
    mask = box(shape, (2, 2 + width), (3, 3 + width), (3, 37)) | box(shape, (4, 7), (20, 23), (3, 37))
    index, count = ndimage.label(mask)
    skeleton = MeasuredMask(mask).skeleton
    assert count == 2
    assert not (skeleton & ~mask).any()
    for part in (1, 2):
        assert 34 - 2 * width <= np.count_nonzero(skeleton & (index == part)) <= 36


def test_skeleton_falls_back_to_the_deepest_voxel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("near_monai.geometry.skeleton.skeletonize", np.zeros_like)
    mask = box((9, 11, 14), (1, 6), (2, 9), (3, 8))
    np.testing.assert_array_equal(np.argwhere(MeasuredMask(mask).skeleton)[:, [0, 2]], [[3, 5]])


def test_cldice_of_half_a_tube() -> None:
    shape = (9, 11, 44)
    truth, half = box(shape, (3, 6), (4, 7), (2, 42)), box(shape, (3, 6), (4, 7), (2, 22))
    found = score(half, truth, SPACING)
    assert found["length_detected"] == pytest.approx(0.5, abs=0.03)
    assert found["cldice"] == pytest.approx(2 * found["length_detected"] / (1 + found["length_detected"]))
    assert found["volume_ratio"] == 0.5
    assert score(truth, half, SPACING)["cldice"] == found["cldice"]
    assert score(truth, half, SPACING)["length_detected"] == 1.0


def test_perfect_prediction_is_ideal() -> None:
    found = score(SHELL, SHELL, SPACING)
    assert {name: found[name] for name in IDEAL} == IDEAL
    assert list(found) == list(METRICS)
    assert set(METRICS) - set(IDEAL) == {"betti0"}


def test_disjoint_masks_do_not_overlap() -> None:
    found = score(box((9, 11, 14), (1, 3), (1, 4), (1, 5)), box((9, 11, 14), (6, 8), (6, 10), (9, 13)), SPACING)
    assert [found[name] for name in ("dice", "cldice", "surface_dice_1mm", "length_detected")] == [0, 0, 0, 0]


NAN = math.nan


@pytest.mark.parametrize(
    ("pred", "truth", "expected"),
    [
        (empty(), empty(), (NAN, NAN, NAN, NAN, NAN, NAN, 0, 0, 0, NAN, NAN)),
        (empty(), RING, (0, 0, 0, 0, NAN, NAN, 0, 1, 0, 0, 0)),
        (RING, empty(), (0, 0, 0, 0, NAN, NAN, 1, 1, 1, NAN, NAN)),
    ],
    ids=["both empty", "prediction empty", "truth empty"],
)
def test_empty_masks(pred: Mask, truth: Mask, expected: tuple[float, ...]) -> None:
    np.testing.assert_array_equal(list(score(pred, truth, SPACING).values()), expected)


def test_place_in_the_volume_does_not_matter() -> None:
    a, b = blobs(3), blobs(4)
    expected = score(a, b, SPACING)
    margins = ((7, 1), (0, 20), (3, 5))
    assert score(np.pad(a, margins), np.pad(b, margins), SPACING) == expected


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_order_of_the_axes_does_not_matter(order: tuple[int, int, int]) -> None:
    a, b = blobs(3), blobs(4)
    expected = score(a, b, SPACING)
    found = score(a.transpose(order), b.transpose(order), [SPACING[axis] for axis in order])
    for name in set(METRICS) - {"cldice", "length_detected"}:  # thinning depends on the order
        assert found[name] == pytest.approx(expected[name]), name


@pytest.mark.parametrize(
    ("pred", "truth", "spacing", "message"),
    [
        (empty(3, 4, 5), empty(3, 5, 4), SPACING, r"prediction \(3, 4, 5\) and truth \(3, 5, 4\)"),
        (empty(3, 4), empty(3, 4), SPACING, "one shape"),
        (RING, RING, (0.4, 0.7), "three numbers > 0"),
        (RING, RING, (0.4, 0.0, 1.0), "three numbers > 0"),
        (RING, RING, (0.4, NAN, 1.0), "three numbers > 0"),
    ],
)
def test_bad_input_is_refused(pred: Mask, truth: Mask, spacing: tuple[float, ...], message: str) -> None:
    with pytest.raises(NearError, match=message):
        Pair(pred, truth, spacing)


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "imagecas").is_dir(), reason="needs NEAR_MONAI_DATA")
def test_real_trees_give_the_published_figures() -> None:
    """The owner's figures for these 13 pairs, made with other code (clDice depends on the thinning: 0.920 there)."""
    scores = []
    for path in sorted((DATA / "imagecas" / "truth").iterdir()):
        truth, noisy = read_label(path), read_label(DATA / "imagecas" / "noisy" / path.name)
        scores.append(score(noisy.array == 9, truth.array == 9, truth.grid.spacing))
    mean = {name: np.mean([s[name] for s in scores]) for name in METRICS}
    assert mean["dice"] == pytest.approx(0.809, abs=1e-3)
    assert mean["cldice"] == pytest.approx(0.920, abs=1e-2)
    assert mean["surface_dice_1mm"] == pytest.approx(0.963, abs=1e-3)
    assert mean["hd95_mm"] == pytest.approx(1.01, abs=1e-2)
    assert mean["betti0_error"] == pytest.approx(13.0)
    assert mean["volume_ratio"] == pytest.approx(1.03, abs=1e-2)


def test_distances_of_a_tilted_grid_are_those_of_the_world() -> None:
    """Two voxels 6 apart along one axis and 6 along the tilted one: 0.5 mm voxels, 25 degrees."""
    axes = np.diag([0.5, 0.5, 0.5])
    axes[:, 2] = 0.5 * np.array([0, np.sin(np.deg2rad(25)), np.cos(np.deg2rad(25))])
    pred, truth = np.zeros((2, 9, 9), bool)[None].repeat(2, 0)
    pred[0, 1, 1] = truth[0, 7, 7] = True
    expected = np.linalg.norm(axes @ (0, 6, 6))
    assert score(pred, truth, axes)["hd95_mm"] == pytest.approx(expected)
    assert score(pred, truth, axes)["assd_mm"] == pytest.approx(expected)
    assert score(pred, truth, (0.5, 0.5, 0.5))["hd95_mm"] == pytest.approx(np.hypot(3, 3))


def test_axes_at_right_angles_count_as_spacing() -> None:
    pred, truth = np.random.default_rng(0).random((2, 8, 9, 7)) < 0.3
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turned, plain = score(pred, truth, turn @ np.diag([0.4, 0.5, 1.25])), score(pred, truth, (0.4, 0.5, 1.25))
    assert turned == pytest.approx(plain)
