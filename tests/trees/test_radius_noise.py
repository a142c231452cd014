"""Radii along a vessel: noise goes, a stenosis stays."""

import numpy as np
import pytest

from near_monai.trees.radius_noise import without_noise

ALONG = np.arange(0, 60, 0.5)
NARROW = 2.2 - 1.0 * np.exp(-(((ALONG - 30) / 3) ** 2))


def test_a_stenosis_stays() -> None:
    found = without_noise(NARROW, 0.5)
    assert found.min() == pytest.approx(1.2, rel=0.06) and ALONG[found.argmin()] == 30
    assert np.abs(found / NARROW - 1)[20:100].mean() < 0.01


@pytest.mark.parametrize("noise", [0.05, 0.1])
def test_noise_goes(noise: float) -> None:
    rng = np.random.default_rng(0)
    wrong, narrowest = [], []
    for _ in range(20):
        rough = NARROW * np.exp(noise * rng.normal(size=len(NARROW)))
        found = without_noise(rough, 0.5)
        away = np.abs(ALONG - 30) > 10
        wrong.append(np.abs(found / NARROW - 1)[away].mean())
        narrowest.append(found.min())
    assert np.mean(wrong) < 0.4 * noise * np.sqrt(2 / np.pi)
    assert np.mean(narrowest) == pytest.approx(1.2, rel=0.3)


def test_few_points() -> None:
    np.testing.assert_allclose(without_noise(np.array([1.5, 1.5]), 0.5), 1.5)
