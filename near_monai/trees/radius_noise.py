"""Radii along a vessel without the noise of its wall, and with the narrow places that are none."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from near_monai.geometry.coordinates import FloatArray

#: Standard deviations, in mm along the axis, of the Gaussians over which radii are averaged: where there is more to see
#: than noise, and where there is not.
FINE_MM, COARSE_MM = 0.75, 4.0
#: What differs from the average over so many mm is noise: no vessel changes its width so fast.
NOISE_MM = 1.5
#: mm around a point that tell how much there is to see.
AROUND_MM = 3.0
#: Variance over the square of the median deviation, of a Gaussian.
VARIANCE = 1.4826**2


def without_noise(radius: FloatArray, step: float) -> FloatArray:
    """Radii ``(N,)`` at points ``step`` mm apart, averaged the more, the less they differ by more than their noise.

    Wiener's filter with the noise of each vessel (Lee, IEEE PAMI 1980), on logarithms. An average over 4 mm alone would
    make stenoses 17 % wider on a label without noise, this makes them 1 % wider, as the one over .75 mm does; the error
    on refined labels falls from 13.7 to 12.9 %, with 4 mm alone to 12.0 (generated trees, seed 5).
    """
    found = np.log(np.maximum(radius, 1e-3))

    def average(values: FloatArray, mm: float) -> FloatArray:
        return np.asarray(gaussian_filter1d(values, mm / step, mode="nearest"))

    noise = VARIANCE * float(np.median(np.abs(found - average(found, NOISE_MM)))) ** 2
    coarse = average(found, COARSE_MM)
    detail = average(found, FINE_MM) - coarse
    kept = np.clip(1 - noise / np.maximum(average(detail**2, AROUND_MM), 1e-12), 0, 1)
    return np.asarray(np.exp(coarse + kept * detail))
