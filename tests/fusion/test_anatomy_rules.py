"""Rules of anatomy: small and far goes, the rest is flagged, holes are filled, and a second run changes nothing."""

import numpy as np
import pytest

from near_monai.anatomy import by_name
from near_monai.datasets.heart_cases import noisy_map
from near_monai.fusion.anatomy_rules import correct, violations
from near_monai.geometry.coordinates import Grid
from near_monai.phantoms.heart import label_map, structure_fields, whole_heart

GRID = Grid((60, 40, 40), (1.0, 1.0, 1.0))
ATRIUM, APPENDAGE = by_name("left_atrium").index, by_name("left_atrial_appendage").index
CORONARY, MYOCARDIUM = by_name("coronary").index, by_name("myocardium").index


@pytest.fixture
def atrium() -> np.ndarray:
    array = np.zeros(GRID.shape, np.uint8)
    array[5:25, 10:30, 10:30] = ATRIUM
    return array


def test_consistent_map_passes_unchanged(atrium: np.ndarray) -> None:
    atrium[25:30, 12:20, 12:20] = APPENDAGE
    out, done, flagged = correct(atrium, GRID)
    np.testing.assert_array_equal(out, atrium)
    assert not done
    assert not flagged


def test_small_and_far_goes_small_and_near_and_large_are_flagged(atrium: np.ndarray) -> None:
    atrium[36:38, 20:22, 20:22] = ATRIUM  # 8 mm^3, more than 10 mm from either
    atrium[27:29, 20:22, 20:22] = ATRIUM  # 8 mm^3, 3 mm away
    atrium[48:58, 10:20, 10:20] = ATRIUM  # 1 mL
    out, done, flagged = correct(atrium, GRID)
    assert [(c.rule, c.label, c.action, c.volume_mm3) for c in done] == [("pieces", ATRIUM, "removed", 8.0)]
    assert done[0].place == (36.5, 20.5, 20.5)
    assert not out[36:38].any()
    assert sorted(c.volume_mm3 for c in flagged) == [8.0, 1000.0]
    np.testing.assert_array_equal(out[:36], atrium[:36])


def test_appendage_has_to_touch_the_atrium(atrium: np.ndarray) -> None:
    atrium[30:40, 12:20, 12:20] = APPENDAGE
    _, _, flagged = correct(atrium, GRID)
    assert [(c.rule, c.label, c.detail) for c in flagged] == [
        ("touches", APPENDAGE, "left_atrial_appendage: 6.0 mm from left_atrium")
    ]


def test_coronary_may_lie_a_little_away() -> None:
    array = np.zeros(GRID.shape, np.uint8)
    array[5:25, 10:30, 10:30] = MYOCARDIUM
    array[28:30, 10:30, 20:22] = CORONARY
    assert not violations(array, GRID)
    array[28:30], array[35:37, 10:30, 20:22] = 0, CORONARY
    (found,) = violations(array, GRID)
    assert found.change.rule == "touches"


def test_neighbour_that_is_not_in_the_map_is_not_missed() -> None:
    array = np.zeros(GRID.shape, np.uint8)
    array[5:25, 10:30, 10:30] = CORONARY
    assert not violations(array, GRID)


def test_small_hole_is_filled_large_one_is_flagged(atrium: np.ndarray) -> None:
    atrium[10:12, 20:22, 20:22] = 0
    out, done, _ = correct(atrium, GRID)
    assert (out[10:12, 20:22, 20:22] == ATRIUM).all()
    assert [(c.rule, c.action, c.detail) for c in done] == [("holes", "filled", "hole in left_atrium")]
    atrium[8:22, 14:26, 14:26] = 0
    assert [(c.rule, c.action) for c in correct(atrium, GRID)[2]] == [("holes", "flagged")]


def test_hole_in_a_class_that_the_table_does_not_have_is_left_alone(atrium: np.ndarray) -> None:
    atrium[atrium > 0] = 77
    atrium[10:12, 20:22, 20:22] = 0
    assert not violations(atrium, GRID)


def test_empty_map() -> None:
    assert not violations(np.zeros(GRID.shape, np.uint8), GRID)


def test_second_run_changes_nothing_on_a_noisy_heart() -> None:
    heart = whole_heart(np.random.default_rng(1))
    grid = heart.grid((1.5, 1.5, 1.5), 6.0)
    noisy = noisy_map(label_map(structure_fields(heart, grid, 2.0)), grid.spacing, "severe", 0)
    out, done, flagged = correct(noisy, grid)
    assert done
    again, nothing, same = correct(out, grid)
    np.testing.assert_array_equal(out, again)
    assert not nothing
    assert same == flagged
    assert len(flagged) < len(violations(noisy, grid))


def test_piece_near_its_own_structure_is_not_far_because_its_neighbour_is(atrium: np.ndarray) -> None:
    atrium[25:45, 12:20, 12:20] = APPENDAGE  # its tip is torn off by a voxel, 20 mm from the atrium
    atrium[40] = 0
    assert not correct(atrium, GRID)[1]


def test_fragment_near_any_large_piece_and_long_fragment_stay() -> None:
    array = np.zeros(GRID.shape, np.uint8)
    for start in (2, 22, 42):
        array[start : start + 10, 5:9, 5:9] = CORONARY
    array[54:56, 5:8, 5:8] = CORONARY  # 18 mm^3, 3 mm from the third
    array[20:35, 30, 30] = CORONARY  # 15 mm^3, 14 mm long
    out, done, flagged = correct(array, GRID)
    np.testing.assert_array_equal(out, array)
    assert not done
    assert len(flagged) == 3
