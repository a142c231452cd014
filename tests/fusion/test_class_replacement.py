"""Fusion: priority, nothing else touched, labels that survive."""

import numpy as np

from near_monai.anatomy import CORONARY, by_name
from near_monai.fusion.class_replacement import put_back, replace_class, spread_labels
from near_monai.geometry.coordinates import Grid

AORTA, MYOCARDIUM = by_name("aorta").index, by_name("myocardium").index
GRID = Grid((12, 3, 3), (0.5, 1.0, 2.0))


def line(*values: int) -> np.ndarray:
    array = np.zeros(GRID.shape, np.uint8)
    array[: len(values), 1, 1] = values
    return array


def row(array: np.ndarray, n: int) -> list[int]:
    return array[:n, 1, 1].tolist()


def test_added_voxels_win_by_priority_removed_become_background() -> None:
    original = line(CORONARY, CORONARY, 0, AORTA, MYOCARDIUM, 77)
    refined = line(0, 1, 1, 1, 1, 1) > 0
    fused = replace_class(original, refined, CORONARY)
    assert row(fused, 6) == [0, CORONARY, CORONARY, CORONARY, CORONARY, 77]


def test_lower_priority_class_does_not_take_over() -> None:
    original = line(AORTA, CORONARY, MYOCARDIUM, 0)
    fused = replace_class(original, line(1, 1, 1, 1) > 0, AORTA)
    assert row(fused, 4) == [AORTA, CORONARY, MYOCARDIUM, AORTA]


def test_foreground_keeps_segment_labels_and_spreads_the_nearest() -> None:
    original = line(3, 3, 0, 0, 0, 0, 5, 5)
    refined = line(0, 1, 1, 1, 1, 1, 1, 1) > 0
    assert row(spread_labels(original, GRID, refined, GRID), 8) == [0, 3, 3, 3, 5, 5, 5, 5]


def test_foreground_distance_is_in_mm() -> None:
    original = np.zeros(GRID.shape, np.uint8)
    original[0, 1, 1], original[3, 2, 1] = 3, 5
    refined = original > 0
    refined[3, 1, 1] = True  # 1.5 mm from label 3, 1 mm from label 5
    assert spread_labels(original, GRID, refined, GRID)[3, 1, 1] == 5


def test_other_grid_holds_the_structure_alone() -> None:
    cube = GRID.cube(4)
    refined = np.zeros(cube.shape, bool)
    refined[1, 2, 3] = True
    fused = put_back(line(CORONARY, AORTA), GRID, refined, cube, CORONARY)
    assert fused.shape == (4, 4, 4)
    assert fused.sum() == CORONARY == fused[1, 2, 3]
