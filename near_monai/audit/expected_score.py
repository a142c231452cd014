"""What a label would score against the truth, expected from shape alone, with intervals of 80 %.

Per score an additive regression: every figure of the shape counts along a bent line, and the spread of what it misses
is regressed in the same way, so that a label that is hard to judge has a wide interval. The ends of the intervals are
those that hold 80 % of the trees that neither regression has seen (conformal prediction; Papadopoulos et al., 2002).
All of it is a table of numbers (``audit.json``) and needs numpy alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from near_monai.anatomy import HEART, VESSEL, Structure
from near_monai.audit.shape_figures import LEAST
from near_monai.geometry.coordinates import FloatArray
from near_monai.repair.bent_lines import bent, standard

#: The shipped numbers.
FILE = "audit.json"
#: Figures bend at these quantiles of what training saw.
KNOTS = (0.2, 0.5, 0.8)
#: Weight of the penalty of the squared coefficients, in observations: of 30, 100 and 300 the largest whose error on
#: trees that were left out was within one standard error of the least.
RIDGE = 300.0
#: Share of labels whose score an interval holds.
HELD = 0.8
#: Added to what a share lacks before its logarithm is taken.
LEAST_LOSS = 0.01

#: Scores that are counts of errors; all others are shares of which 1 is perfect.
COUNTS = ("betti0_error",)
#: Figures of the agreement of a label with its own refined result, by the score that they stand for.
AGREEMENT = {"dice": "repaired", "surface_dice_1mm": "one_mm", "cldice": "cldice"}
#: The kind of all structures of the heart that are no coronary arteries.
ORGANS = "organs"
SCORES = ("dice", "surface_dice_1mm", "cldice", "betti0_error")


class Interval(NamedTuple):
    """An expected score, and between what it lies in four of five labels."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True)
class BentLine:
    """A sum of bent lines, one for every figure.

    Attributes:
        knots: per figure where it may bend.
        mean: of figures and of their excesses over the knots in training ...
        scale: ... and their standard deviations.
        weight: slope per standard deviation of each.
        bias: value at the mean.
    """

    knots: tuple[tuple[float, ...], ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weight: tuple[float, ...]
    bias: float

    def __call__(self, figures: FloatArray) -> FloatArray:
        """Values ``(N,)`` of ``figures`` ``(N, F)``."""
        rows = standard(bent(figures, self.knots), self.mean, self.scale)
        return np.asarray(rows @ self.weight + self.bias)

    @classmethod
    def fit(cls, figures: FloatArray, values: FloatArray, weights: FloatArray) -> BentLine:
        """Least squares with a penalty, from ``figures`` ``(N, F)``, ``values`` and ``weights`` ``(N,)``."""
        knots = np.quantile(figures, KNOTS, axis=0).T
        rows = bent(figures, knots)
        mean, scale = rows.mean(0), np.maximum(rows.std(0), 1e-3)
        rows = standard(rows, mean, scale)
        own = weights / weights.mean()
        bias, centre = np.average(values, weights=own), np.average(rows, 0, own)
        rows = rows - centre
        square = (rows * own[:, None]).T @ rows + RIDGE * np.eye(rows.shape[1])
        slope = np.linalg.solve(square, rows.T @ (own * (values - bias)))
        plain = [tuple(np.round(part, 5).tolist()) for part in (mean, scale, slope)]
        bends = tuple(tuple(row) for row in np.round(knots, 4).tolist())
        return cls(bends, plain[0], plain[1], plain[2], round(float(bias - centre @ slope), 5))

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> BentLine:
        """From plain values."""
        return cls(
            tuple(tuple(part) for part in row["knots"]),
            tuple(row["mean"]),
            tuple(row["scale"]),
            tuple(row["weight"]),
            float(row["bias"]),
        )


def to_loss(score: str, values: ArrayLike) -> FloatArray:
    """Scores on the scale of the regression, where 0 errors are small and equal steps equal ratios."""
    array = np.asarray(values, np.float64)
    return np.log1p(array) if score in COUNTS else np.log(1 - array + LEAST_LOSS)


def to_score(score: str, losses: ArrayLike) -> FloatArray:
    """The way back from :func:`to_loss`."""
    array = np.exp(np.asarray(losses, np.float64))
    return np.maximum(array - 1, 0) if score in COUNTS else np.clip(1 + LEAST_LOSS - array, 0, 1)


@dataclass(frozen=True)
class ExpectedScore:
    """One score, expected from figures.

    Attributes:
        score: its name.
        middle: the expected loss.
        spread: logarithm of the size of what ``middle`` misses.
        low: the interval begins so many spreads below the middle (on the scale of the loss) ...
        high: ... and ends so many above.
    """

    score: str
    middle: BentLine
    spread: BentLine
    low: float
    high: float

    def __call__(self, figures: FloatArray) -> list[Interval]:
        """What labels with ``figures`` ``(N, F)`` would score."""
        middle, spread = self.middle(figures), np.exp(self.spread(figures))
        ends = [to_score(self.score, middle + end * spread) for end in (0.0, self.low, self.high)]
        return [Interval(at, min(a, b), max(a, b)) for at, a, b in zip(*(end.tolist() for end in ends), strict=True)]

    @classmethod
    def fit(
        cls, score: str, figures: FloatArray, truth: FloatArray, group: NDArray[np.integer], counts: FloatArray
    ) -> ExpectedScore:
        """Learn from ``figures`` ``(N, F)``, the ``truth`` ``(N,)`` and how much each ``counts``.

        What is held out together is of one ``group``.

        The spread, and the ends of the intervals, come from labels that the regression has not seen.
        """
        losses, weights = to_loss(score, truth), _weights(score, truth) * counts
        missed = np.zeros(len(losses))
        for part in np.unique(group):
            held = group == part
            missed[held] = losses[held] - BentLine.fit(figures[~held], losses[~held], weights[~held])(figures[held])
        size = np.log(np.abs(missed) + 0.02)
        relative = np.zeros(len(losses))
        for part in np.unique(group):
            held = group == part
            spread = BentLine.fit(figures[~held], size[~held], counts[~held])
            relative[held] = missed[held] / np.exp(spread(figures[held]))
        low, high = np.quantile(relative, [(1 - HELD) / 2, (1 + HELD) / 2]).round(4).tolist()
        middle = BentLine.fit(figures, losses, weights)
        return cls(score, middle, BentLine.fit(figures, size, counts), low, high)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> ExpectedScore:
        """From plain values."""
        middle, spread = BentLine.of(row["middle"]), BentLine.of(row["spread"])
        return cls(str(row["score"]), middle, spread, float(row["low"]), float(row["high"]))


def _weights(score: str, truth: FloatArray) -> FloatArray:
    """What counts is the error of the score itself: a step of its logarithm is large where the score is far off."""
    if score in COUNTS:
        return np.ones(len(truth))
    return np.asarray(1.05 - truth)


@dataclass(frozen=True)
class Auditor:
    """All scores of one kind of structure.

    Attributes:
        figures: names of the figures, in the order of the regressions.
        scores: what is expected of them.
    """

    figures: tuple[str, ...]
    scores: tuple[ExpectedScore, ...]

    def __call__(self, figures: Mapping[str, float]) -> dict[str, Interval]:
        """What a label with these figures would score."""
        row = np.array([[figures[name] for name in self.figures]])
        return {one.score: one(row)[0] for one in self.scores}

    @classmethod
    def fit(
        cls,
        figures: Sequence[Mapping[str, float]],
        truth: Sequence[Mapping[str, float]],
        group: Sequence[int],
        counts: Sequence[float],
    ) -> Auditor:
        """Learn from labels whose truth is known.

        Args:
            figures: of every label, by name.
            truth: its scores, by name.
            group: labels of one group are held out together.
            counts: how much each counts.
        """
        names = tuple(figures[0])
        rows = np.array([[row[name] for name in names] for row in figures])
        held, own = np.asarray(group), np.asarray(counts, np.float64)
        scores = [ExpectedScore.fit(s, rows, np.array([row[s] for row in truth]), held, own) for s in SCORES]
        return cls(names, tuple(scores))

    def to_row(self) -> dict[str, Any]:
        """As plain values."""
        row: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return row

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Auditor:
        """From :meth:`to_row`'s values."""
        return cls(tuple(row["figures"]), tuple(ExpectedScore.of(one) for one in row["scores"]))


@cache
def shipped_auditors() -> dict[str, Auditor]:
    """By the kind of structures that they were learned on, see :func:`auditor_for`."""
    rows = json.loads((resources.files("near_monai.audit") / FILE).read_text(encoding="utf-8"))
    return {kind: Auditor.of(row) for kind, row in rows.items()}


def auditor_for(structure: Structure) -> Auditor | None:
    """The auditor that was learned on structures of this kind; ``None`` if there is none.

    One was learned on coronary arteries, another on all other structures of the heart's table.
    """
    if structure.name == VESSEL.name:
        return shipped_auditors()[VESSEL.name]
    return shipped_auditors()[ORGANS] if structure.name in {row.name for row in HEART.structures} else None


def agreement(figures: Mapping[str, float]) -> dict[str, float]:
    """What a label would score if its own refined result were the truth."""
    return {score: 1 + LEAST - math.exp(figures[name]) for score, name in AGREEMENT.items()} | {
        "betti0_error": float(np.expm1(figures["excess"]))
    }
