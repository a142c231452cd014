"""Whole hearts: every structure is there, whole, where it belongs, and the noisy map is that of the same heart."""

import numpy as np
import pytest

from near_monai.anatomy import HEART, by_name
from near_monai.datasets.heart_cases import heart_cases, heart_pair, noisy_map, structure_cases, structure_items
from near_monai.fusion.anatomy_rules import violations
from near_monai.geometry.components import count_components
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.phantoms.heart import label_map, structure_fields, whole_heart
from near_monai.phantoms.solids import Ellipsoid, Plane, tube

COARSE = (1.2, 1.2, 1.2)


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray, Grid]:
    return heart_pair(3, 0, "moderate", COARSE)


def test_ellipsoid_is_signed_right_and_cut() -> None:
    grid = Grid((41, 31, 31), (1.0, 1.0, 1.0), (-20.0, -15.0, -15.0))
    shape = Ellipsoid(
        np.zeros(3), np.array([15.0, 10.0, 8.0]), np.eye(3), cuts=(Plane(np.zeros(3), np.array([1.0, 0, 0])),)
    )
    distance = shape.signed_distance(grid, 3.0)
    i, j, k = np.meshgrid(*grid.axes_mm(), indexing="ij")
    inside = ((i / 15) ** 2 + (j / 10) ** 2 + (k / 8) ** 2 < 1) & (i < 0)
    np.testing.assert_array_equal(distance < 0, inside)
    along = distance[:, 15, 15]  # on the long axis: the end at -15 mm, the cut at 0
    np.testing.assert_allclose(along[5 + np.arange(-2, 3)], [2, 1, 0, -1, -2], atol=0.1)
    np.testing.assert_allclose(along[20 + np.arange(-2, 3)], [-2, -1, 0, 1, 2], atol=1e-5)


def test_ellipsoid_outside_the_grid_is_far() -> None:
    shape = Ellipsoid(np.full(3, 100.0), np.full(3, 5.0), np.eye(3))
    assert (shape.signed_distance(Grid((4, 4, 4), (1.0, 1.0, 1.0)), 3.0) == 3.0).all()


def test_tube_has_the_radius_it_was_given() -> None:
    cones = tube([[0, 0, 0], [10, 0, 0], [20, 0, 0]], [3, 4, 5])
    found = [
        cones.signed_distance(Grid((1, 1, 1), (1.0, 1.0, 1.0), at), 9.0).item()
        for at in ((0, 3, 0), (10, 4, 0), (20, 0, 5))
    ]
    np.testing.assert_allclose(found, 0, atol=0.15)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_structure_is_whole_and_breaks_no_rule(seed: int) -> None:
    heart = whole_heart(np.random.default_rng(seed))
    grid = heart.grid(COARSE, 8.0)
    truth = label_map(structure_fields(heart, grid, 2.0))
    for structure in HEART.structures:
        assert 1 <= count_components(truth == structure.index) <= structure.components, structure.name
    assert not [v.change for v in violations(truth, grid) if v.change.rule == "touches"]
    millilitres = {s.name: np.count_nonzero(truth == s.index) * grid.voxel_volume / 1000 for s in HEART.structures}
    assert 40 < millilitres["left_ventricle"] < 250
    assert 50 < millilitres["myocardium"] < 300
    assert 1.5 < millilitres["coronary"] < 15


def test_fields_do_not_overlap() -> None:
    heart = whole_heart(np.random.default_rng(0))
    fields = structure_fields(heart, heart.grid((2.0, 2.0, 2.0), 4.0), 3.0)
    assert np.sum([field < 0 for field in fields.values()], axis=0).max() == 1


def test_pair_is_noisy_but_the_same_heart(pair: tuple[np.ndarray, np.ndarray, Grid]) -> None:
    noisy, truth, _ = pair
    for structure in HEART.structures:
        a, b = noisy == structure.index, truth == structure.index
        dice = 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))
        assert 0.5 < dice < 0.99, structure.name


def test_same_seed_same_pair(pair: tuple[np.ndarray, np.ndarray, Grid]) -> None:
    again = heart_pair(3, 0, "moderate", COARSE)
    np.testing.assert_array_equal(pair[0], again[0])
    np.testing.assert_array_equal(pair[1], again[1])


def test_no_noise_is_the_truth() -> None:
    truth = np.zeros((20, 20, 20), np.uint8)
    truth[4:12, 4:12, 4:12], truth[12:16, 4:12, 4:12] = 1, 3
    np.testing.assert_array_equal(noisy_map(truth, (1.0, 1.0, 1.0), "none", 0), truth)


def test_structure_cases_are_in_their_own_scale() -> None:
    space = WorkingSpace()
    cases = structure_cases(1, 0, space, "organs.safetensors")
    assert len(cases) == len(HEART.structures) - 1
    atrium = next(case for case in cases if case.name.endswith("left_atrium"))
    assert atrium.grid.spacing == (0.5, 0.5, 0.5)
    scale = by_name("left_atrium").scale
    volume = (atrium.field.dense() < 0).sum().item() * 0.5**3 * scale**3
    assert 10_000 < volume < 120_000
    assert not atrium.channels[0].tubular
    assert next(case for case in cases if case.name.endswith("aorta")).channels[0].tubular


def test_heart_cases_hold_every_structure_by_priority() -> None:
    (case,) = heart_cases(1, 0, WorkingSpace(2.0, 6.0, 8.0))
    assert case.field.dense().shape[0] == len(HEART.structures)
    assert [HEART.structures[n].rank for n in case.order] == list(range(1, 11))
    assert (case.field.dense() < 0).flatten(1).any(1).all()


def test_structure_items_are_masks_in_their_scale() -> None:
    items = structure_items(1, 5, "mild", "organs.safetensors", COARSE)
    assert {item["name"].split("_", 3)[3] for item in items} == {s.name for s in HEART.structures} - {"coronary"}
    item = items[0]
    assert item["image"].shape == item["label"].shape
    assert set(np.unique(item["label"].numpy())) == {0, 1}
