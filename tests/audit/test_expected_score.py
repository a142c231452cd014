"""Expected scores: what is learned, how wide the intervals are, and that the shipped numbers fit the figures."""

import numpy as np
import pytest
from numpy.typing import NDArray

from near_monai.anatomy import by_name
from near_monai.audit.expected_score import (
    HELD,
    SCORES,
    Auditor,
    BentLine,
    ExpectedScore,
    auditor_for,
    shipped_auditors,
    to_loss,
    to_score,
)
from near_monai.audit.seen_label import Seen
from near_monai.audit.shape_figures import shape_figures
from near_monai.geometry.coordinates import Grid


def examples(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Figures, and a Dice that follows the first one, more loosely where the second is large."""
    rng = np.random.default_rng(seed)
    figures = rng.uniform(0, 1, (count, 3))
    loss = 0.02 + 0.3 * figures[:, 0] ** 2
    noise = np.exp((0.05 + 0.4 * figures[:, 1]) * rng.normal(size=count))
    return figures, 1 - np.clip(loss * noise, 0, 1)


@pytest.mark.parametrize("score", SCORES)
def test_losses_lead_back_to_scores(score: str) -> None:
    values = np.array([0.0, 3.0, 40.0]) if score == "betti0_error" else np.array([0.0, 0.5, 0.97, 1.0])
    np.testing.assert_allclose(to_score(score, to_loss(score, values)), values, atol=1e-12)


def test_a_bent_line_follows_a_bend() -> None:
    x = np.linspace(-1, 1, 60_000)[:, None]
    line = BentLine.fit(x, np.abs(x[:, 0]), np.ones(60_000))
    assert np.abs(line(x) - np.abs(x[:, 0])).max() < 0.1


def test_intervals_hold_what_they_say_and_widen_where_less_is_known() -> None:
    figures, dice = examples(1200, 0)
    learned = ExpectedScore.fit("dice", figures, dice, np.arange(len(dice)) % 5, np.ones(len(dice)))
    seen, true = examples(1200, 1)
    at, low, high = np.array(learned(seen)).T
    assert abs(((low <= true) & (true <= high)).mean() - HELD) < 0.05
    assert np.corrcoef(at, true)[0, 1] > 0.85
    loose = seen[:, 1] > 0.7
    tight = seen[:, 1] < 0.3
    assert (high - low)[loose].mean() > 1.5 * (high - low)[tight].mean()


def test_an_auditor_is_plain_values_and_back() -> None:
    figures, dice = examples(120, 2)
    rows = [dict(zip("abc", row, strict=True)) for row in figures.tolist()]
    truth = [dict.fromkeys(SCORES, value) | {"betti0_error": round(10 * (1 - value))} for value in dice.tolist()]
    learned = Auditor.fit(rows, truth, [number % 4 for number in range(120)], [1.0] * 120)
    again = Auditor.of(learned.to_row())
    assert again(rows[3]) == learned(rows[3])


def test_the_shipped_numbers_know_the_figures() -> None:
    grid = Grid((40, 24, 24), (0.6, 0.5, 0.5))
    _, j, k = np.meshgrid(*grid.axes_mm(), indexing="ij")
    label = np.hypot(j - 6, k - 6) < 1.6
    label[:3] = label[-3:] = False
    p = np.where(label, 0.99, 0.01).astype(np.float32)
    figures = shape_figures(Seen(label, label, p, grid, 0.0, 0, (), np.zeros_like(label)))
    for auditor in shipped_auditors().values():
        assert auditor.figures == tuple(figures)
        found = auditor(figures)
        assert set(found) == set(SCORES)
        assert all(at.low <= at.expected <= at.high for at in found.values())
    own = auditor_for(by_name("coronary"))
    assert own is not None and own(figures)["dice"].expected > 0.9
