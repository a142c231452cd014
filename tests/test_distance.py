"""Distances without SimpleITK, as a packed bundle measures them where only MONAI is installed."""

import numpy as np
import pytest

from near_monai.distance import signed_distance


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.35, 0.5, 0.8)])
@pytest.mark.parametrize("share", [0.001, 0.4, 0.999])
def test_numpy_measures_what_itk_measures(
    spacing: tuple[float, float, float], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = np.random.default_rng(2).random((23, 31, 18)) < share
    expected = signed_distance(mask, spacing, 3.0)
    assert mask.any() and np.ptp(expected) > 1
    monkeypatch.setattr("near_monai.distance.HAS_ITK", False)
    found = signed_distance(mask, spacing, 3.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_thin_arrays_have_no_far_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.zeros((1, 2, 9), bool)
    mask[0, 0, 4] = True
    expected = signed_distance(mask, (1.0, 1.0, 1.0), 3.0)
    monkeypatch.setattr("near_monai.distance.HAS_ITK", False)
    np.testing.assert_allclose(signed_distance(mask, (1.0, 1.0, 1.0), 3.0), expected, atol=2e-5)
