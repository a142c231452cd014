"""The smooth distance: walls and volumes of thin tubes, without the bias of a Gaussian and without staircase."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from near_monai.errors import NearError
from near_monai.geometry.coordinates import FloatArray
from near_monai.geometry.smooth_distance import smooth_distance

SPACINGS = [(0.5, 0.5, 0.5), (0.35, 0.35, 0.6), (0.7, 0.7, 0.5)]


def tube(radius: float, spacing: Sequence[float], seed: int) -> tuple[NDArray[np.bool_], Callable[..., FloatArray]]:
    """An oblique tube that leaves the volume on both sides, and the distance of points in mm to its axis."""
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    shape = [int(14 / step) + 1 for step in spacing]
    middle = np.multiply(shape, spacing) / 2 + rng.uniform(-0.5, 0.5, 3)

    def away(mm: FloatArray) -> FloatArray:
        offset = mm - middle
        return np.asarray(np.linalg.norm(offset - (offset @ axis)[..., None] * axis, axis=-1))

    return away(np.moveaxis(np.indices(shape), 0, -1) * np.asarray(spacing)) < radius, away


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("radius", [0.8, 1.0, 1.5, 2.2])
def test_walls_of_tubes(radius: float, spacing: tuple[float, float, float]) -> None:
    mask, away = tube(radius, spacing, 1)
    places = np.random.default_rng(0).uniform(3, np.multiply(mask.shape, spacing) - 3, (200_000, 3))
    between = map_coordinates(smooth_distance(mask, spacing), (places / spacing).T, order=1)
    off = away(places[np.abs(between) < 0.03]) - radius
    assert abs(off.mean()) < 0.04 * radius, "a Gaussian alone is 0.2 off where the tube is thin"
    assert np.abs(off).mean() < 0.1 * np.mean(spacing)


def test_a_place_keeps_its_volume() -> None:
    mask, _ = tube(0.9, (0.5, 0.5, 0.5), 2)
    found = smooth_distance(mask, (0.5, 0.5, 0.5))
    fine = np.stack(np.meshgrid(*(np.arange(4, n - 5, 0.25) for n in mask.shape), indexing="ij"))
    volume = np.count_nonzero(map_coordinates(found, fine, order=1) < 0) / 4**3
    assert volume == pytest.approx(np.count_nonzero(mask[4:-5, 4:-5, 4:-5]), rel=0.03)


def test_one_voxel_and_none() -> None:
    mask = np.zeros((9, 9, 9), bool)
    with pytest.raises(NearError, match="mask is empty"):
        smooth_distance(mask, (1, 1, 1))
    mask[4, 4, 4] = True
    assert np.isfinite(smooth_distance(mask, (1, 1, 1))).all()
