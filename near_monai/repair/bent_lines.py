"""Bent lines: how the small regressions that ship as tables of numbers see their features."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from near_monai.geometry.coordinates import FloatArray

#: Features are cut off so many standard deviations from their mean: what training never saw is no evidence.
LARGEST = 4.0


def bent(features: FloatArray, knots: ArrayLike) -> FloatArray:
    """``features`` ``(N, F)``, and by how much they exceed their ``knots`` ``(F, K)``: ``(N, F + F * K)``."""
    over = np.maximum(features[:, :, None] - np.asarray(knots), 0)
    return np.concatenate([features, over.reshape(len(over), over.shape[1] * over.shape[2])], axis=1)


def standard(rows: FloatArray, mean: ArrayLike, scale: ArrayLike) -> FloatArray:
    """``rows`` ``(N, F)`` in standard deviations from their mean, within :data:`LARGEST`."""
    return np.clip((rows - np.asarray(mean)) / np.asarray(scale), -LARGEST, LARGEST)
