"""Cubes of CT and label: millimetres survive, in whatever direction the scan lies."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from near_monai.data.case_lists import find_cases
from near_monai.data.cubes import prepare, resize_label, resize_volume
from near_monai.errors import NearError
from near_monai.formats.label_maps import LabelMap, read_label, read_volume, write_label, write_volume
from near_monai.geometry.boxes import box_of, crop_box
from near_monai.geometry.coordinates import Grid

SPACING = (0.7, 0.8, 1.1)
SHAPE = (50, 44, 36)
CENTRE = np.array([18.3, 17.1, 19.4])  # mm in the frame of the case
RADIUS = 9.0


def oblique() -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0] @ np.diag(SPACING)
    affine[:3, 3] = (-31.5, 12.25, 104.0)
    return affine


def sphere(value: int = 9) -> NDArray[np.uint8]:
    mm = np.stack(np.meshgrid(*Grid(SHAPE, SPACING).axes_mm(), indexing="ij"), -1)
    return (np.linalg.norm(mm - CENTRE, axis=-1) < RADIUS).astype(np.uint8) * np.uint8(value)


def ramp() -> NDArray[np.float32]:
    """A CT that is linear in world mm: 100 + 2 x - 3 y + z."""
    voxel = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    world = voxel @ oblique()[:3, :3].T + oblique()[:3, 3]
    return (100 + world @ (2, -3, 1)).astype(np.float32)


def scan(folder: Path, name: str = "a", label: NDArray[np.uint8] | None = None) -> tuple[Path, Path]:
    label = sphere() if label is None else label
    like = LabelMap.from_array(label, oblique())
    write_label(folder / "label" / f"{name}.nii.gz", label, like)
    write_volume(folder / "ct" / f"{name}.nii.gz", ramp(), like)
    return folder / "ct", folder / "label"


def test_sphere_and_ramp_keep_their_millimetres(tmp_path: Path) -> None:
    ct, label = scan(tmp_path)
    (case,) = prepare(ct, label, tmp_path / "out", margin=5.0, resolution=64)
    cube = read_label(case.label)
    assert cube.array.shape == (64, 64, 64)
    inside = np.argwhere(cube.array == 9)
    assert set(np.unique(cube.array)) == {0, 9}
    world = inside.mean(0) @ cube.affine[:3, :3].T + cube.affine[:3, 3]
    source = np.argwhere(sphere() == 9).mean(0) @ oblique()[:3, :3].T + oblique()[:3, 3]
    np.testing.assert_allclose(world, source, atol=0.03)
    volume = len(inside) * abs(np.linalg.det(cube.affine[:3, :3]))
    assert volume == pytest.approx((sphere() > 0).sum() * np.prod(SPACING), rel=0.02)
    assert volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.02)
    image = read_volume(tmp_path / "out" / "imagesTr" / "a.nii.gz")
    np.testing.assert_allclose(image.affine, cube.affine, atol=1e-6)
    voxel = np.stack(np.meshgrid(*[np.arange(64)] * 3, indexing="ij"), -1)
    expected = 100 + (voxel @ cube.affine[:3, :3].T + cube.affine[:3, 3]) @ (2, -3, 1)
    core = (slice(2, -2),) * 3  # the outermost voxels repeat the edge of the crop
    np.testing.assert_allclose(image.array[core], expected[core], atol=0.01)


def test_field_of_view_of_crop_and_cube_coincide() -> None:
    crop = Grid(SHAPE, SPACING).crop((3, 5, 7), (20, 31, 11))
    cube = crop.cube(16)
    np.testing.assert_allclose(cube.to_mm([-0.5] * 3), crop.to_mm([-0.5] * 3))
    np.testing.assert_allclose(cube.to_mm([15.5] * 3), crop.to_mm(np.array(crop.shape) - 0.5))


def test_resize_samples_at_the_centres_of_the_cube() -> None:
    array = np.random.default_rng(0).normal(size=(9, 14, 6)).astype(np.float32)
    source = Grid((9, 14, 6), SPACING)
    centres = np.stack(np.meshgrid(*source.cube(8).axes_mm(), indexing="ij"))
    voxel = source.to_voxel(np.moveaxis(centres, 0, -1))
    crude = map_coordinates(array, np.moveaxis(voxel, -1, 0), order=1, mode="nearest")
    np.testing.assert_allclose(resize_volume(array, 8), crude, atol=1e-5)


def test_margin_is_mm_and_stops_at_the_edge() -> None:
    array = np.zeros(SHAPE, np.uint8)
    array[10, 20, 30] = 1
    box = crop_box(array > 0, SPACING, 8.0)
    assert [(s.start, s.stop) for s in box.slices()] == [
        (0, 23),
        (10, 31),
        (22, 36),
    ]  # 11.4, 10 and 7.3 voxels, rounded up


def test_resize_label_keeps_every_class_and_whole_blocks() -> None:
    """Blocks that fill the array stay exact at twice the size, and classes that touch leave no gap between them."""
    array = np.zeros((6, 6, 6), np.uint8)
    array[:3], array[3:, :3] = 4, 7
    found = resize_label(array, (1.0, 1.0, 1.0), 12)
    crude = array.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    assert (found == crude).mean() > 0.98
    assert set(np.unique(found)) == {0, 4, 7}
    np.testing.assert_array_equal(resize_label(array, (1.0, 1.0, 1.0), 6), array)


def test_thin_vessel_survives_better_than_nearest_neighbour() -> None:
    mm = np.stack(np.meshgrid(*[np.arange(96) * 0.25] * 3, indexing="ij"), -1)
    axis = np.array([1.0, 0.7, 0.4]) / np.linalg.norm([1.0, 0.7, 0.4])
    offset = mm - 12.0
    fine = np.linalg.norm(offset - (offset @ axis)[..., None] * axis, axis=-1) < 1.2
    coarse = fine[1::3, 1::3, 1::3].astype(np.uint8)  # 0.75 mm voxels on the same field of view
    nearest = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2) > 0
    ours = resize_label(coarse, (0.75,) * 3, 96) > 0

    def dice(mask: NDArray[np.bool_]) -> float:
        return float(2 * (mask & fine).sum() / (mask.sum() + fine.sum()))

    assert dice(ours) > dice(nearest) + 0.04


def test_output_is_a_data_set(tmp_path: Path) -> None:
    scan(tmp_path, "b", sphere(3))
    ct, label = scan(tmp_path, "a", np.maximum(sphere(3), np.eye(*SHAPE[:2], dtype=np.uint8)[..., None] * np.uint8(6)))
    cases = prepare(ct, label, tmp_path / "out", resolution=8)
    assert find_cases(tmp_path / "out") == cases
    assert [case.label for case in find_cases(tmp_path / "out", "image")] == [
        tmp_path / "out" / "imagesTr" / f"{name}.nii.gz" for name in "ab"
    ]


@pytest.mark.parametrize(("ct_name", "label_name"), [("7_0000", "7"), ("7.img", "7.label"), ("7", "7")])
def test_names_of_nnunet_and_imagecas(tmp_path: Path, ct_name: str, label_name: str) -> None:
    ct, label = scan(tmp_path)
    (ct / "a.nii.gz").rename(ct / f"{ct_name}.nii.gz")
    (label / "a.nii.gz").rename(label / f"{label_name}.nii.gz")
    assert [case.name for case in prepare(ct, label, tmp_path / "out", resolution=4)] == ["7"]


def test_imagecas_keeps_both_in_one_folder(tmp_path: Path) -> None:
    ct, label = scan(tmp_path)
    (ct / "a.nii.gz").rename(tmp_path / "1.img.nii.gz")
    (label / "a.nii.gz").rename(tmp_path / "1.label.nii.gz")
    (case,) = prepare(tmp_path, tmp_path, tmp_path / "out", margin=0, resolution=16)
    fill = (sphere()[box_of(sphere() > 0).slices()] > 0).mean()
    assert (read_label(case.label).array == 9).mean() == pytest.approx(fill, rel=0.01)
    assert read_volume(tmp_path / "out" / "imagesTr" / "1.nii.gz").array.mean() > 20


def test_bad_input_gets_one_line(tmp_path: Path) -> None:
    ct, label = scan(tmp_path)
    image = nib.Nifti1Image.from_filename(ct / "a.nii.gz")

    def refused(message: str, ct: Path = ct, out: Path = tmp_path / "out", margin: float = 1, size: int = 4) -> None:
        with pytest.raises(NearError, match=message) as caught:
            prepare(ct, label, out, margin, size)
        assert "\n" not in str(caught.value)

    refused("margin -1 mm", margin=-1)
    refused("resolution 1;", size=1)
    refused("no CT for 1 of 1 labels: a", ct=label)
    (tmp_path / "small").mkdir()
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5)), image.affine), tmp_path / "small" / "a.nii.gz")
    refused(r"shape \(3, 4, 5\); expected \(50, 44, 36\)", ct=tmp_path / "small")
    (tmp_path / "moved").mkdir()
    nib.save(nib.Nifti1Image(image.get_fdata(), np.diag([1, 1, 1.02, 1]) @ image.affine), tmp_path / "moved/a.nii.gz")
    refused("expected the same grid", ct=tmp_path / "moved")
    scan(tmp_path, "a", np.zeros(SHAPE, np.uint8))
    refused("the label map is empty")


def test_never_over_the_input(tmp_path: Path) -> None:
    ct, label = scan(tmp_path)
    label = label.rename(tmp_path / "labelsTr")
    with pytest.raises(NearError, match="is not an empty folder"):
        prepare(ct, label, tmp_path, resolution=4)


def test_a_bad_case_stops_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, label in (("a", sphere()), ("b", np.zeros(SHAPE, np.uint8)), ("c", sphere(3))):
        ct, labels = scan(tmp_path, name, label)
    cases = prepare(ct, labels, tmp_path / "out", margin=1, resolution=4)
    assert [case.name for case in cases] == ["a", "c"] == [case.name for case in find_cases(tmp_path / "out")]
    assert "b.nii.gz: the label map is empty; it is left out" in capsys.readouterr().err
    (ct / "a.nii.gz").write_bytes(b"")
    with pytest.raises(NearError, match=r"1 of 3 cases failed: a \(.*damaged or not NIfTI"):
        prepare(ct, labels, tmp_path / "again", margin=1, resolution=4)
    assert [case.name for case in find_cases(tmp_path / "again")] == ["c"]


def test_names_are_paired_whatever_spells_them(tmp_path: Path) -> None:
    like = LabelMap.from_array(sphere(), oblique())
    write_label(tmp_path / "label" / "arte\u0301re.seg.nrrd", like.array, like)
    write_volume(tmp_path / "ct" / "art\u00e9re_0000.nii.gz", ramp(), like)
    (case,) = prepare(tmp_path / "ct", tmp_path / "label", tmp_path / "out", resolution=16)
    assert case.name == "art\u00e9re"
