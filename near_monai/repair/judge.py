"""The judge: how probable it is that pieces belong together, that one is vessel, that a vessel goes on at an end.

A logistic regression for each question, over what shape tells (:data:`near_monai.repair.joints.FEATURES`,
:data:`near_monai.repair.piece_features.FEATURES`, :data:`near_monai.repair.open_ends.FEATURES`). Its coefficients are a
table that a person can read. They are learned from trees that were torn as networks tear them
(:mod:`near_monai.corruption.torn_trees`): there the truth is known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit
from torch import nn

from near_monai.errors import NearError
from near_monai.geometry.coordinates import FloatArray
from near_monai.networks.model_description import Description
from near_monai.repair.bent_lines import bent, standard
from near_monai.repair.joints import FEATURES as JOINT_FEATURES
from near_monai.repair.open_ends import FEATURES as END_FEATURES
from near_monai.repair.piece_features import FEATURES as PIECE_FEATURES

#: The shipped judge.
FILE = "judge.json"
#: Weight of the penalty of the squared coefficients, in observations: the best of 1, 3, 10 and 30 in cross-validation.
RIDGE = 10.0


class Bounds(NamedTuple):
    """What is done at which probability.

    Attributes:
        join: a joint at least this probable is made ...
        propose: ... and one at least this probable is listed, for a person to decide.
        drop: a small piece that is vessel with less probability than this, and joined to nothing, is removed; in a
            noisy label already below :data:`near_monai.repair.mask_repair.NOISY_DROP`.
    """

    join: float = 0.4
    propose: float = 0.15
    drop: float = 0.15


@dataclass(frozen=True)
class Classifier:
    """A logistic regression on features and on what exceeds their medians: each may count more above it, or less.

    Attributes:
        features: their names.
        knot: the median of each in training.
        mean: of features and excesses in training ...
        scale: ... and their standard deviations.
        weight: log odds per standard deviation of each.
        bias: log odds of the mean.
    """

    features: tuple[str, ...]
    knot: tuple[float, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weight: tuple[float, ...]
    bias: float

    def __call__(self, features: ArrayLike) -> NDArray[np.float64]:
        """Probabilities ``(N,)`` of ``features`` ``(N, F)``."""
        rows = np.asarray(features, np.float64).reshape(-1, len(self.features))
        seen = standard(bent(rows, np.reshape(self.knot, (-1, 1))), self.mean, self.scale)
        return np.asarray(expit(seen @ self.weight + self.bias))

    @classmethod
    def fit(cls, names: Sequence[str], features: FloatArray, truth: ArrayLike) -> Classifier:
        """Learn from ``features`` ``(N, F)`` and the ``truth`` ``(N,)`` of each, 0 or 1."""
        knot = np.median(features, axis=0)
        rows = bent(features, knot[:, None])
        mean, scale = rows.mean(0), np.maximum(rows.std(0), 1e-3)
        rows, sign = standard(rows, mean, scale), 2 * np.asarray(truth, np.float64) - 1

        def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
            odds = sign * (rows @ parameters[:-1] + parameters[-1])
            wrong = -sign * expit(-odds)
            penalty = RIDGE / 2 * float(parameters[:-1] @ parameters[:-1])
            slope = np.append(rows.T @ wrong + RIDGE * parameters[:-1], wrong.sum())
            return float(np.logaddexp(0, -odds).sum()) + penalty, slope

        found = minimize(loss, np.zeros(rows.shape[1] + 1), jac=True, method="L-BFGS-B").x
        plain = [tuple(part.round(4).tolist()) for part in (knot, mean, scale, found[:-1])]
        return cls(tuple(names), plain[0], plain[1], plain[2], plain[3], round(float(found[-1]), 4))

    @classmethod
    def of(cls, content: Mapping[str, Any], names: Sequence[str]) -> Classifier:
        """From plain values, which must be for the features ``names``.

        Raises:
            ValueError: they are not.
        """
        knot, mean, scale, weight = (
            tuple(float(value) for value in content[key]) for key in ("knot", "mean", "scale", "weight")
        )
        if list(content["features"]) != list(names) or len(knot) != len(names):
            raise ValueError("features: not those of this version")
        if {len(part) for part in (mean, scale, weight)} != {2 * len(names)}:
            raise ValueError("mean, scale and weight: expected two numbers per feature")
        if not np.isfinite([*knot, *mean, *scale, *weight, content["bias"]]).all() or min(scale) <= 0:
            raise ValueError("expected finite numbers, and scales above 0")
        return cls(tuple(names), knot, mean, scale, weight, float(content["bias"]))


@dataclass(frozen=True)
class Judge:
    """All three answers.

    Attributes:
        joints: is a joint right, by :data:`near_monai.repair.joints.FEATURES`?
        pieces: is a piece vessel, by :data:`near_monai.repair.piece_features.FEATURES`?
        ends: does a vessel go on where it ends, by :data:`near_monai.repair.open_ends.FEATURES`?
    """

    joints: Classifier
    pieces: Classifier
    ends: Classifier

    def to_row(self) -> dict[str, Any]:
        """As plain values."""
        row: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return row

    @classmethod
    def of(cls, row: Mapping[str, Any], where: object) -> Judge:
        """From :meth:`to_row`'s values, found in the file ``where``.

        Raises:
            NearError: they are no judge, or that of another version.
        """
        try:
            return cls(
                Classifier.of(row["joints"], JOINT_FEATURES),
                Classifier.of(row["pieces"], PIECE_FEATURES),
                Classifier.of(row["ends"], END_FEATURES),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise NearError(f"{where}: its judge of joints cannot be used ({error}); train it again") from error


@cache
def shipped_judge() -> Judge:
    """The judge that was trained on generated trees."""
    text = (resources.files("near_monai.repair") / FILE).read_text(encoding="utf-8")
    return Judge.of(json.loads(text), FILE)


def judge_of(network: nn.Module | None) -> Judge | None:
    """The judge that came with the weights of a network; ``None`` if they brought none: the shipped one is meant."""
    description = getattr(network, "description", None)
    row = description.judge if isinstance(description, Description) else None
    return None if row is None else Judge.of(row, "the weights")
