"""Torn trees, refined as a user would: pieces come together again, and the left tree never joins the right one."""

import numpy as np
import pytest

import near_monai
from near_monai.corruption.torn_trees import tear
from near_monai.datasets.coronary_cases import phantom_pair
from near_monai.geometry.components import Components, count_components
from near_monai.geometry.distance import signed_distance


@pytest.mark.parametrize("number", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 20))])
def test_pieces_come_together_and_the_two_trees_never_do(number: int) -> None:
    _, truth, grid = phantom_pair(4711, number, "none", (0.5, 0.5, 0.5))
    torn = tear(truth, grid, np.random.default_rng((4711, number)))
    refined = near_monai.refine(torn.astype(np.uint8), grid.spacing) > 0
    trees = Components.of(truth)
    assert len(trees) == 2
    inside = [
        signed_distance(Components.at(part, truth.shape).index() > 0, grid.spacing, 2.0) < 0.5 for part in trees.parts
    ]
    for part in Components.of(refined).parts:
        held = [np.count_nonzero(tree[tuple(part.T)]) for tree in inside]
        assert min(held) < 10, f"{held} voxels of the two trees in one piece"
    before, after = count_components(torn), count_components(refined)
    assert after <= before
    lost = np.count_nonzero(truth & torn & ~refined) / np.count_nonzero(truth)
    assert lost < 0.03
