"""Frames: round trips, and agreement of `sample` with a trilinear lookup written the long way."""

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from near_monai.coords import Grid, sample, sample_axes, spacing_of

GRID = Grid((5, 7, 11), (0.4, 0.5, 1.25), (3.0, -2.0, 10.0))


def test_round_trips() -> None:
    mm = np.random.default_rng(0).uniform(-20, 20, (50, 3))
    np.testing.assert_allclose(GRID.to_mm(GRID.to_voxel(mm)), mm)
    np.testing.assert_allclose(GRID.denormalise(GRID.normalise(mm)), mm)


def test_normalised_faces_are_plus_minus_one() -> None:
    np.testing.assert_allclose(GRID.normalise(GRID.to_mm([-0.5, -0.5, -0.5])), [-1, -1, -1])
    np.testing.assert_allclose(GRID.normalise(GRID.to_mm([4.5, 6.5, 10.5])), [1, 1, 1])


def test_isotropic_covers_the_same_field_of_view() -> None:
    iso = GRID.isotropic(0.6)
    low, high = iso.to_mm([-0.5] * 3), iso.to_mm(np.asarray(iso.shape) - 0.5)
    np.testing.assert_allclose(low, GRID.to_mm([-0.5] * 3))
    extent = GRID.to_mm(np.asarray(GRID.shape) - 0.5)
    assert np.all(high >= extent - 1e-9) and np.all(high - extent < 0.6)


def test_affine_from_places_voxels_at_the_same_world_point() -> None:
    rng = np.random.default_rng(1)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ np.diag(GRID.spacing)
    affine[:3, 3] = rng.normal(size=3)
    np.testing.assert_allclose(spacing_of(affine), GRID.spacing)
    iso = GRID.isotropic(0.6)
    voxel = np.array([3.0, 2.0, 5.0])
    there = iso.affine_from(affine, GRID) @ np.append(voxel, 1)
    here = affine @ np.append(GRID.to_voxel(iso.to_mm(voxel)), 1)
    np.testing.assert_allclose(there, here)


def test_crop_keeps_mm_positions() -> None:
    np.testing.assert_allclose(GRID.crop([1, 2, 3], (2, 2, 2)).to_mm([1, 1, 1]), GRID.to_mm([2, 3, 4]))


def test_sample_reads_array_order() -> None:
    volume = np.random.default_rng(2).normal(size=GRID.shape)
    voxel = np.random.default_rng(3).uniform(0, 1, (40, 3)) * (np.asarray(GRID.shape) - 1)
    points = torch.as_tensor(GRID.normalise(GRID.to_mm(voxel)))[None]
    found = sample(torch.as_tensor(volume)[None, None], points)[0, 0].numpy()
    np.testing.assert_allclose(found, map_coordinates(volume, voxel.T, order=1), atol=1e-12)


def test_sample_axes_equals_scattered_lookup() -> None:
    volume = torch.randn(2, 3, 4, 1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    axes = (
        torch.linspace(-1.2, 1.1, 7).double(),
        torch.linspace(-0.9, 0.9, 2).double(),
        torch.linspace(-1, 1, 5).double(),
    )
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(1, -1, 3).expand(2, -1, -1)
    expected = sample(volume, points).reshape(2, 3, 7, 2, 5)
    torch.testing.assert_close(sample_axes(volume, axes), expected)


def test_axes_in_names_the_same_positions() -> None:
    iso = GRID.isotropic(0.6)
    axes = iso.axes_in(GRID)
    expected = GRID.normalise(iso.to_mm([2, 3, 4]))
    np.testing.assert_allclose([axes[0][2], axes[1][3], axes[2][4]], expected)
