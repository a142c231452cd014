"""Repair: strength follows the noise, torn pieces are joined, small strangers go, and all of it is reported."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from near_monai.anatomy import VESSEL
from near_monai.errors import NearError
from near_monai.geometry.components import Components, count_components
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.world_places import in_world
from near_monai.inferers.evidence import Evidence
from near_monai.metrics.mask_metrics import MeasuredMask
from near_monai.repair.bridges import find_bridges
from near_monai.repair.findings_to_check import find
from near_monai.repair.joints import REACH_MM
from near_monai.repair.judge import Bounds
from near_monai.repair.mask_repair import CLEAN_WALL_MM2, Noise, decide, decide_by_noise, noise_of, repair, wall_area
from near_monai.repair.out_of_distribution import is_cut, warnings_for
from near_monai.repair.reconnection import reconnect

GRID = Grid((120, 60, 60), (0.5, 0.5, 0.5))
Mask = NDArray[np.bool_]


def tube(start: tuple[float, ...], stop: tuple[float, ...], radius: float) -> Mask:
    """A straight tube between two points in mm, with round ends."""
    points = np.moveaxis(np.stack(np.meshgrid(*GRID.axes_mm(), indexing="ij")), 0, -1)
    a, b = np.asarray(start), np.asarray(stop)
    along = np.clip((points - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    return np.asarray(np.linalg.norm(points - a - along[..., None] * (b - a), axis=-1) <= radius)


def torn(gap: float = 4.0, lateral: float = 0.0, radius: float = 1.2) -> Mask:
    """A vessel along x, torn at 30 mm; its far piece is moved sideways by ``lateral`` mm."""
    return tube((5, 15, 15), (30, 15, 15), 1.5) | tube((33 + gap, 15 + lateral, 15), (54, 15 + lateral, 15), radius)


def blurred(mask: Mask, sigma: float = 3.0) -> NDArray[np.float32]:
    """A probability that is high inside, low outside and a little raised between the pieces."""
    return np.maximum(ndimage.gaussian_filter(mask.astype(np.float32), sigma), mask * np.float32(0.95)) * 0.98 + 0.01


def test_torn_vessel_is_joined_and_the_bridge_can_be_taken_back() -> None:
    mask = torn()
    likely = np.full(GRID.shape, 0.3, np.float32)
    bridge = reconnect(mask, likely, GRID).tubes > 0
    assert count_components(mask) == 2 and count_components(mask | bridge) == 1
    records = find_bridges(Components.of(mask), mask | bridge, likely, GRID)
    assert len(records) == 1 and not (bridge & mask).any()
    assert records[0].gap_mm == pytest.approx(4.3, abs=1.0)
    assert records[0].volume_mm3 == pytest.approx(np.count_nonzero(bridge) * GRID.voxel_volume, rel=0.15)
    without = mask | bridge
    without[tuple(records[0].voxels.T)] = False
    assert count_components(without) == 2
    assert abs(np.argwhere(bridge).mean(0) * 0.5 - (33.5, 15, 15)).max() < 2.0
    assert MeasuredMask(np.pad(mask | bridge, 2)).betti.loops == 0


@pytest.mark.parametrize(
    ("mask", "probability"),
    [
        (torn(gap=REACH_MM + 4), 0.3),  # too far
        (torn(gap=1.0, lateral=9.0), 0.3),  # it lies beside, not before
        (tube((5, 15, 15), (54, 15, 15), 1.5) | tube((4, 25, 15), (55, 25, 15), 1.2), 0.3),  # parallel vessels
    ],
)
def test_what_does_not_fit_stays_apart(mask: Mask, probability: float) -> None:
    assert not reconnect(mask, np.full(GRID.shape, probability, np.float32), GRID).tubes.any()


def test_two_trees_that_meet_with_thin_tips_are_never_joined() -> None:
    left = tube((3, 15, 15), (15, 15, 15), 2.5) | tube((15, 15, 15), (28, 15, 15), 0.8)
    right = tube((45, 15, 15), (57, 15, 15), 2.5) | tube((32, 15, 15), (45, 15, 15), 0.8)
    likely = np.full(GRID.shape, 0.4, np.float32)
    assert not reconnect(left | right, likely, GRID).tubes.any()
    piece = tube((32, 15, 15), (45, 15, 15), 0.8)  # the same tip, torn off the left tree, is joined
    assert count_components(left | piece | (reconnect(left | piece, likely, GRID).tubes > 0)) == 1


def test_two_trees_are_not_joined_through_a_piece_between_them_either() -> None:
    left = tube((3, 15, 15), (12, 15, 15), 2.5) | tube((12, 15, 15), (23, 15, 15), 0.8)
    right = tube((48, 15, 15), (57, 15, 15), 2.5) | tube((37, 15, 15), (48, 15, 15), 0.8)
    mask = left | right | tube((27, 15, 15), (33, 15, 15), 0.8)
    bridge = reconnect(mask, np.full(GRID.shape, 0.4, np.float32), GRID).tubes > 0
    assert count_components(mask | bridge) == 2


def test_bridge_is_as_wide_as_the_piece_that_it_joins() -> None:
    mask = tube((5, 15, 15), (30, 15, 15), 1.5) | tube((33, 15, 15), (54, 15, 15), 1.5)
    mask[60:68] = False  # a flat cut of 4 mm
    likely = np.full(GRID.shape, 0.3, np.float32)
    bridge = reconnect(mask, likely, GRID).tubes > 0
    (record,) = find_bridges(Components.of(mask), mask | bridge, likely, GRID)
    assert np.count_nonzero(bridge[63]) >= 0.65 * np.count_nonzero(mask[50])
    assert record.radius_mm == pytest.approx(1.4, abs=0.2) and bridge[tuple(record.voxels.T)].all()


ENDS = tube((5, 15, 15), (20, 15, 15), 1.5) | tube((40, 15, 15), (55, 15, 15), 1.5)
STUMP = tube((21, 15, 15), (36, 15, 15), 1.2)  # further than half of the gap


@pytest.mark.parametrize(
    "added",
    [
        pytest.param(STUMP, id="grown from one end"),
        pytest.param(tube((25, 15, 15), (35, 15, 15), 1.2), id="between the ends"),
        pytest.param(STUMP | tube((30, 15, 15), (30, 25, 15), 1.2), id="grown, with a branch"),
    ],
)
def test_what_grew_over_half_a_gap_is_no_bridge(added: Mask) -> None:
    """Though its end is nearer to the other side than to its own."""
    for turn in (slice(None), slice(None, None, -1)):
        label, mask = ENDS[turn], (ENDS | added)[turn]
        assert find_bridges(Components.of(label), mask, np.ones(GRID.shape, np.float32), GRID) == []


def test_a_stump_is_no_second_bridge() -> None:
    way = tube((12, 15, 15), (12, 25, 15), 1.2) | tube((12, 25, 15), (48, 25, 15), 1.2)
    mask = ENDS | STUMP | way | tube((48, 25, 15), (48, 15, 15), 1.2)
    (bridge,) = find_bridges(Components.of(ENDS), mask, np.ones(GRID.shape, np.float32), GRID)
    assert abs(bridge.place[0] - 30) < 2 and bridge.place[1] > 23
    mask[tuple(bridge.voxels.T)] = False
    index = Components.of(mask).index()
    assert index[12, 30, 30] != index[100, 30, 30] and index[12, 30, 30] and index[100, 30, 30]


def test_thick_slices_do_not_make_fat_bridges() -> None:
    grid = Grid((150, 60, 3), (0.4, 0.4, 3.0))
    mask = np.zeros(grid.shape, bool)
    mask[10:70, 28:33, 1] = mask[78:140, 28:33, 1] = True
    bridge = reconnect(mask, np.full(grid.shape, 0.3, np.float32), grid).tubes > 0
    assert count_components(mask | bridge) == 1
    assert np.ptp(np.argwhere(bridge)[:, 1]) <= 5 and set(np.argwhere(bridge)[:, 2]) == {1}


def test_bridge_that_would_meet_a_third_vessel_is_refused() -> None:
    crossing = tube((33, 3, 15), (33, 27, 15), 0.8)
    bridge = reconnect(torn(4.0) | crossing, np.full(GRID.shape, 0.3, np.float32), GRID).tubes > 0
    assert count_components(torn(4.0) | crossing | bridge) >= 2
    assert MeasuredMask(np.pad(torn(4.0) | crossing | bridge, 2)).betti.loops == 0


def test_bridges_whose_piece_is_dropped_are_not_reported() -> None:
    pieces = tube((20, 22, 22), (21.5, 22, 22), 0.8) | tube((24.3, 22, 22), (25.8, 22, 22), 0.8)
    mask = tube((5, 8, 8), (54, 8, 8), 1.5) | pieces
    result = repair(mask, np.where(mask, 0.9, 0.3).astype(np.float32), GRID, clean=Bounds(0.4, 0.15, drop=0.999))
    assert not (result.mask & pieces).any() and result.bridges == [] and not result.bridge_mask.any()


def test_bridges_do_not_depend_on_axis_order() -> None:
    mask, likely = torn(), np.full(GRID.shape, 0.3, np.float32)
    added = np.count_nonzero(reconnect(mask, likely, GRID).tubes)
    for order in itertools.permutations(range(3)):
        turned = Grid.of([GRID.shape[n] for n in order], GRID.spacing)
        bridge = reconnect(mask.transpose(order), likely.transpose(order), turned).tubes > 0
        assert count_components(mask.transpose(order) | bridge) == 1
        assert np.count_nonzero(bridge) == pytest.approx(added, rel=0.25)


def test_strength_follows_the_noise() -> None:
    mask = tube((5, 15, 15), (54, 15, 15), 2.5)
    soft = blurred(mask, 1.0)
    soft[mask & ~ndimage.binary_erosion(mask)] = 0.3  # F would take the wall away
    clean_mm, noisy_mm, caution, known_mm = VESSEL.trust
    outcomes = [repair(mask, soft, GRID, Noise(noise)) for noise in (0.0, clean_mm, noisy_mm, 1.01 * known_mm)]
    assert [o.caution for o in outcomes] == [caution, caution, 0.0, 0.0]
    np.testing.assert_array_equal(outcomes[0].mask, mask)
    assert np.count_nonzero(outcomes[2].mask) < 0.8 * np.count_nonzero(mask) and not outcomes[2].beyond
    np.testing.assert_array_equal(outcomes[3].mask, mask)
    assert "more than F was trained on" in outcomes[3].beyond
    half = Noise((clean_mm + noisy_mm) / 2)
    decided = [decide_by_noise(mask, soft, GRID, noise=noise) for noise in (Noise(clean_mm), half, Noise(noisy_mm))]
    assert [d.noisy for d in decided] == [0.0, pytest.approx(0.5), 1.0]
    assert decided[1].caution == pytest.approx(caution / 2)
    always = replace(VESSEL, trust=VESSEL.trust._replace(caution=0.0))  # F alone decides, and the noise is as it is
    sure = decide_by_noise(mask, soft, GRID, always, noise=half)
    assert sure.noisy == pytest.approx(0.5) and sure.caution == 0


def test_label_that_f_would_turn_into_something_else_stays() -> None:
    mask = tube((5, 15, 15), (54, 15, 15), 1.5)
    elsewhere = np.where(tube((5, 22, 15), (54, 22, 15), 1.5), 0.75, 0.25).astype(np.float32)
    result = repair(mask, elsewhere, GRID, Noise(0.15))
    np.testing.assert_array_equal(result.mask, mask)
    assert "more than a repair can" in result.beyond and not result.bridges


def test_clean_label_stays_even_where_f_is_certain_and_nan_is_refused() -> None:
    mask = tube((5, 15, 15), (54, 15, 15), 1.5)
    probability = np.where(mask, 0.9, 0.1).astype(np.float32)
    probability[60] = 0.0
    np.testing.assert_array_equal(repair(mask, probability, GRID, Noise(0.0)).mask, mask)
    with pytest.raises(NearError, match="not a number"):
        repair(mask, np.full(GRID.shape, np.nan, np.float32), GRID)


def test_noise_is_the_mean_depth_of_confident_contradictions() -> None:
    mask = tube((5, 15, 15), (54, 15, 15), 1.5)
    probability = np.where(mask, 0.9, 0.1).astype(np.float32)
    assert noise_of(mask, probability, GRID).mm == 0
    thicker = tube((5, 15, 15), (54, 15, 15), 2.0)
    # half a millimetre off at a mean radius of 1.75 mm, per area of the wall at 1.5 mm
    assert noise_of(mask, np.where(thicker, 0.9, 0.1), GRID).mm == pytest.approx(0.5 * 1.75 / 1.5, rel=0.15)
    assert noise_of(np.zeros_like(mask), probability, GRID).mm == 0


def test_a_short_piece_says_little_about_its_noise() -> None:
    """F contradicts every eighth voxel, whatever the length: the shorter the vessel, the surer F must be."""
    likely = np.where(np.arange(60 * 60 * 120).reshape(GRID.shape) % 8, 0.9, 0.0).astype(np.float32)
    pieces = [tube((5, 15, 15), (end, 15, 15), 1.5) for end in (8, 20, 54)]
    cautions = [repair(mask, np.where(mask, likely, 0.1), GRID).caution for mask in pieces]
    assert VESSEL.trust.caution >= cautions[0] > cautions[1] > cautions[2]
    wall = wall_area(pieces[0], GRID)
    assert Noise(0.1, wall).sure_mm == pytest.approx(0.1 * wall / (wall + CLEAN_WALL_MM2))
    assert Noise(np.inf).sure_mm == np.inf and Noise(0.0).sure_mm == 0.0 and Noise(0.1).sure_mm == 0.1


def test_caution_asks_for_certainty_both_ways() -> None:
    mask = np.array([True, True, True, False, False, False])
    probability = np.array([0.6, 0.3, 0.1, 0.4, 0.7, 0.9], np.float32)
    assert decide(mask, probability, 0.0).tolist() == [True, False, False, False, True, True]
    assert decide(mask, probability, 0.3).tolist() == [True, True, False, False, False, True]


def test_small_stranger_goes_and_is_reported_in_world_mm() -> None:
    clean = tube((5, 15, 15), (54, 15, 15), 1.5)
    label = clean.copy()
    label[50:54, 50:54, 50:54] = True  # 8 mm^3
    probability = np.where(label, 0.9, 0.05).astype(np.float32)
    np.testing.assert_array_equal(repair(label, probability, GRID).mask, label)  # it might be a piece of a vessel
    result = repair(label, probability, GRID, clean=Bounds(drop=0.8))
    np.testing.assert_array_equal(result.mask, clean)
    affine = np.diag([-0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] = (100, 0, 0)
    record = in_world(find(label, result, probability, GRID), GRID, affine)[0]
    assert record["kind"] == "removed" and record["volume_mm3"] == 8
    np.testing.assert_allclose(record["place"], (100 - 25.75, 25.75, 25.75), atol=0.06)


def test_small_but_long_piece_is_vessel_and_stays() -> None:
    mask = tube((5, 8, 8), (54, 8, 8), 1.5) | tube((20, 22, 22), (30, 22, 22), 0.8)
    result = repair(mask, np.where(mask, 0.9, 0.01).astype(np.float32), GRID)
    np.testing.assert_array_equal(result.mask, mask)


def test_findings_name_bridges_and_undecided_places() -> None:
    mask = torn()
    probability = np.where(mask, 0.9, 0.1).astype(np.float32)
    probability[10:14, 50:54, 50:54] = 0.45
    result = repair(mask, probability, GRID)
    kinds = [finding.kind for finding in find(mask, result, probability, GRID)]
    assert sorted(kinds) == ["bridged", "uncertain"]


def unusual(mask: Mask) -> list[str]:
    result = repair(mask, np.where(mask, 0.9, 0.1).astype(np.float32), GRID)
    cut = is_cut(Evidence.of(Components.of(mask), GRID.spacing))
    return warnings_for([(mask, GRID)], Components.of(result.mask).sizes * GRID.voxel_volume, cut)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (tube((5, 15, 15), (54, 15, 15), 8.0), "right class"),
        (tube((5, 15, 15), (25, 15, 15), 1.5), "part of a tree"),
        (tube((-5, 15, 15), (54, 15, 15), 1.5), "cut by the border"),
        (tube((4, 15, 15), (55, 15, 15), 1.5), "single tree"),
    ],
)
def test_unusual_labels_are_named(mask: Mask, words: str) -> None:
    assert any(words in line for line in unusual(mask))


def test_two_ordinary_vessels_raise_no_warning() -> None:
    mask = tube((4, 8, 15), (55, 8, 15), 1.5) | tube((4, 22, 15), (55, 22, 15), 1.2)
    assert unusual(mask) == []
    mask[0, :2, 0] = mask[-1, 20, 20] = True  # specks at faces cut nothing
    assert unusual(mask) == []


def test_of_an_empty_label_nothing_is_made() -> None:
    result = repair(np.zeros(GRID.shape, bool), np.zeros(GRID.shape, np.float32), GRID)
    assert not result.mask.any() and not result.bridges and not result.beyond
