"""What is true of joints and pieces of torn trees, and a judge that learns it."""

import numpy as np
import pytest

from near_monai.geometry.coordinates import Grid
from near_monai.repair.piece_features import FEATURES, piece_features
from near_monai.training.judge_training import Example, learn

GRID = Grid((120, 60, 60), (0.5, 0.5, 0.5))
X, Y, Z = np.indices(GRID.shape) * 0.5
TREE = np.hypot(Y - 15, Z - 15) < 1.5


def example(gap: float = 3.0, aside: float = 8.0) -> Example:
    """A straight vessel with a gap at 20 mm, and a stray one beside its second half."""
    torn = TREE & (np.abs(X - 20) > gap / 2)
    stray = (np.hypot(Y - 15 - aside, Z - 15) < 1.0) & (X > 30) & (X < 40)
    return Example.of(torn | stray, np.full(GRID.shape, 0.2, np.float32), TREE, GRID)


@pytest.mark.parametrize("gap", [2.0, 5.0])
def test_only_the_joint_over_the_gap_is_right(gap: float) -> None:
    made = example(gap)
    assert made.vessel.tolist() == [True, True, False]
    assert made.right.any() and not made.right.all()
    for joint, right in zip(made.joints, made.right, strict=True):
        assert right == (set(joint.pieces) == {0, 1})


def test_a_judge_learns_what_is_right() -> None:
    rng = np.random.default_rng(0)
    made = [example(gap, aside) for gap, aside in rng.uniform([1.5, 4.0], [8.0, 12.0], (12, 2)).tolist()]
    judge = learn(made)
    unseen = example(4.0, 7.0)
    sure = judge.joints(unseen.features)
    assert sure[unseen.right].min() > 0.8 and sure[~unseen.right].max() < 0.3
    rows = piece_features(unseen.pieces, unseen.joints, sure)
    assert rows.shape == (3, len(FEATURES)) and np.isfinite(rows).all()
    assert judge.pieces(rows)[2] < 0.5 < judge.pieces(rows)[:2].min()
