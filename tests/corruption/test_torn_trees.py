"""Torn trees: pieces of the tree, gaps where it is thin, strays that do not touch it; the same seed tears the same."""

import numpy as np
import pytest

from near_monai.corruption.torn_trees import APART_MM, tear
from near_monai.datasets.coronary_cases import phantom_pair
from near_monai.geometry.components import Components, count_components
from near_monai.geometry.distance import signed_distance

_, TREE, GRID = phantom_pair(31, 0, "none", (0.5, 0.5, 0.6))


@pytest.fixture(scope="module")
def torn() -> list[np.ndarray]:
    return [tear(TREE, GRID, np.random.default_rng(seed)) for seed in range(8)]


def test_a_tree_is_torn_and_most_of_it_stays(torn: list[np.ndarray]) -> None:
    kept = [np.count_nonzero(mask & TREE) / np.count_nonzero(TREE) for mask in torn]
    assert min(kept) > 0.5 and max(kept) < 1.0
    assert np.mean([count_components(mask) for mask in torn]) > count_components(TREE) + 2


def test_strays_do_not_touch_the_tree(torn: list[np.ndarray]) -> None:
    away = signed_distance(TREE, GRID.spacing, 2.0)
    strays = [mask & ~TREE for mask in torn]
    assert any(mask.any() for mask in strays)
    for mask in strays:
        assert not mask.any() or away[mask].min() >= APART_MM - max(GRID.spacing)


def test_thin_vessels_are_lost_first(torn: list[np.ndarray]) -> None:
    depth = -signed_distance(TREE, GRID.spacing, 3.0)
    lost, kept = (np.concatenate([depth[TREE & (mask == state)] for mask in torn]) for state in (False, True))
    assert lost.mean() < kept.mean()


def test_the_same_seed_tears_the_same_and_nothing_stays_nothing() -> None:
    again = [tear(TREE, GRID, np.random.default_rng(3)) for _ in range(2)]
    np.testing.assert_array_equal(again[0], again[1])
    nothing = np.zeros_like(TREE)
    assert not tear(nothing, GRID, np.random.default_rng(0)).any() and len(Components.of(nothing)) == 0
