"""Overlaps go by certainty and priority, slits are filled, and every decision is on record."""

import numpy as np
from scipy import ndimage

from near_monai.anatomy import by_name
from near_monai.fusion.consistent_map import merge
from near_monai.fusion.overlaps import Claim
from near_monai.fusion.slits import Gaps, slits
from near_monai.geometry.boxes import Box
from near_monai.geometry.coordinates import Grid

GRID = Grid((20, 12, 12), (1.0, 1.0, 1.0))
WHOLE = Box((0, 0, 0), GRID.shape)
ATRIUM, VENTRICLE = by_name("left_atrium").index, by_name("left_ventricle").index


def block(low: int, high: int) -> np.ndarray:
    mask = np.zeros(GRID.shape, bool)
    mask[low:high, 2:10, 2:10] = True
    return mask


def claim(index: int, mask: np.ndarray, certainty: float) -> Claim:
    return Claim(index, WHOLE, mask, np.where(mask, certainty, 0.1).astype(np.float32))


def test_priority_decides_where_both_are_as_sure() -> None:
    merged, changes = merge(
        [claim(VENTRICLE, block(8, 16), 0.9), claim(ATRIUM, block(2, 10), 0.9)], block(2, 16) * np.uint8(1), GRID
    )
    assert (merged.array[block(8, 10)] == ATRIUM).all()
    (change,) = changes
    assert (change.rule, change.label, change.action, change.volume_mm3) == ("overlap", VENTRICLE, "resolved", 128)
    assert change.place == (8.5, 5.5, 5.5)
    assert change.detail == "left to left_atrium"


def test_certainty_beats_priority() -> None:
    merged, _ = merge(
        [claim(VENTRICLE, block(8, 16), 0.99), claim(ATRIUM, block(2, 10), 0.6)], block(2, 16) * np.uint8(1), GRID
    )
    assert (merged.array[block(8, 10)] == VENTRICLE).all()


def test_slit_goes_to_whoever_is_surest() -> None:
    before = np.zeros(GRID.shape, np.uint8)
    before[block(2, 9)], before[block(9, 16)] = ATRIUM, VENTRICLE
    atrium, ventricle = claim(ATRIUM, block(2, 8), 0.9), claim(VENTRICLE, block(9, 16), 0.9)
    atrium.probability[8], ventricle.probability[8] = 0.2, 0.45
    merged, changes = merge([atrium, ventricle], before, GRID)
    assert (merged.array[block(8, 9)] == VENTRICLE).all()
    assert not len(slits(merged.array, before, GRID))
    assert [(c.rule, c.action, c.label) for c in changes] == [("slit", "filled", VENTRICLE)]


def test_what_was_background_or_bounds_one_structure_is_no_slit() -> None:
    after = np.zeros(GRID.shape, np.uint8)
    after[block(2, 8)], after[block(9, 16)] = ATRIUM, VENTRICLE
    assert not len(slits(after, after, GRID))  # background between the two before, too
    shrunk = np.where(block(2, 8), ATRIUM, 0).astype(np.uint8)
    assert not len(slits(shrunk, np.where(block(2, 9), ATRIUM, 0).astype(np.uint8), GRID))


def test_a_map_without_overlap_passes_unchanged() -> None:
    before = np.zeros(GRID.shape, np.uint8)
    before[block(2, 9)], before[block(9, 16)] = ATRIUM, VENTRICLE
    merged, changes = merge([claim(ATRIUM, block(2, 9), 0.9), claim(VENTRICLE, block(9, 16), 0.7)], before, GRID)
    np.testing.assert_array_equal(merged.array, before)
    assert not changes


def test_claims_cover_boxes() -> None:
    box = Box((2, 2, 2), (8, 10, 10))
    part = Claim(ATRIUM, box, np.ones(box.shape, bool), np.full(box.shape, 0.9, np.float16))
    merged, _ = merge([part], block(2, 8) * np.uint8(ATRIUM), GRID)
    np.testing.assert_array_equal(merged.array == ATRIUM, block(2, 8))


def test_every_place_has_its_own_record() -> None:
    wide = block(2, 18)
    atrium = np.zeros_like(wide)
    atrium[2:4, 2:10, 2:10] = atrium[16:18, 2:10, 2:10] = True
    _, changes = merge([claim(VENTRICLE, wide, 0.9), claim(ATRIUM, atrium, 0.9)], wide * np.uint8(1), GRID)
    assert sorted(c.place[0] for c in changes) == [2.5, 16.5]


def test_unknown_classes_keep_their_voxels() -> None:
    before = np.where(block(8, 12), 77, 0).astype(np.uint8)
    merged, _ = merge([claim(ATRIUM, block(2, 10), 1.0)], before, GRID)
    np.testing.assert_array_equal(merged.array == 77, before == 77)
    assert (merged.array[block(2, 8)] == ATRIUM).all()


def test_slit_goes_to_a_neighbour_however_sure_a_distant_structure_is() -> None:
    before = np.zeros(GRID.shape, np.uint8)
    before[block(2, 9)], before[block(9, 16)] = ATRIUM, VENTRICLE
    distant = claim(1, np.zeros(GRID.shape, bool), 0.0)
    distant.probability[8] = 0.99
    merged, _ = merge([claim(ATRIUM, block(2, 8), 0.9), claim(VENTRICLE, block(9, 16), 0.9), distant], before, GRID)
    assert (merged.array[block(8, 9)] == ATRIUM).all()


def test_gaps_follow_a_map_that_changes() -> None:
    rng, grid = np.random.default_rng(0), Grid((30, 24, 20), (0.5, 0.8, 1.0))
    labels = ndimage.zoom(rng.integers(0, 3, (8, 7, 6)), (30 / 8, 24 / 7, 20 / 6), order=0).astype(np.uint8)
    before, now = labels.copy(), np.where(rng.random(grid.shape) < 0.3, 0, labels).astype(np.uint8)
    gaps = Gaps(now, before, grid)
    for count in (1, 5, 300):
        voxels = np.unique(rng.integers(0, grid.shape, (count, 3)), axis=0)
        values = rng.integers(0, 3, len(voxels)).astype(np.uint8)
        gaps.put(voxels, values)
        now[tuple(voxels.T)] = values
        anew = Gaps(now, before, grid)
        np.testing.assert_array_equal(gaps.array, now)
        np.testing.assert_array_equal(gaps.voxels, anew.voxels)
        np.testing.assert_array_equal(gaps.narrow, anew.narrow)
        np.testing.assert_array_equal(gaps.slits(), slits(now, before, grid))
        assert 0 < gaps.narrow.mean() < 1
