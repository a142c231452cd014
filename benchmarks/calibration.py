"""Does a probability mean what it says? Reliability bins and the expected calibration error near the vessel wall.

Far from any wall every probability is 0 or 1 and right: the more background a case has, the better it would look. So
only voxels within :data:`NEAR_MM` of the noisy or the true label's wall count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from near_monai.geometry.distance import signed_distance

#: Bins of equal width in [0, 1].
BINS = 10
#: mm from a wall within which voxels count.
NEAR_MM = 2.0

#: ``(BINS, 3)``: number of voxels, sum of their probabilities, number of them that are vessel. Cases add up.
Reliability = NDArray[np.float64]


def reliability(probability: NDArray[np.floating], truth: NDArray[np.bool_]) -> Reliability:
    """Bins of the voxels given, arrays of one shape."""
    index = np.minimum((probability.ravel() * BINS).astype(int), BINS - 1)
    columns = (None, probability.ravel().astype(np.float64), truth.ravel().astype(np.float64))
    return np.stack([np.bincount(index, weights, BINS).astype(np.float64) for weights in columns], axis=1)


def near_walls(
    noisy: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Voxels within :data:`NEAR_MM` of either wall."""
    to_noisy, to_truth = (np.abs(signed_distance(mask, spacing, NEAR_MM + 1)) for mask in (noisy, truth))
    return np.minimum(to_noisy, to_truth) <= NEAR_MM


def expected_calibration_error(bins: Reliability) -> float:
    """Mean over voxels of the distance, in their bin, between mean probability and share of vessel; 0..1.

    NaN without voxels.
    """
    voxels = bins[:, 0].sum()
    return float(np.abs(bins[:, 1] - bins[:, 2]).sum() / voxels) if voxels else float("nan")


def curve(bins: Reliability) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean probability and share of vessel of the bins that have voxels."""
    count, probability, vessel = bins[bins[:, 0] > 0].T
    return probability / count, vessel / count
