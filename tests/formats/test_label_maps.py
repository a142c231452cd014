"""Files: what is written lies where the input lay, and bad input is refused in one line."""

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from near_monai.errors import NearError
from near_monai.formats.label_maps import LabelMap, read_label, read_volume, write_label, write_volume

SHAPE = (5, 7, 11)
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def rotation(seed: int) -> NDArray[np.float64]:
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return q * np.sign(np.linalg.det(q))


def affine_of(
    matrix: NDArray[np.float64], spacing: tuple[float, float, float] = (0.4, 0.5, 1.25)
) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = matrix @ np.diag(spacing)
    affine[:3, 3] = (-31.5, 12.25, 104.0)
    return affine


SHEAR = np.eye(3) + np.eye(3, k=1) * 0.2
AFFINES = {
    "plain": affine_of(np.eye(3)),
    "flipped": affine_of(np.diag([-1.0, 1.0, -1.0])),
    "left-handed": affine_of(np.diag([1.0, 1.0, -1.0])),
    "swapped": affine_of(np.eye(3)[[2, 0, 1]]),
    "oblique": affine_of(rotation(3)),
    "sheared": affine_of(SHEAR / np.linalg.norm(SHEAR, axis=0)),
}


def labels() -> NDArray[np.uint8]:
    array = np.random.default_rng(0).integers(0, 11, SHAPE).astype(np.uint8)
    array[1, 2, 3] = 200
    return array


def nifti(path: Path, array: NDArray[Any], affine: NDArray[np.float64] | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, AFFINES["oblique"] if affine is None else affine), path)
    return path


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_keeps_world_positions(tmp_path: Path, suffix: str, name: str) -> None:
    like = LabelMap.from_array(labels(), AFFINES[name])
    write_label(tmp_path / f"a{suffix}", like.array, like)
    found = read_label(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(found.array, like.array)
    assert found.array.dtype == np.uint8
    np.testing.assert_allclose(found.affine, AFFINES[name], atol=1e-5)
    np.testing.assert_allclose(found.grid.spacing, (0.4, 0.5, 1.25), atol=1e-6)
    assert found.grid.shape == SHAPE
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3, 1), (3, 1, 1)])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_single_line_of_voxels(tmp_path: Path, suffix: str, shape: tuple[int, int, int]) -> None:
    """Its array is in C and Fortran order at once, and itk takes it for a line along x."""
    array = np.arange(3, dtype=np.uint8).reshape(shape)
    write_label(tmp_path / f"a{suffix}", array, LabelMap.from_array(array, AFFINES["oblique"]))
    np.testing.assert_array_equal(read_label(tmp_path / f"a{suffix}").array, array)


@pytest.mark.parametrize("name", ["a.NII", "a.Nii.gz", "a.NRRD", "a.MHA", "a.Mhd"])
def test_suffixes_in_capitals(tmp_path: Path, name: str) -> None:
    like = LabelMap.from_array(labels(), AFFINES["oblique"])
    write_label(tmp_path / name, like.array, like)
    found = read_label(tmp_path / name)
    np.testing.assert_array_equal(found.array, like.array)
    np.testing.assert_allclose(found.affine, like.affine, atol=1e-5)
    assert {p.name for p in tmp_path.iterdir()} <= {name}


@pytest.mark.parametrize("suffix", SUFFIXES[2:])
def test_itk_itself_sees_the_marked_voxel_at_the_same_place(tmp_path: Path, suffix: str) -> None:
    """The oracle is ITK's own index-to-point mapping, in LPS."""
    like = LabelMap.from_array(labels(), AFFINES["oblique"])
    write_label(tmp_path / f"a{suffix}", like.array, like)
    image = sitk.ReadImage(str(tmp_path / f"a{suffix}"))
    assert image.GetPixel([1, 2, 3]) == 200
    lps = np.array(image.TransformIndexToPhysicalPoint([1, 2, 3]))
    np.testing.assert_allclose(lps * (-1, -1, 1), (AFFINES["oblique"] @ (1, 2, 3, 1))[:3], atol=1e-5)


def test_nrrd_in_ras_space_keeps_its_place_and_its_segment_names(tmp_path: Path) -> None:
    header = """NRRD0004\ntype: int64\ndimension: 3\nspace: right-anterior-superior\nsizes: 4 3 2
space directions: (0.5,0,0) (0,0.6,0.1) (0,0,0.7)\nkinds: domain domain domain\nendian: little\nencoding: raw
space origin: (1,2,3)\nSegment0_Name:=coronary\n\n"""
    source = tmp_path / "seg.nrrd"
    source.write_bytes(header.encode() + np.arange(24, dtype="<i8").tobytes())
    label = read_label(source)
    assert label.array[3, 2, 1] == 23
    assert label.array[1, 0, 0] == 1
    expected = np.array([[0.5, 0, 0, 1], [0, 0.6, 0, 2], [0, 0.1, 0.7, 3], [0, 0, 0, 1]])
    np.testing.assert_allclose(label.affine, expected, atol=1e-9)
    write_label(tmp_path / "out.nrrd", label.array, label)
    again = read_label(tmp_path / "out.nrrd")
    np.testing.assert_allclose(again.affine, expected, atol=1e-9)
    assert isinstance(again.header, dict)
    assert again.header["Segment0_Name"] == "coronary"


def load(path: Path) -> nib.Nifti1Image:
    image = nib.loadsave.load(path)
    assert isinstance(image, nib.Nifti1Image)
    return image


def header_fields(path: Path) -> dict[str, Any]:
    header = load(path).header
    return {key: header[key].tobytes() for key in header if key not in ("datatype", "bitpix", "scl_slope", "scl_inter")}


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (3, 0), (0, 0), (1, 4)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_nifti_header_comes_back_to_the_bit(
    tmp_path: Path, kind: type[nib.Nifti1Image], codes: tuple[int, int], name: str
) -> None:
    """Also where qform and sform disagree: the qform is another rotation and place than the sform."""
    source, target = tmp_path / "in.nii.gz", tmp_path / "out" / "in.nii.gz"
    image = kind(labels().astype(np.int16), AFFINES[name])
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"by hand"
    image.header["cal_max"] = 9
    image.set_qform(affine_of(rotation(8)), codes[0])
    image.set_sform(AFFINES[name], codes[1])
    nib.save(image, source)
    like = read_label(source)
    write_label(target, like.array, like)
    assert header_fields(target) == header_fields(source)
    written = load(target)
    assert type(written) is kind
    assert written.get_data_dtype() == np.uint8
    assert isinstance(written.dataobj, nib.arrayproxy.ArrayProxy)
    assert (written.dataobj.slope, written.dataobj.inter) == (1, 0)
    np.testing.assert_array_equal(written.affine, load(source).affine)
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), labels())


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1.0), ("meter", 1e3), ("micron", 1e-3), ("unknown", 1.0)])
def test_units_are_read_as_mm_and_kept(tmp_path: Path, unit: str, mm: float) -> None:
    scale = np.diag([1 / mm, 1 / mm, 1 / mm, 1])
    image = nib.Nifti1Image(labels(), scale @ AFFINES["oblique"])
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "in.nii")
    like = read_label(tmp_path / "in.nii")
    np.testing.assert_allclose(like.grid.spacing, (0.4, 0.5, 1.25), rtol=1e-5)
    np.testing.assert_allclose(like.affine, AFFINES["oblique"], rtol=1e-5, atol=1e-5)
    write_label(tmp_path / "same.nii", like.array, like)
    assert header_fields(tmp_path / "same.nii") == header_fields(tmp_path / "in.nii")
    write_label(tmp_path / "moved.nii", like.array, like, like.affine)
    assert load(tmp_path / "moved.nii").header.get_xyzt_units()[0] == unit
    np.testing.assert_allclose(load(tmp_path / "moved.nii").affine, image.affine, rtol=1e-4)


@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (3, 0), (0, 0)])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_another_grid(tmp_path: Path, suffix: str, codes: tuple[int, int]) -> None:
    image = nib.Nifti1Image(labels(), AFFINES["oblique"])
    image.set_qform(AFFINES["oblique"], codes[0])
    image.set_sform(AFFINES["oblique"], codes[1])
    nib.save(image, tmp_path / "in.nii.gz")
    cube = np.zeros((4, 4, 4), np.uint8)
    cube[1, 2, 3] = 9
    affine = affine_of(rotation(5), (1.5, 0.7, 0.3))
    write_label(tmp_path / f"out{suffix}", cube, read_label(tmp_path / "in.nii.gz"), affine)
    found = read_label(tmp_path / f"out{suffix}")
    np.testing.assert_allclose(found.affine, affine, atol=2e-5)
    np.testing.assert_array_equal(found.array, cube)
    if suffix.startswith(".nii"):
        header = load(tmp_path / f"out{suffix}").header
        assert (header["qform_code"], header["sform_code"]) == (codes if any(codes) else (1, 1))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_volume_round_trip(tmp_path: Path, suffix: str) -> None:
    label = LabelMap.from_array(labels(), AFFINES["flipped"])
    probability = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    write_volume(tmp_path / f"p{suffix}", probability, label)
    np.testing.assert_array_equal(read_volume(tmp_path / f"p{suffix}").array, probability)


def test_volume_like_a_label_is_no_label(tmp_path: Path) -> None:
    image = nib.Nifti1Image(labels(), np.eye(4))
    image.header.set_intent("label")
    image.header["cal_max"] = 9
    nib.save(image, tmp_path / "in.nii")
    like = read_label(tmp_path / "in.nii")
    write_volume(tmp_path / "p.nii", like.array / 255.0, like)
    header = load(tmp_path / "p.nii").header
    assert header.get_intent()[0] == "none"
    assert header["cal_max"] == 0
    assert header.get_data_dtype() == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64])
def test_whole_numbers_of_any_type(tmp_path: Path, dtype: type) -> None:
    image = nib.Nifti1Image(labels().astype(dtype), np.eye(4), dtype=dtype)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(read_label(tmp_path / "a.nii").array, labels())


def test_scaled_storage(tmp_path: Path) -> None:
    """Labels kept as multiples of 1/255, as some exporters do."""
    image = nib.Nifti1Image(labels(), np.eye(4))
    image.header.set_slope_inter(1 / 255, 0)
    path = tmp_path / "a.nii"
    nib.save(image, path)
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([1 / 255, 0], "<f4").tobytes()
    raw[352:] = (np.ones(SHAPE, np.uint8) * 255).tobytes()
    path.write_bytes(raw)
    assert (read_label(path).array == 1).all()


def test_label_map_travels_to_workers(tmp_path: Path) -> None:
    for suffix in (".nii.gz", ".nrrd"):
        write_label(tmp_path / f"a{suffix}", labels(), LabelMap.from_array(labels(), AFFINES["oblique"]))
        label = pickle.loads(pickle.dumps(read_label(tmp_path / f"a{suffix}")))
        np.testing.assert_array_equal(label.array, labels())


def with_nan(array: NDArray[Any]) -> NDArray[np.float32]:
    out = array.astype(np.float32)
    out[1, 1, 1] = np.nan
    return out


BAD_ARRAYS: dict[str, tuple[Callable[[NDArray[np.uint8]], NDArray[Any]], str]] = {
    "4-D": (lambda a: np.stack([a, a], -1), r"4-D image of shape \(5, 7, 11, 2\); expected one 3-D"),
    "2-D": (lambda a: a[0], "2-D image of shape"),
    "fraction": (lambda a: a.astype(np.float32) * 0 + 0.37, "holds 0.37, not a whole number"),
    "NaN": (with_nan, "holds NaN"),
    "negative": (lambda a: a.astype(np.int16) - 1, "labels from -1 to 199; expected 0..65535"),
    "large": (lambda a: a.astype(np.int32) + 65400, "labels from 65400 to 65600; expected 0..65535"),
    "image": (lambda a: np.arange(a.size, dtype=np.int16).reshape(SHAPE), "385 different values; .* is it an image"),
    "complex": (lambda a: a.astype(np.complex64), "pixel type complex64"),
    "RGB": (lambda a: np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]), "pixel type"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_bad_values_get_one_line(tmp_path: Path, name: str) -> None:
    make, message = BAD_ARRAYS[name]
    nifti(tmp_path / "a.nii.gz", make(labels()))
    with pytest.raises(NearError, match=message) as caught:
        read_label(tmp_path / "a.nii.gz")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "a.nii.gz") in str(caught.value)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ((np.nan, 0, 0), "NaN"),
        ((0, 0, 0), "voxel spacing"),
        ((400.0, 0, 0), "voxel spacing"),
        ((0, 0.5, 0), "singular"),
    ],
)
def test_bad_affines_get_one_line(tmp_path: Path, column: tuple[float, float, float], message: str) -> None:
    affine = np.diag([0.4, 0.5, 1.25, 1.0])
    affine[:3, 0] = column
    image = nib.Nifti1Image(labels(), np.eye(4))
    image.header["sform_code"], image.header["qform_code"] = 1, 0
    for row, key in enumerate(("srow_x", "srow_y", "srow_z")):
        image.header[key] = affine[row]
    nib.save(nib.Nifti1Image(labels(), None, image.header), tmp_path / "a.nii")
    with pytest.raises(NearError, match=message) as caught:
        read_label(tmp_path / "a.nii")
    assert "\n" not in str(caught.value)


def truncated(folder: Path, suffix: str, keep: float) -> Path:
    """A file cut short; noise does not compress, so that the cut is in the data."""
    array = np.random.default_rng(2).integers(0, 255, (20, 20, 20)).astype(np.uint8)
    write_label(folder / f"a{suffix}", array, LabelMap.from_array(array, np.eye(4)))
    path = folder / f"cut{suffix}"
    content = (folder / f"a{suffix}").read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.7])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_truncated_files_get_one_line(tmp_path: Path, suffix: str, keep: float) -> None:
    path = truncated(tmp_path, suffix, keep)
    with pytest.raises(NearError, match="damaged or not") as caught:
        read_label(path)
    assert "\n" not in str(caught.value)


def test_damaged_inside(tmp_path: Path) -> None:
    path = truncated(tmp_path, ".nii.gz", 1.0)
    content = bytearray(path.read_bytes())
    content[600:900] = bytes(300)
    path.write_bytes(content)
    with pytest.raises(NearError, match="damaged or not"):
        read_label(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.nii.gz", b"no gzip at all", "damaged or not NIfTI"),
        ("a.nii.gz", gzip.compress(b"no nifti" * 99), "damaged or not NIfTI"),
        ("a.nii", b"no nifti" * 99, "damaged or not NIfTI"),
        ("a.nrrd", b"no nrrd", "damaged or not an image"),
        ("a.mha", b"no meta image", "damaged or not an image"),
        ("a.mhd", b"NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = x.raw\n", "damaged or not"),
        ("a.png", b"", r"unsupported file type; expected one of \.nii\.gz"),
        ("a.gz", b"", "unsupported file type"),
    ],
)
def test_what_is_no_image(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NearError, match=message) as caught:
        read_label(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_itk_images_that_are_no_volume(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5), np.uint8)), str(tmp_path / "flat.nrrd"))
    with pytest.raises(NearError, match=r"2-D image of shape \(5, 4\)"):
        read_label(tmp_path / "flat.nrrd")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), True), str(tmp_path / "rgb.mha"))
    with pytest.raises(NearError, match="3 numbers per voxel"):
        read_label(tmp_path / "rgb.mha")


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(NearError, match="no such file"):
        read_label(tmp_path / "a.nii.gz")


def test_never_over_the_input(tmp_path: Path) -> None:
    source = nifti(tmp_path / "a.nii.gz", labels())
    before = source.read_bytes()
    (tmp_path / "link.nii.gz").symlink_to(source)
    (tmp_path / "folder").symlink_to(tmp_path)
    like = read_label(source)
    for target in (source, tmp_path / "link.nii.gz", tmp_path / "folder" / "a.nii.gz"):
        with pytest.raises(NearError, match="is the input file itself"):
            write_label(target, like.array, like)
    with pytest.raises(NearError, match="is the input file itself"):
        write_label(source, like.array, read_label(tmp_path / "link.nii.gz"))
    assert source.read_bytes() == before


def test_bad_writes(tmp_path: Path) -> None:
    like = LabelMap.from_array(labels(), np.eye(4))
    with pytest.raises(NearError, match="expected \\(5, 7, 11\\)"):
        write_label(tmp_path / "a.nii", like.array[:3], like)
    with pytest.raises(NearError, match="unsupported file type"):
        write_label(tmp_path / "a.jpg", like.array, like)
    with pytest.raises(NearError, match="labels from 65400 to 65600"):
        write_label(tmp_path / "a.nii", like.array.astype(int) + 65400, like)
    (tmp_path / "file").write_text("")
    with pytest.raises(NearError, match="cannot be written"):
        write_label(tmp_path / "file" / "a.nii", like.array, like)
