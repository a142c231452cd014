"""Transforms: the right voxels, millimetres and world positions, on anisotropic oblique grids."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.transforms import Compose, LoadImaged
from scipy import ndimage

from near_monai.anatomy import CORONARY
from near_monai.data.class_selection import ALL, AUTO, FOREGROUND, OneClass, Wanted, choose_label, parse_class
from near_monai.errors import NearError
from near_monai.transforms.postprocessing import RepairMaskd, SaveRefinedd
from near_monai.transforms.preprocessing import (
    BoundaryBandd,
    CheckUnitsd,
    CropToLabeld,
    PickLabeld,
    PickStructuresd,
    ReadLabeld,
    SignedDistanced,
    WorkingGridd,
    boundary_band,
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
    [((0, 4), AUTO, 4), ((0, 4, 9), AUTO, 9), ((0, 4, 9), 4, 4), ((0, 4, 9), FOREGROUND, FOREGROUND)],
)
def test_choice_of_the_label(values: tuple[int, ...], label: Wanted, expected: OneClass) -> None:
    assert choose_label(np.array(values, np.uint8), label) == expected


@pytest.mark.parametrize(("values", "label"), [((0, 4, 5), AUTO), ((0, 4), 9), ((0,), AUTO), ((0,), FOREGROUND)])
def test_absent_class_is_one_clear_line(values: tuple[int, ...], label: Wanted) -> None:
    with pytest.raises(NearError, match=r"^[^\n]*(no voxel has label|is empty)[^\n]*$"):
        choose_label(np.array(values, np.uint8), label)


@pytest.mark.parametrize(
    ("given", "meant"), [("auto", AUTO), ("fg", FOREGROUND), ("9", 9), (9, 9), (np.int64(65535), 65535)]
)
def test_every_door_takes_a_class_for_the_same(given: int | str, meant: Wanted) -> None:
    assert parse_class(given) == meant and type(parse_class(given)) is type(meant)
    assert PickLabeld("label", given).label == meant
    assert SaveRefinedd("label", "out", given).label == meant


@pytest.mark.parametrize("given", ["coronary", "all", "", "9.5", "-1", 0, 65536, True])
def test_what_is_no_class_is_refused(given: int | str) -> None:
    with pytest.raises(NearError, match=rf"^label '{given}'; expected a whole number from 1 to 65535, fg or auto$"):
        parse_class(given)
    assert SaveRefinedd("label", "out", "all").label is ALL


def test_images_of_monai_s_own_reader_and_in_memory_are_label_maps(file: Path) -> None:
    expected = PickLabeld("label")(ReadLabeld("label")({"label": file}))["label"]
    read = LoadImaged("label", ensure_channel_first=True)({"label": file})["label"]
    assert read.dtype == torch.float32
    picked = PickLabeld("label")({"label": read})["label"]
    assert torch.equal(picked, expected) and torch.equal(picked.affine, expected.affine)
    array = np.asarray(nib.nifti1.load(file).dataobj)
    for image in (array, array[None], array.astype(float), torch.tensor(array), array[::-1, ::-1][::-1, ::-1]):
        found = PickLabeld("label")(ReadLabeld("label")({"label": image}))["label"]
        assert torch.equal(found.as_tensor(), expected.as_tensor())
        assert torch.equal(found.affine, torch.eye(4, dtype=torch.float64))
    assert torch.equal(PickStructuresd("label")({"label": read})["label"][8], expected[0])


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (np.full((4, 4, 4), 0.5), "image: holds 0.5, not a whole number"),
        (np.zeros((2, 4, 4, 4)), r"image: shape \(2, 4, 4, 4\); expected one label map"),
        (np.full((4, 4, 4), np.nan), "image: holds NaN"),
        (np.full((4, 4, 4), -1), "image: labels from -1 to"),
    ],
)
def test_images_in_memory_that_are_no_label_maps(image: np.ndarray, text: str) -> None:
    with pytest.raises(NearError, match=text):
        ReadLabeld("image")({"image": image})


def through(item: dict[Any, Any], output: Path, label: int | str = "auto") -> MetaTensor:
    """Pre- and postprocessing of the bundle with a network that gives the label back."""
    batch = list_data_collate([PickLabeld("image", label)(ReadLabeld("image")(item))])
    (single,) = decollate_batch(batch | {"pred": batch["image"]})
    save = SaveRefinedd("pred", output, label)
    return save(RepairMaskd("pred", clean=False)(single))["pred"]


def test_what_came_from_memory_is_written_with_its_other_classes(file: Path, tmp_path: Path) -> None:
    image = nib.nifti1.load(file)
    array = np.asarray(image.dataobj)
    given = MetaTensor(torch.tensor(array[None], dtype=torch.float32), torch.tensor(image.affine))
    through({"image": given, "name": "one"}, tmp_path / "out")
    through({"image": given}, tmp_path / "out")
    through({"image": given}, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"one.nii.gz", "0.nii.gz", "1.nii.gz"}
    for name in ("one", "1"):
        written = nib.nifti1.load(tmp_path / "out" / f"{name}.nii.gz")
        np.testing.assert_allclose(written.affine, AFFINE, atol=1e-5)
        np.testing.assert_array_equal(np.asarray(written.dataobj) == 6, array == 6)
        assert (np.asarray(written.dataobj) == CORONARY).any()
    through({"image": str(file), "name": "p1/1.img"}, tmp_path / "out")
    assert (tmp_path / "out" / "p1" / "1.img.nii.gz").is_file()
    with pytest.raises(NearError, match="is there already"):
        through({"image": str(file), "name": "p1/1.img"}, tmp_path / "out")


@pytest.mark.parametrize("scale", [1.0, 2.0, None])
@pytest.mark.parametrize(("step", "fits"), [(0.5, True), (3.0, None), (0.001, False), (5.0, False)])
def test_spacings_that_are_no_mm_are_refused(scale: float | None, step: float, fits: bool | None) -> None:
    """As the command refuses them: voxels of 3 mm are too coarse for an artery, and not for an aorta."""
    masks = torch.zeros(1 if scale else 10, 40, 12, 12)
    masks[0, 5:30, 5:8, 5:8] = 1
    item: dict[Any, Any] = {
        "image": MetaTensor(masks, torch.diag(torch.tensor([step] * 3 + [1.0], dtype=torch.float64)))
    }
    if fits if fits is not None else scale != 1:
        assert CheckUnitsd("image", scale)(item)["image"] is item["image"]
    else:
        with pytest.raises(NearError, match=r"image: .* is the spacing in mm\?"):
            CheckUnitsd("image", scale)(item)
    item["image"] = item["image"] * 0
    assert CheckUnitsd("image")(item), "an empty map is another fault"
