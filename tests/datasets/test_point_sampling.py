"""Points: shares, bounds, and weights that keep estimating the uniform integral."""

import numpy as np
import pytest
import torch

from near_monai.datasets.point_sampling import band_share, draw_points
from near_monai.geometry.coordinates import Grid

GRID = Grid((20, 30, 24), (0.5, 0.5, 0.5))


def ball(radius: float) -> torch.Tensor:
    i, j, k = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    return torch.as_tensor(np.sqrt((i - 5) ** 2 + (j - 6) ** 2 + (k - 4) ** 2) - radius)[None]


def test_curriculum_follows_the_epochs() -> None:
    plan = [[1, 0.5], [101, 0.3], [201, 0.1]]
    assert [band_share(e, plan) for e in (1, 100, 101, 200, 201, 300)] == [0.5, 0.5, 0.3, 0.3, 0.1, 0.1]


def slab() -> torch.Tensor:
    """A tilted slab 2 mm thick: linear near its surfaces, so that interpolation adds nothing."""
    i, j, _ = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    return torch.as_tensor(np.abs((i - 5) * 0.6 + (j - 6) * 0.8) - 1.0)[None]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_weighted_mean_is_the_uniform_one_whatever_the_share(share: float) -> None:
    points, target = draw_points(slab(), 200_000, share, 1.0, np.random.RandomState(0))
    everywhere = GRID.denormalise(np.random.default_rng(0).uniform(-1, 1, (200_000, 3)))
    expected = (np.abs((everywhere - [5, 6, 4]) @ [0.6, 0.8, 0]) < 1).mean()
    assert (target[0] * target[1]).mean().item() == pytest.approx(expected, rel=0.03)
    assert points.abs().max() <= 1
    assert target[1].mean().item() == pytest.approx(1, abs=0.02)


def test_share_of_points_lies_in_the_band() -> None:
    distance = ball(2.0)
    points, _ = draw_points(distance, 10_000, 0.5, 0.5, np.random.RandomState(0))
    voxel = np.round(GRID.to_voxel(GRID.denormalise(points.numpy()))).astype(int)
    near = distance[0].abs().numpy()[tuple(voxel.T)] <= 0.5
    uniform = (distance.abs() <= 0.5).float().mean().item()
    assert near.mean() == pytest.approx(0.5 + 0.5 * uniform, abs=0.02)


def test_occupancy_is_that_of_the_shape() -> None:
    points, target = draw_points(ball(3.0), 5_000, 0.2, 1.0, np.random.RandomState(1))
    mm = GRID.denormalise(points.double().numpy())
    radius = np.linalg.norm(mm - [5, 6, 4], axis=1)
    clear = np.abs(radius - 3.0) > 0.1  # the lattice interpolates the distance
    np.testing.assert_array_equal(target[0].numpy()[clear] > 0, radius[clear] < 3.0)


def test_inner_keeps_points_from_the_faces() -> None:
    points, _ = draw_points(ball(3.0), 2_000, 0.5, 1.0, np.random.RandomState(1), inner=0.8)
    assert points.abs().max() <= 0.8 + 1e-6


def test_every_structure_gets_as_many_band_points_and_one_weight_serves_all() -> None:
    thick, thin = ball(4.0), ball(1.6)
    points, target = draw_points(torch.cat([thick, thin]), 100_000, 0.8, 0.4, np.random.RandomState(0))
    assert target.shape == (3, 100_000)
    voxel = tuple(np.round(GRID.to_voxel(GRID.denormalise(points.numpy()))).astype(int).T)
    shares = [(d[0].abs().numpy()[voxel] <= 0.4).mean() for d in (thick, thin)]
    assert min(shares) > 0.4
    for row, radius in zip(target[:2], (4.0, 1.6), strict=True):
        volume = 4 / 3 * np.pi * radius**3 / (np.prod(GRID.shape) * GRID.voxel_volume)
        assert (row * target[2]).mean().item() == pytest.approx(volume, rel=0.1)


def test_empty_shape_gives_uniform_points_with_weight_one() -> None:
    points, target = draw_points(torch.full((1, 6, 7, 8), 3.0), 100, 0.5, 1.0, np.random.RandomState(0))
    assert points.shape == (100, 3)
    assert target[0].sum() == 0
    torch.testing.assert_close(target[1], torch.ones(100))
