"""The judge: a regression that says what it learned, refuses other people's numbers, and knows vessels when shipped."""

import json
from typing import Any

import numpy as np
import pytest

from near_monai.errors import NearError
from near_monai.repair.joints import FEATURES as JOINT_FEATURES
from near_monai.repair.judge import Bounds, Classifier, Judge, shipped_judge
from near_monai.repair.piece_features import FEATURES as PIECE_FEATURES

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(4000, 2)) * [1, 5] + [3, 0]
CHANCE = 1 / (1 + np.exp(-(2 * (ROWS[:, 0] - 3) - 3 * np.maximum(ROWS[:, 0] - 3, 0))))


def test_probabilities_are_those_that_were_learned() -> None:
    """One feature counts up to its median and against it above; the other does not count."""
    found = Classifier.fit(("bent", "idle"), ROWS, RNG.random(4000) < CHANCE)
    said = found(ROWS)
    assert np.abs(said - CHANCE).mean() < 0.03
    for low in np.arange(0, 1, 0.2):
        there = (said >= low) & (said < low + 0.2)
        assert there.sum() < 50 or abs(CHANCE[there].mean() - said[there].mean()) < 0.05
    assert found(np.zeros((0, 2))).shape == (0,)
    assert np.isfinite(found([[1e9, -1e9]])).all()


def test_a_judge_goes_through_json_unchanged() -> None:
    judge = shipped_judge()
    assert Judge.of(json.loads(json.dumps(judge.to_row())), "here") == judge
    assert judge.joints.features == JOINT_FEATURES and judge.pieces.features == PIECE_FEATURES


def spoil(row: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    spoiled = json.loads(json.dumps(row))
    spoiled["joints"][key] = value
    return dict(spoiled)


@pytest.mark.parametrize(
    ("key", "value"),
    [("features", ["gap"]), ("weight", [1.0]), ("bias", float("nan")), ("scale", "wide"), ("knot", [None] * 27)],
)
def test_other_numbers_are_refused_in_one_line(key: str, value: Any) -> None:
    with pytest.raises(NearError, match=r"^weights\.safetensors: its judge of joints cannot be used .*train it again$"):
        Judge.of(spoil(shipped_judge().to_row(), key, value), "weights.safetensors")
    with pytest.raises(NearError, match="train it again"):
        Judge.of({}, "weights.safetensors")


def test_the_default_bounds_are_in_order() -> None:
    assert 0 < Bounds().drop < 1 and 0 < Bounds().propose < Bounds().join < 1
