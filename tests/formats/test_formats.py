"""What other programs write, of every format: read as SimpleITK reads it, or refused in one line."""

import gzip
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from near_monai.errors import NearError
from near_monai.formats.compressed_stream import Unpacked
from near_monai.formats.label_maps import LabelMap, read_label, read_volume, write_label
from near_monai.geometry.coordinates import Grid
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.options import Options

BODY = bytes(range(24))
ARRAY = np.arange(24, dtype=np.uint8).reshape((2, 3, 4), order="F")
META = "NDims = 3\nDimSize = 2 3 4\nElementType = MET_UCHAR\nElementSpacing = 0.5 0.6 0.7\n{}ElementDataFile = {}\n"
NRRD = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 3 4\nencoding: raw\n{}\n"
NAMES = [" %", "a %d", "77 % B26f", "a b", "\u00e4\u00f6\u00fc \u8840", "q\"uo'te", "two\nlines", "-dash", "n" * 200]
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def voxels(image: sitk.Image) -> NDArray[Any]:
    return np.asarray(sitk.GetArrayFromImage(image)).T


def same_place(label: LabelMap, image: sitk.Image) -> None:
    for corner in ((0, 0, 0), tuple(n - 1 for n in label.array.shape)):
        lps = np.array(image.TransformIndexToPhysicalPoint([int(c) for c in corner]))
        np.testing.assert_allclose((label.affine @ (*corner, 1))[:3], lps * (-1, -1, 1), atol=1e-4)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", NAMES)
def test_names(tmp_path: Path, name: str, suffix: str) -> None:
    """Whoever reads such a file next can: the oracle is ITK."""
    path = tmp_path / f"{name}{suffix}"
    write_label(path, ARRAY, LabelMap.from_array(ARRAY, np.diag([0.5, 0.6, 0.7, 1.0])))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    np.testing.assert_array_equal(read_label(path).array, ARRAY)
    np.testing.assert_array_equal(voxels(sitk.ReadImage(str(path))), ARRAY)


@pytest.mark.parametrize("name", ["77 % B26f", "a%04d", "\u00fc b"])
def test_pairs_of_such_names(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.raw").write_bytes(BODY)
    (tmp_path / "a.mhd").write_text(META.format("", f"{name}.raw"))
    (tmp_path / "a.nhdr").write_text(NRRD.format(f"data file: {name}.raw\n"))
    for suffix in (".mhd", ".nhdr"):
        np.testing.assert_array_equal(read_label(tmp_path / f"a{suffix}").array, ARRAY)


PIXELS = ["UInt8", "Int8", "UInt16", "Int16", "UInt32", "Int32", "UInt64", "Int64", "Float32", "Float64"]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("pixel", PIXELS)
def test_every_type_that_itk_writes(tmp_path: Path, pixel: str, suffix: str, packed: bool) -> None:
    image = sitk.Cast(sitk.GetImageFromArray(ARRAY.T), getattr(sitk, f"sitk{pixel}"))
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    image.SetDirection(turn.ravel().tolist())
    image.SetSpacing((0.5, 0.6, 0.7))
    image.SetOrigin((10, -20, 30))
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"), useCompression=packed)
    label = read_label(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(label.array, ARRAY)
    assert label.array.dtype == np.uint8 and label.array.flags.writeable
    same_place(label, image)


@pytest.mark.parametrize(
    "fields",
    [
        "space: LPS\nspace directions: (0.5,0,0) (0,0.6,0.1) (0,0,0.7)\nspace origin: (1,2,3)\n",
        "space: right-anterior-superior\nspace directions: (0.5,0,0) (0,0.6,0.1) (0,0,0.7)\nspace origin: (1,2,3)\n",
        "space: left-anterior-superior\nspace directions: (0.5,0,0) (0,0.6,0.1) (0,0,0.7)\nspace origin: (1,2,3)\n",
        "space dimension: 3\nspace directions: (0.5,0,0) (0,0.6,0.1) (0,0,0.7)\nspace origin: (1,2,3)\n",
        "spacings: 0.5 0.6 0.7\n",
        'spacings: 0.5 0.6 0.7\nunits: "mm" "mm" "mm"\n',
        "byte skip: 0\nspacings: 0.5 0.6 0.7\n",
        "byte skip: -1\nspacings: 0.5 0.6 0.7\n",
        "spacings: 0.5 0.6 0.7\nkey:=value: with := in it\n",
    ],
)
def test_nrrd_headers(tmp_path: Path, fields: str) -> None:
    (tmp_path / "a.nrrd").write_bytes(NRRD.format(fields).encode() + BODY)
    label, image = read_label(tmp_path / "a.nrrd"), sitk.ReadImage(str(tmp_path / "a.nrrd"))
    np.testing.assert_array_equal(label.array, voxels(image))
    same_place(label, image)
    write_label(tmp_path / "b.nrrd", label.array, label)
    same_place(label, sitk.ReadImage(str(tmp_path / "b.nrrd")))
    assert read_label(tmp_path / "b.nrrd").header == label.header


@pytest.mark.parametrize(
    "fields",
    [
        "Offset = 1 2 3\nTransformMatrix = 0 1 0 -1 0 0 0 0 1\n",
        "Position = 1 2 3\nOrientation = 0 1 0 -1 0 0 0 0 1\n",
        "Origin = 1 2 3\nRotation = 0 1 0 -1 0 0 0 0 1\nElementSize = 1 1 1\n",
        "CenterOfRotation = 0 0 0\nAnatomicalOrientation = RAI\nHeaderSize = -1\nComment = by hand\n",
    ],
)
def test_meta_headers(tmp_path: Path, fields: str) -> None:
    (tmp_path / "a.mha").write_bytes(META.format(fields, "LOCAL").encode() + BODY)
    label, image = read_label(tmp_path / "a.mha"), sitk.ReadImage(str(tmp_path / "a.mha"))
    np.testing.assert_array_equal(label.array, voxels(image))
    same_place(label, image)


@pytest.mark.parametrize(("name", "kind"), [("MET_LONG", "<i4"), ("MET_ULONG", "<u4"), ("MET_SHORT", ">i2")])
def test_meta_types_and_orders_of_bytes(tmp_path: Path, name: str, kind: str) -> None:
    order = "BinaryDataByteOrderMSB = True\n" if kind[0] == ">" else ""
    text = META.format(order, "LOCAL").replace("MET_UCHAR", name)
    (tmp_path / "a.mha").write_bytes(text.encode() + ARRAY.astype(kind).tobytes(order="F"))
    np.testing.assert_array_equal(read_label(tmp_path / "a.mha").array, ARRAY)
    np.testing.assert_array_equal(voxels(sitk.ReadImage(str(tmp_path / "a.mha"))), ARRAY)


@pytest.mark.parametrize(("skip", "before", "after"), [("10", 10, 0), ("-1", 7, 0)])
def test_bytes_before_the_voxels(tmp_path: Path, skip: str, before: int, after: int) -> None:
    (tmp_path / "x.raw").write_bytes(b"\7" * before + BODY)
    (tmp_path / "a.mhd").write_text(META.format(f"HeaderSize = {skip}\n", "x.raw"))
    (tmp_path / "b.nhdr").write_text(NRRD.format(f"data file: x.raw\nbyte skip: {skip}\n"))
    (tmp_path / "y.raw").write_bytes(b"two\nlines\n" + BODY)
    (tmp_path / "c.nhdr").write_text(NRRD.format("data file: y.raw\nline skip: 2\n"))
    for name in ("a.mhd", "b.nhdr", "c.nhdr"):
        np.testing.assert_array_equal(read_label(tmp_path / name).array, ARRAY)


def test_voxels_in_a_folder_below(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x y.raw").write_bytes(BODY)
    (tmp_path / "a.mhd").write_text(META.format("", "data/x y.raw"))
    (tmp_path / "b.nhdr").write_text(NRRD.format("data file: ./data/x y.raw\n"))
    for name in ("a.mhd", "b.nhdr"):
        np.testing.assert_array_equal(read_label(tmp_path / name).array, ARRAY)


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1.0), ("cm", 10.0), ("um", 1e-3), ("m", 1e3)])
def test_nrrd_units_count(tmp_path: Path, unit: str, mm: float) -> None:
    steps = [0.5 / mm, 0.6 / mm, 0.7 / mm]
    quoted = " ".join([f'"{unit}"'] * 3)
    axes = " ".join("({})".format(",".join(map(str, row))) for row in np.diag(steps).tolist())
    with_space = f"space: LPS\nspace directions: {axes}\nspace origin: ({10 / mm},0,0)\nspace units: {quoted}\n"
    plain = f"spacings: {' '.join(map(str, steps))}\nunits: {quoted}\n"
    for fields, place in ((with_space, -10), (plain, 0)):
        (tmp_path / "a.nrrd").write_bytes(NRRD.format(fields).encode() + BODY)
        label = read_label(tmp_path / "a.nrrd")
        np.testing.assert_allclose(label.grid.spacing, (0.5, 0.6, 0.7))
        assert label.affine[0, 3] == pytest.approx(place)
        write_label(tmp_path / "b.nrrd", label.array, label)
        np.testing.assert_allclose(read_label(tmp_path / "b.nrrd").affine, label.affine)


@pytest.mark.parametrize(("unit", "mm"), [("?", 1.0), ("mm", 1.0), ("cm", 10.0), ("um", 1e-3)])
def test_meta_units_count(tmp_path: Path, unit: str, mm: float) -> None:
    fields = f"DistanceUnits = {unit}\nOffset = {10 / mm} 0 0\n"
    text = META.format(fields, "LOCAL").replace("0.5 0.6 0.7", f"{0.5 / mm} {0.6 / mm} {0.7 / mm}")
    (tmp_path / "a.mha").write_bytes(text.encode() + BODY)
    label = read_label(tmp_path / "a.mha")
    np.testing.assert_allclose(label.grid.spacing, (0.5, 0.6, 0.7))
    assert label.affine[0, 3] == pytest.approx(-10)
    write_label(tmp_path / "b.mha", label.array, label)
    np.testing.assert_allclose(read_label(tmp_path / "b.mha").affine, label.affine)


@pytest.mark.parametrize("turned", [False, True])
def test_nrrd_in_space_and_time(tmp_path: Path, turned: bool) -> None:
    """One point in time is a volume."""
    rows = (
        "(0,0.5,0,0) (0.6,0,0,0) (0,0,0.7,0) (0,0,0,2)" if turned else "(0.5,0,0,0) (0,0.6,0,0) (0,0,0.7,0) (0,0,0,2)"
    )
    fields = f"space: right-anterior-superior-time\nspace directions: {rows}\nspace origin: (1,2,3,4)\n"
    text = NRRD.format(fields).replace("dimension: 3", "dimension: 4").replace("2 3 4", "2 3 4 1")
    (tmp_path / "a.nrrd").write_bytes(text.encode() + BODY)
    label = read_label(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(label.array, ARRAY)
    np.testing.assert_allclose(label.affine @ (1, 1, 1, 1), (1.6, 2.5, 3.7, 1) if turned else (1.5, 2.6, 3.7, 1))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.mha", META.format("DistanceUnits = inch\n", "LOCAL"), "lengths in inch are not supported"),
        ("a.nrrd", NRRD.format('space: LPS\nspace units: "cm"\nspacings: 1 1 1\n'), "expected 3"),
        ("a.nrrd", NRRD.format('space units: "in" "in" "in"\n'), "lengths in in, in, in are not supported"),
        ("a.nrrd", NRRD.format("axis mins: 0 0 0\n"), "axis mins: 0 0 0' in its header is not supported"),
        ("a.nrrd", NRRD.format("byte skip: 4\n").replace("raw", "gzip"), "to be skipped .* not supported"),
        ("a.nrrd", NRRD.format("data file: LIST\na.raw\n"), r"LIST .* not supported; write them as one"),
        ("a.nrrd", NRRD.format("").replace("raw", "hex"), "encoding hex is not supported"),
        ("a.nrrd", NRRD.format("").replace("uint8", "block"), "type block .* not supported"),
        ("a.nrrd", NRRD.format("kinds: RGB-color domain domain\n"), "3-D image of shape|2 numbers per voxel"),
        ("a.mhd", META.format("", "LIST"), r"ElementDataFile = LIST .* not supported; write them as one"),
        ("a.mhd", META.format("", "x%03d.raw 1 4 1"), "many files .* not supported"),
        ("a.mha", META.format("HeaderSize = 10\n", "LOCAL"), "HeaderSize = 10 is not supported here"),
        ("a.mha", META.format("Offset = 0 0 0\nOrigin = 1 0 0\n", "LOCAL"), "Offset and Origin differ"),
        ("a.mha", META.format("", "LOCAL").replace("0.5 0.6", "0.5 -0.6"), "lengths above 0"),
        ("a.nrrd", NRRD.format("spacings: 0.5 -0.6 0.7\n"), "lengths above 0"),
        ("a.nrrd", NRRD.format("").replace("uint8", "int16"), "lacks 'endian'"),
    ],
)
def test_refused_in_one_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_bytes(content.encode() + BODY)
    with pytest.raises(NearError, match=message) as caught:
        read_label(tmp_path / name)
    line = str(caught.value)
    assert "\n" not in line and ("not supported" not in line or "damaged" not in line)


@pytest.mark.parametrize("form", ["nii 4", "nii 5", "nrrd list", "nrrd last", "mha 4", "nii2 4"])
def test_axes_of_one_come_back(tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid, form: str) -> None:
    """Through the command: read, refined and written in the shape of the file."""
    array = noisy_vessel.astype(np.uint8)
    step, affine = vessel_grid.spacing, np.diag([*vessel_grid.spacing, 1.0])
    if form.startswith("nii"):
        kind = nib.Nifti2Image if form.startswith("nii2") else nib.Nifti1Image
        path = tmp_path / "a.nii.gz"
        nib.save(kind(array.reshape(*array.shape, *[1] * (int(form[-1]) - 3)), affine), path)
    elif form.startswith("nrrd"):
        path = tmp_path / "a.nrrd"
        sizes = [1, *array.shape] if form.endswith("list") else [*array.shape, 1]
        rows = [f"({step[0]},0,0)", f"(0,{step[1]},0)", f"(0,0,{step[2]})"]
        rows.insert(0 if form.endswith("list") else 3, "none")
        text = NRRD.format(f"space: RAS\nspace directions: {' '.join(rows)}\nspace origin: (0,0,0)\n")
        text = text.replace("2 3 4", " ".join(map(str, sizes))).replace("dimension: 3", "dimension: 4")
        path.write_bytes(text.encode() + array.tobytes(order="F"))
    else:
        path = tmp_path / "a.mha"
        sitk.WriteImage(sitk.JoinSeries(sitk.GetImageFromArray(array.T)), str(path))
    label = read_label(path)
    np.testing.assert_array_equal(label.array, array)
    (row,) = refine_files(path, tmp_path / "out", Options(device="cpu"), quiet=True)["cases"]
    assert row["status"] == "done"
    again = read_label(tmp_path / "out" / path.name)
    assert again.ones == label.ones != () and again.array.shape == array.shape
    np.testing.assert_allclose(again.affine, label.affine)
    if form.startswith("nii"):
        source, result = (nib.loadsave.load(folder / path.name) for folder in (tmp_path, tmp_path / "out"))
        assert isinstance(source, nib.Nifti1Image) and isinstance(result, nib.Nifti1Image)
        assert result.shape == source.shape
    elif form.startswith("nrrd"):
        line = f"sizes: {' '.join(map(str, sizes))}\n".encode()
        assert all(line in file.read_bytes() for file in (path, tmp_path / "out" / path.name))
    else:
        assert sitk.ReadImage(str(tmp_path / "out" / path.name)).GetSize() == sitk.ReadImage(str(path)).GetSize()


def quantised(array: NDArray[Any], top: float, path: Path) -> Path:
    """Whole numbers from 0 to ``top`` through the scale that fits them to 8 bits, as some exporters do."""
    content = bytearray(nib.Nifti1Image(np.rint(array / top * 255).astype(np.uint8), np.eye(4)).to_bytes())
    struct.pack_into("<2f", content, 112, top / 255, 0)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("top", [7, 9, 11, 99, 250])
def test_whole_numbers_through_a_scale(tmp_path: Path, top: int) -> None:
    array = np.arange(2 * top + 2).reshape(2, -1, 1) % (top + 1)
    path = quantised(array, top, tmp_path / "a.nii")
    np.testing.assert_array_equal(read_label(path).array, array)
    assert read_label(path).array.max() == top


def test_what_is_no_whole_number_to_half_a_step_is_refused(tmp_path: Path) -> None:
    path = quantised(np.array([0, 3.4, 7]).reshape(3, 1, 1), 7, tmp_path / "a.nii")
    with pytest.raises(NearError, match=r"holds 3\.4\d*, not a whole number"):
        read_label(path)


@pytest.mark.parametrize("value", [256, 500, 850, 65535])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_classes_above_255_stay(tmp_path: Path, suffix: str, value: int) -> None:
    array = ARRAY.astype(np.int32) % 3 * (value // 2)
    write_label(tmp_path / f"a{suffix}", array, LabelMap.from_array(array, np.eye(4)))
    label = read_label(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(label.array, array)
    np.testing.assert_array_equal(voxels(sitk.ReadImage(str(tmp_path / f"a{suffix}"))), array)
    assert label.array.dtype == (np.uint16 if array.max() > 255 else np.uint8)


def test_a_class_above_255_is_refined(tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid) -> None:
    array = noisy_vessel * np.uint16(500)
    array[:10, :6, :6] = 205
    nib.save(nib.Nifti1Image(array, np.diag([*vessel_grid.spacing, 1.0])), tmp_path / "a.nii.gz")
    options = Options(label=500, structure="coronary", device="cpu")
    (row,) = refine_files(tmp_path / "a.nii.gz", tmp_path / "out", options, quiet=True)["cases"]
    after = np.asanyarray(nib.nifti1.load(tmp_path / "out" / "a.nii.gz").dataobj)
    assert row["label"] == 500 and set(np.unique(after)) == {0, 205, 500}
    assert (after != array).any() and (after[:10, :6, :6] == 205).all()


def nifti(tmp_path: Path, name: str, content: bytes) -> Path:
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def test_nifti_by_content(tmp_path: Path) -> None:
    """Whatever it is called, whatever follows the compressed stream, in as many members as there are."""
    plain = nib.Nifti1Image(ARRAY, np.diag([0.5, 0.6, 0.7, 1.0])).to_bytes()
    packed = gzip.compress(plain)
    contents = {"a.nii.gz": plain, "b.nii": packed, "c.nii.gz": packed + b"tail", "d.nii.gz": packed + b"\0" * 512}
    contents["e.nii.gz"] = gzip.compress(plain[:400]) + gzip.compress(plain[400:])
    for name, content in contents.items():
        np.testing.assert_array_equal(read_label(nifti(tmp_path, name, content)).array, ARRAY)
    for name, content in {"x.nii.gz": packed[:-9], "y.nii": packed[:-4] + b"nope", "z.nii.gz": packed[:60]}.items():
        with pytest.raises(NearError, match="damaged or not NIfTI"):
            read_label(nifti(tmp_path, name, content))


@pytest.mark.parametrize("kind", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_format_under_any_name(tmp_path: Path, kind: str, suffix: str) -> None:
    """Results have the format that their name says."""
    affine = np.diag([-0.5, -0.6, 0.7, 1.0])
    write_label(tmp_path / f"a{kind}", ARRAY, LabelMap.from_array(ARRAY, affine))
    label = read_label((tmp_path / f"a{kind}").rename(tmp_path / f"b{suffix}"))
    np.testing.assert_array_equal(label.array, ARRAY)
    np.testing.assert_allclose(label.affine, affine)
    write_label(tmp_path / f"c{suffix}", ARRAY, label)
    np.testing.assert_array_equal(voxels(sitk.ReadImage(str(tmp_path / f"c{suffix}"))), ARRAY)


def test_unpacked_goes_to_any_place(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 4, 700_000).astype(np.uint8).tobytes()
    (tmp_path / "a.gz").write_bytes(b"".join(gzip.compress(data[i : i + 99_999]) for i in range(0, len(data), 99_999)))
    with (tmp_path / "a.gz").open("rb") as file:
        stream = Unpacked(file)
        for place in (0, 5, 400_000, 399_990, 699_999, 12):
            assert stream.seek(place) == place
            assert stream.read(1) == data[place : place + 1]
        stream.seek(0)
        assert stream.readall() == data and stream.read(1) == b""


def test_a_volume_through_a_scale(tmp_path: Path) -> None:
    content = bytearray(nib.Nifti1Image(ARRAY, np.eye(4)).to_bytes())
    struct.pack_into("<2f", content, 112, 0.25, -3)
    (tmp_path / "a.nii").write_bytes(content)
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").array, ARRAY * 0.25 - 3)
