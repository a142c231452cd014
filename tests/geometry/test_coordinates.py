"""Frames: round trips, and agreement of `sample` with a trilinear lookup written the long way."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from near_monai.errors import NearError
from near_monai.geometry.coordinates import (
    Grid,
    Placed,
    check_same_grid,
    grid_distance,
    same_grid,
    sample,
    sample_axes,
    spacing_of,
    tilt,
)

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


def test_grid_distance_is_that_of_the_farthest_outer_corner() -> None:
    """Against all corners the long way; a turn by a hair is half a millimetre at the far end of a scan."""
    shape, plain = (512, 512, 301), np.diag([0.35, 0.35, 0.5, 1.0])
    turned = plain.copy()
    turned[:3, :3] += np.array([[0, 9e-4, 0], [0, 0, 0], [9e-4, 0, 0]])
    corners = [(i, j, k, 1) for i in (-0.5, 511.5) for j in (-0.5, 511.5) for k in (-0.5, 300.5)]
    expected = max(float(np.linalg.norm((turned - plain) @ corner)) for corner in corners)
    mm, voxels = grid_distance(shape, turned, plain)
    assert np.isclose(mm, expected) and mm > 0.46
    steps = (0.35, 0.35, 0.5)
    assert np.isclose(voxels, max(np.linalg.norm(((turned - plain) @ c)[:3] / steps) for c in corners))
    assert grid_distance(shape, plain, plain) == (0, 0)


@pytest.mark.parametrize(("shift", "same"), [(0.0, True), (0.002, True), (0.049, True), (0.051, False), (0.5, False)])
def test_one_grid_to_a_tenth_of_a_voxel(shift: float, same: bool) -> None:
    affine = np.diag([-0.5, -0.5, 2.0, 1.0])
    moved = affine.copy()
    moved[0, 3] += shift
    found, expected = Placed((4, 5, 6), moved, "a.nii"), Placed((4, 5, 6), affine, "b.nii")
    assert same_grid(found, expected) == same
    if same:
        check_same_grid(found, expected)
    else:
        with pytest.raises(NearError, match=rf"b.nii: up to {shift:.3g} mm \({2 * shift:.3g} voxels\) apart"):
            check_same_grid(found, expected)
    with pytest.raises(NearError, match=r"shape \(4, 5, 7\); expected \(4, 5, 6\)"):
        check_same_grid(Placed((4, 5, 7), affine, "a.nii"), expected)


def test_volume_of_a_tilted_voxel_follows_the_determinant() -> None:
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 2] = 0.5 * np.array([0, np.sin(np.deg2rad(25)), np.cos(np.deg2rad(25))])
    grid = Grid.under(affine, (4, 5, 6))
    assert np.isclose(grid.voxel_volume, 0.125 * np.cos(np.deg2rad(25)), rtol=1e-5)
    assert np.allclose(grid.spacing, 0.5) and np.isclose(tilt(affine), 25)
    for other in (grid.scaled(2), grid.crop((1, 1, 1), (2, 2, 2)), grid.isotropic(0.3), grid.cube(8)):
        assert np.isclose(other.voxel_volume, np.prod(other.spacing) * np.cos(np.deg2rad(25)), rtol=1e-5)
    assert Grid.under(np.diag([0.3, 0.4, 0.5, 1.0]), (4, 5, 6)) == Grid((4, 5, 6), (0.3, 0.4, 0.5))
