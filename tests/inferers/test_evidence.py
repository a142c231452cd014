"""Nothing is invented: what is added lies near label mass, and what joins its components is a bridge that goes back."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

import near_monai
from benchmarks.beyond_inputs import make
from near_monai.anatomy import by_name
from near_monai.errors import NearWarning
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import load_network
from near_monai.refinement.one_structure import Refined, refine_mask
from near_monai.repair.joints import REACH_MM

Mask = NDArray[np.bool_]
CASES = st.tuples(st.sampled_from(("specks", "salt", "slices", "strays", "blocks", "mixture")), st.integers(0, 40))
ALL_26 = np.ones((3, 3, 3))


@cache
def loaded() -> tuple[NearNetwork, WorkingSpace]:
    return load_network(device="cpu")


@cache
def refined(kind: str, seed: int) -> tuple[Mask, Refined]:
    made = make(kind, seed, 56)
    return made.noisy, refine_mask(made.noisy, Grid.of(made.noisy.shape, made.spacing), *loaded())


def joined(label: Mask, mask: Mask) -> list[set[int]]:
    """Which components of a label share a component of a mask: sets of two or more of their numbers."""
    index, whole = (ndimage.label(array, ALL_26)[0] for array in (label, mask))
    both = np.unique(np.stack([whole, index])[:, (whole > 0) & (index > 0)], axis=1)
    sets = [set(both[1, both[0] == number].tolist()) for number in np.unique(both[0])]
    return [group for group in sets if len(group) > 1]


def examples(count: int) -> settings:
    slow = (HealthCheck.too_slow,)
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=slow,
    )


@examples(12)
@given(CASES)
def test_nothing_is_added_far_from_the_label(case: tuple[str, int]) -> None:
    label, result = refined(*case)
    added = result.repaired.mask & ~label
    far = ndimage.distance_transform_edt(~label, result.grid.spacing)
    reach = loaded()[1].truncate + max(result.grid.spacing)
    assert not (added & ~result.repaired.bridge_mask & (far > reach)).any()
    assert not (added & (far > REACH_MM)).any()


@examples(12)
@given(CASES)
def test_what_joins_is_a_bridge(case: tuple[str, int]) -> None:
    label, result = refined(*case)
    done = result.repaired
    union = np.zeros_like(label)
    for bridge in done.bridges:
        there = tuple(bridge.voxels.T)
        assert len(bridge.voxels) and done.mask[there].all() and not label[there].any()
        assert 0 < bridge.gap_mm <= REACH_MM and np.isfinite(bridge.probability)
        assert bridge.volume_mm3 == pytest.approx(len(bridge.voxels) * result.grid.voxel_volume)
        union[there] = True
    np.testing.assert_array_equal(union, done.bridge_mask)
    assert joined(label, done.mask & ~union) == []
    assert sum(len(group) - 1 for group in joined(label, done.mask)) <= len(done.bridges)


def gaps() -> Iterator[tuple[str, Mask, tuple[float, float, float], int]]:
    """Vessels with gaps of known number."""
    i, j, k = np.indices((90, 40, 40)) * 0.4
    vessel = (np.hypot(j - 8, k - 8) < 1.4) & (i > 4) & (i < 32)
    yield "one that F closes itself", vessel & ~((i > 16.5) & (i < 20)), (0.4,) * 3, 1
    yield "one voxel", vessel & ~((i > 17.9) & (i < 18.3)), (0.4,) * 3, 1
    yield "two", vessel & ~((i % 8 > 6) & (i > 9) & (i < 26)), (0.4,) * 3, 2
    yield "wide", vessel & ~((i > 15) & (i < 21)), (0.4,) * 3, 1
    yield "thick slices", np.ascontiguousarray(vessel[::4] & ~((i[::4] > 15) & (i[::4] < 18))), (1.6, 0.4, 0.4), 1


@pytest.mark.parametrize(("mask", "spacing", "count"), [pytest.param(*row[1:], id=row[0]) for row in gaps()])
def test_gaps_of_a_vessel_are_bridges_that_go_back_one_by_one(
    mask: Mask, spacing: tuple[float, float, float], count: int
) -> None:
    assert ndimage.label(mask, ALL_26)[1] == count + 1
    done = refine_mask(mask, Grid.of(mask.shape, spacing), *loaded()).repaired
    pieces = ndimage.label(done.mask, ALL_26)[1]
    assert len(done.bridges) == count + 1 - pieces
    for bridge in done.bridges:
        back = done.mask.copy()
        back[tuple(bridge.voxels.T)] = False
        assert ndimage.label(back, ALL_26)[1] == pieces + 1


def test_voxels_of_the_wall_nearby_are_no_part_of_a_bridge() -> None:
    """A rough tree with four gaps: every bridge is in one piece, and is one edit."""
    i, j, k = np.indices((120, 60, 44)) * 0.5
    tree = np.minimum(np.hypot(j - 9, k - 11), np.where(i > 28, np.hypot(j - 9 - (i - 28) * 0.6, k - 11), 99))
    label = (tree + np.random.default_rng(5).normal(0, 0.15, tree.shape) < 1.5) & (i > 5) & (i < 55)
    label &= ~((i > 15) & (i < 17)) & ~((i > 22) & (i < 24.1)) & (abs(i - 40) >= 1.5)
    done = refine_mask(label, Grid.of(label.shape, (0.5,) * 3), *loaded()).repaired
    assert len(done.bridges) == 4 and ndimage.label(done.mask, ALL_26)[1] == 1
    assert ndimage.label(done.bridge_mask, ALL_26)[1] == 4
    for bridge in done.bridges:
        back = done.mask.copy()
        back[tuple(bridge.voxels.T)] = False
        assert ndimage.label(back, ALL_26)[1] == 2


def test_a_gap_that_f_closes_itself_is_a_bridge() -> None:
    (_, mask, spacing, _), *_ = gaps()
    done = refine_mask(mask, Grid.of(mask.shape, spacing), *loaded()).repaired
    (bridge,) = done.bridges
    assert bridge.gap_mm == pytest.approx(3.6, abs=0.5)  # from 16.4 to 20.0 mm
    np.testing.assert_array_equal(np.argwhere(done.bridge_mask), bridge.voxels)


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(np.random.default_rng(0).random((50, 50, 50)) < 3e-3, id="specks alone"),
        pytest.param(np.random.default_rng(0).random((30, 30, 30)) < 0.5, id="noise alone"),
        pytest.param(np.indices((30, 30, 30)).sum(0) % 2 == 0, id="chessboard"),
    ],
)
def test_a_label_without_a_vessel_stays_as_it_is_and_says_so(mask: Mask) -> None:
    done = refine_mask(mask, Grid.of(mask.shape, (0.5,) * 3), *loaded()).repaired
    np.testing.assert_array_equal(done.mask, mask)
    assert done.bridges == [] and "left as it was" in done.beyond


def test_a_part_that_stays_is_not_called_the_whole_label() -> None:
    """A vessel, and far from it a cloud of noise that is none."""
    i, j, k = np.indices((170, 40, 40)) * 0.5
    label = (np.hypot(j - 10, k - 10) < 1.5) & (i > 5) & (i < 35)
    label[20:24, 16:25, 16:25] = False
    label[140:160, 10:30, 10:30] = np.random.default_rng(0).random((20, 20, 20)) < 0.5
    with pytest.warns(NearWarning, match=": a part of the label was left as it was"):
        found = near_monai.refine(label.astype(np.uint8), (0.5,) * 3, return_details=True)
    np.testing.assert_array_equal(found.label[120:], label[120:])
    assert len(found.bridges) == 1 and not any(": the label was left" in text for text in found.warnings)


@pytest.mark.parametrize(
    ("name", "step", "seen"),
    [("coronary", 2.0, True), ("coronary", 3.0, False), ("aorta", 3.0, True), ("aorta", 6.0, False)],
)
def test_where_voxels_are_larger_than_f_can_see_the_label_stays(name: str, step: float, seen: bool) -> None:
    """A rough vessel in thick slices; an aorta may be in slices twice as thick."""
    structure, fine = by_name(name), (0.4, 0.4, step)
    i, j, k = (index * size for index, size in zip(np.indices((60, 60, 12)), fine, strict=True))
    rough = np.hypot(i - 12, j - 12) + np.random.default_rng(0).normal(0, 0.5, i.shape) < 2 * structure.scale
    label = rough & (k > 1.5 * step) & (k < 9.5 * step)
    done = refine_mask(label, Grid.of(label.shape, fine), *loaded(), structure=structure).repaired
    assert (done.mask != label).any() == seen
    said = f"voxels of {step:g} mm, more than F can see ({2.5 * structure.scale:g} mm): the label was left as it was"
    assert done.beyond == ("" if seen else said)
