"""Transforms: the right voxels, millimetres and world positions, on anisotropic oblique grids."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from scipy import ndimage

from near_monai.anatomy import CORONARY
from near_monai.errors import NearError
from near_monai.transforms import (
    BoundaryBandd,
    CropToLabeld,
    PickLabeld,
    ReadLabeld,
    SignedDistanced,
    WorkingGridd,
    boundary_band,
    choose_label,
)

SPACING = np.array([0.5, 0.8, 1.5])
ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
AFFINE = np.eye(4)
AFFINE[:3, :3] = ROTATION * SPACING
AFFINE[:3, 3] = [10, -20, 30]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    i, j, k = np.meshgrid(*(np.arange(n) * s for n, s in zip((60, 40, 24), SPACING, strict=True)), indexing="ij")
    ball = (i - 14) ** 2 + (j - 15) ** 2 + (k - 18) ** 2 < 5**2
    array = ball.astype(np.uint8) * CORONARY
    array[0:3, 0:3, 0:3] = 6
    path = tmp_path / "1.img.nii.gz"
    nib.save(nib.Nifti1Image(array, AFFINE), path)
    return path


def test_chain_gives_the_distance_at_the_right_world_positions(file: Path) -> None:
    chain = Compose(
        [
            ReadLabeld("label"),
            PickLabeld("label"),
            CropToLabeld("label", 6.0),
            SignedDistanced("label", 4.0),
            WorkingGridd("label", 0.6),
        ]
    )
    out = chain({"label": file})["label"]
    assert isinstance(out, MetaTensor)
    voxel = np.stack(np.meshgrid(*(np.arange(n) for n in out.shape[1:]), indexing="ij"), -1)
    world = voxel @ out.affine.numpy()[:3, :3].T + out.affine.numpy()[:3, 3]
    centre = AFFINE[:3, :3] @ (np.array([14, 15, 18]) / SPACING) + AFFINE[:3, 3]
    exact = np.linalg.norm(world - centre, axis=-1) - 5
    near = np.abs(exact) < 2.0
    assert np.abs(out[0].numpy() - exact)[near].mean() < 0.3
    volume = (out[0] < 0).sum().item() * 0.6**3
    assert volume == pytest.approx(4 / 3 * np.pi * 125, rel=0.05)  # slices of 1.5 mm


def test_crop_keeps_the_margin_in_mm_and_stops_at_the_border() -> None:
    mask = torch.zeros(1, 30, 30, 30)
    mask[:, 10:12, 10:12, 1:3] = 1
    out = CropToLabeld("m", 3.0)({"m": MetaTensor(mask, torch.as_tensor(np.diag([*SPACING, 1.0])))})["m"]
    assert tuple(out.shape) == (1, 2 + 12, 2 + 8, 2 + 1 + 2)
    np.testing.assert_allclose(out.affine[:3, 3], np.array([4, 6, 0]) * SPACING)


def test_band_equals_dilation_minus_erosion_with_a_ball() -> None:
    mask = np.zeros((16, 17, 18), bool)
    mask[5:11, 4:12, 6:12] = True
    i, j, k = np.mgrid[-2:3, -2:3, -2:3]
    for radius, spacing in ((2.0, (1.0, 1.0, 1.0)), (1.5, (0.75, 1.0, 1.4))):
        ball = (i * spacing[0]) ** 2 + (j * spacing[1]) ** 2 + (k * spacing[2]) ** 2 <= radius**2
        expected = ndimage.binary_dilation(mask, ball) & ~ndimage.binary_erosion(mask, ball)
        np.testing.assert_array_equal(boundary_band(mask, radius, spacing), expected)


def test_band_transform_knows_both_units() -> None:
    mask = torch.zeros(1, 12, 12, 12)
    mask[:, 4:8, 4:8, 4:8] = 1
    image = MetaTensor(mask, torch.as_tensor(np.diag([0.5, 0.5, 0.5, 1.0])))
    in_voxels, in_mm = (t({"m": image})["m"] for t in (BoundaryBandd("m", 2.0), BoundaryBandd("m", 1.0, "mm")))
    assert torch.equal(in_voxels, in_mm)
    assert in_voxels.sum() > 0


@pytest.mark.parametrize(
    ("values", "label", "expected"),
    [((0, 4), "auto", 4), ((0, 4, 9), "auto", 9), ((0, 4, 9), 4, 4), ((0, 4, 9), "fg", "fg")],
)
def test_choice_of_the_label(values: tuple[int, ...], label: int | str, expected: int | str) -> None:
    assert choose_label(np.array(values, np.uint8), label) == expected


@pytest.mark.parametrize(("values", "label"), [((0, 4, 5), "auto"), ((0, 4), 9), ((0,), "auto"), ((0,), "fg")])
def test_absent_class_is_one_clear_line(values: tuple[int, ...], label: int | str) -> None:
    with pytest.raises(NearError, match=r"^[^\n]*(no voxel has label|is empty)[^\n]*$"):
        choose_label(np.array(values, np.uint8), label)
