"""Cleaning: only what is small *and* far goes."""

import numpy as np
import pytest
from scipy import ndimage

from near_monai.geometry.components import Components, count_components
from near_monai.geometry.specks import drop_specks

SPACING = (0.5, 1.0, 2.0)


def scene() -> np.ndarray:
    mask = np.zeros((60, 40, 20), bool)
    mask[5:45, 10:14, 5:8] = True  # 480 voxels of 1 mm^3
    return mask


def test_small_and_far_goes_small_and_near_stays() -> None:
    mask = scene()
    mask[20:24, 17:19, 5:6] = True  # 8 mm^3; its nearest voxel is 4 mm from the tree
    mask[20:24, 25:27, 5:6] = True  # 8 mm^3, 12 mm away
    cleaned = drop_specks(mask, SPACING, small_mm3=20, far_mm=5)
    assert cleaned[21, 17, 5] and not cleaned[21, 25, 5]
    np.testing.assert_array_equal(cleaned[5:45, 10:14], mask[5:45, 10:14])


def test_large_and_far_stays() -> None:
    mask = scene()
    mask[5:45, 30:34, 15:18] = True
    np.testing.assert_array_equal(drop_specks(mask, SPACING), mask)


def test_distance_is_in_mm_along_every_axis() -> None:
    mask = scene()
    mask[20:22, 10:12, 10:11] = True  # 3 slices of 2 mm above
    assert count_components(drop_specks(mask, SPACING, 20, far_mm=6.1)) == 2
    assert count_components(drop_specks(mask, SPACING, 20, far_mm=5.9)) == 1


def test_largest_stays_even_if_small() -> None:
    mask = np.zeros((9, 9, 9), bool)
    mask[1:3, 1, 1] = True
    mask[8, 8, 8] = True
    cleaned = drop_specks(mask, (1, 1, 1), small_mm3=100, far_mm=2)
    assert cleaned.sum() == 2 and cleaned[1, 1, 1]


def test_keep_n_is_by_volume() -> None:
    mask = scene()
    mask[5:45, 30:34, 15:18] = True
    mask[50:55, 30:34, 5:8] = True
    assert count_components(mask) == 3
    cleaned = drop_specks(mask, SPACING, 0.0, keep=2)
    assert count_components(cleaned) == 2 and not cleaned[52, 31, 6]


def test_input_is_not_changed_and_empty_is_fine() -> None:
    empty = np.zeros((4, 5, 6), bool)
    assert not drop_specks(empty, SPACING).any()
    assert count_components(empty) == 0


@pytest.mark.parametrize("corner", [(1, 1, 0), (1, 1, 1), (1, 0, 0)])
def test_components_are_26_connected(corner: tuple[int, int, int]) -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 1, 1] = True
    mask[tuple(np.add((1, 1, 1), corner))] = True
    assert count_components(mask) == 1


@pytest.mark.parametrize("share", [0.0, 0.001, 0.015, 0.1])
def test_sparse_components_are_those_of_scipy(share: float) -> None:
    mask = np.random.default_rng(1).random((40, 31, 57)) < share
    mask[3:20, 7, -1] = mask[20, 8, 0] = share > 0  # a row's last voxel and the next row's first are no neighbours
    found = Components.of(mask)
    expected, number = ndimage.label(mask, np.ones((3, 3, 3)))
    assert len(found) == number
    np.testing.assert_array_equal(found.index(), expected)


def test_pieces_a_voxel_apart_are_judged_as_one() -> None:
    mask = np.zeros((60, 12, 12), bool)
    mask[2:30, 4:8, 4:8] = True
    mask[31:40:3, 4:8, 4:8] = mask[32:41:3, 4:8, 4:8] = True  # every third slice is lost
    mask[50:52, 4:8, 4:8] = True
    kept = drop_specks(mask, (1, 1, 1), small_mm3=100, far_mm=0, one_mm=2.1)
    assert count_components(kept) == 4 and not kept[50:52].any()
    assert count_components(drop_specks(mask, (1, 1, 1), small_mm3=100, far_mm=0)) == 1
