"""NRRD and MetaImage headers: what is not understood, or leads outside, is refused in one line."""

import gzip
import os
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from near_monai.data.case_lists import find_cases
from near_monai.data.class_selection import FOREGROUND
from near_monai.errors import NearError
from near_monai.formats.header_faults import disagreement
from near_monai.formats.label_maps import read_label, write_label
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.options import Options

META = "NDims = 3\nDimSize = 2 3 4\nElementType = MET_UCHAR\nElementSpacing = 0.5 0.6 0.7\nElementDataFile = {}\n"
NRRD = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 3 4\nencoding: raw\n{}\n"
BODY = bytes(range(24))


def test_voxels_in_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "x.raw").write_bytes(BODY)
    (tmp_path / "a.mhd").write_text(META.format("x.raw"))
    (tmp_path / "b.nrrd").write_text(NRRD.format("spacings: 0.5 0.6 0.7\ndata file: x.raw\n"))
    for name in ("a.mhd", "b.nrrd"):
        label = read_label(tmp_path / name)
        assert label.array[1, 2, 3] == 23 and label.array[1, 0, 0] == 1
        assert label.array.flags.writeable
        np.testing.assert_allclose(label.affine, np.diag([-0.5, -0.6, 0.7, 1]))


@pytest.mark.parametrize("place", ["../x.raw", "{folder}/x.raw", "LIST", "x%d.raw 1 4 1", "sub\\x.raw", "C:/x.raw"])
def test_voxels_elsewhere_are_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "in" / "sub"):
        (folder / "x.raw").write_bytes(BODY)
    place = place.format(folder=tmp_path)
    (tmp_path / "in" / "a.mhd").write_text(META.format(place))
    (tmp_path / "in" / "b.nrrd").write_text(NRRD.format(f"data file: {place}\n"))
    for name in ("a.mhd", "b.nrrd"):
        with pytest.raises(NearError, match="not supported; ") as caught:
            read_label(tmp_path / "in" / name)
        assert "damaged" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2 3 4", "30000 30000 30000", "24 bytes of voxels; expected 27000000000000"),
        ("2 3 4", "2 3 5", "24 bytes of voxels; expected 30"),
        ("2 3 4", "2 -3 -4", "expected one 3-D volume"),
        ("2 3 4", "2 3", "damaged"),
        ("NDims = 3", "NDims = 3\nNDims = 3", "each once"),
        ("0.5 0.6", "0.5 nan", "expected 3 finite"),
        ("0.5 0.6 0.7", "0.5 0.6", "expected 3 finite numbers"),
        ("MET_UCHAR", "MET_OTHER", "MET_OTHER"),
        ("ElementSpacing", "elementspacing", "each once"),
        ("ElementType = MET_UCHAR\n", "", "lacks 'ElementType'"),
        ("NDims = 3", "NDims = 3\nTransformMatrix = 1 0 0 1 0 0 0 0 1", "axes lie in one plane"),
    ],
)
def test_headers_that_lie(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "a.mha").write_bytes(META.format("LOCAL").replace(old, new).encode() + BODY)
    with pytest.raises(NearError, match=message) as caught:
        read_label(tmp_path / "a.mha")
    assert "\n" not in str(caught.value)


PACKED = zlib.compress(BODY)


@pytest.mark.parametrize("said", [None, "0", "-1", "5", "500", "x"])
@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
def test_compressed_voxels_of_another_length(tmp_path: Path, suffix: str, said: str | None) -> None:
    """ITK returns memory as it was; without a length it takes the whole file beside the header, which is right."""
    line = "" if said is None else f"CompressedDataSize = {said}\n"
    header = f"CompressedData = True\n{line}{META.format('LOCAL' if suffix == '.mha' else 'x.zraw')}".encode()
    (tmp_path / "x.zraw").write_bytes(PACKED)
    (tmp_path / f"a{suffix}").write_bytes(header + (PACKED if suffix == ".mha" else b""))
    if suffix == ".mhd" and said in (None, "0"):
        np.testing.assert_array_equal(read_label(tmp_path / "a.mhd").array.ravel(order="F"), list(BODY))
    else:
        with pytest.raises(NearError, match="damaged or not an image"):
            read_label(tmp_path / f"a{suffix}")


@pytest.mark.parametrize(("encoding", "content"), [("gzip", PACKED), ("text", b"300 " * 24), ("text", b"0.5 " * 24)])
def test_nrrd_voxels_that_itk_would_take_for_others(tmp_path: Path, encoding: str, content: bytes) -> None:
    (tmp_path / "a.nrrd").write_bytes(NRRD.format("").replace("raw", encoding).encode() + content)
    with pytest.raises(NearError, match="damaged or not an image"):
        read_label(tmp_path / "a.nrrd")


def test_metadata_that_are_not_utf_8_are_left_out(tmp_path: Path) -> None:
    lines = b"name:=caf\xe9\ncaf\xe9:=name\nSegment0_Name:=art\xc3\xa8re\n"
    (tmp_path / "a.nrrd").write_bytes(NRRD.format("").encode()[:-1] + lines + b"\n" + BODY)
    label = read_label(tmp_path / "a.nrrd")
    assert isinstance(label.header, dict) and label.header["Segment0_Name"] == "art\u00e8re"
    write_label(tmp_path / "b.nrrd", label.array, label)
    np.testing.assert_array_equal(read_label(tmp_path / "b.nrrd").array, label.array)


@pytest.mark.parametrize("line", ["space oriigin: (0,0,0)", "byteskipp: -1", "no field", "sizes: 2 3 4"])
def test_nrrd_fields_that_are_not_understood(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.nrrd").write_bytes(NRRD.format(line + "\n").encode() + BODY)
    with pytest.raises(NearError, match="expected fields of NRRD"):
        read_label(tmp_path / "a.nrrd")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_that_claims_what_it_does_not_hold(tmp_path: Path, suffix: str) -> None:
    content = bytearray(nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4)).to_bytes())
    struct.pack_into("<3h", content, 42, 30000, 30000, 30000)
    packed = gzip.compress(bytes(content)) if suffix == ".nii.gz" else bytes(content)
    (tmp_path / f"a{suffix}").write_bytes(packed)
    with pytest.raises(NearError, match="damaged or not NIfTI") as caught:
        read_label(tmp_path / f"a{suffix}")
    assert "\n" not in str(caught.value)


def forms_of(path: Path) -> list[str]:
    """What is wrong with the forms of a NIfTI file."""
    file = read_label(path)
    return disagreement(file.header, file.array.shape)


@pytest.mark.parametrize(("shift", "warnings"), [(0.5, 0), (3.0, 1)])
def test_forms_that_disagree_are_a_warning(tmp_path: Path, shift: float, warnings: int) -> None:
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4))
    moved = np.eye(4)
    moved[0, 3] = shift
    image.set_sform(np.eye(4), 1)
    image.set_qform(moved, 1)
    nib.save(image, tmp_path / "a.nii")
    found = forms_of(tmp_path / "a.nii")
    assert len(found) == warnings
    assert all(f"differ by up to {shift:g} mm" in text for text in found)
    image.set_qform(moved, 0)
    nib.save(image, tmp_path / "b.nii")
    assert forms_of(tmp_path / "b.nii") == []


@pytest.mark.parametrize("at", [252, 254])
def test_form_codes_that_nifti_does_not_have(tmp_path: Path, at: int) -> None:
    content = bytearray(nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4)).to_bytes())
    struct.pack_into("<h", content, at, 30000)
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(NearError, match="30000"):
        read_label(tmp_path / "a.nii")


def header_of(numbers: dict[int, float], codes: tuple[int, int]) -> bytes:
    """A NIfTI file with other floating-point fields, by their offset, and form codes."""
    content = bytearray(nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4)).to_bytes())
    struct.pack_into("<2h", content, 252, *codes)
    for at, number in numbers.items():
        struct.pack_into("<f", content, at, number)
    return bytes(content)


@pytest.mark.parametrize(("codes", "text"), [((1, 0), "spacing"), ((0, 0), "spacing"), ((1, 1), ""), ((0, 1), "")])
def test_voxels_of_no_size_count_where_there_is_no_sform(tmp_path: Path, codes: tuple[int, int], text: str) -> None:
    """nibabel takes 0 for 1 mm, and says so on stderr."""
    (tmp_path / "a.nii").write_bytes(header_of({80: 0.0}, codes))
    if text:
        with pytest.raises(NearError, match=r"voxel spacing \[0.0, 1.0, 1.0\]"):
            read_label(tmp_path / "a.nii")
    else:
        assert read_label(tmp_path / "a.nii").grid.spacing == (1, 1, 1)


@pytest.mark.parametrize("number", [3.0, float("nan"), float("inf")])
def test_damaged_qform_beside_an_sform_is_a_warning(tmp_path: Path, number: float) -> None:
    (tmp_path / "a.nii").write_bytes(header_of({256: number}, (1, 1)))
    assert forms_of(tmp_path / "a.nii") == ["the qform is damaged; the sform was taken"]


def test_nibabel_does_not_log_what_is_refused_or_corrected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.nii").write_bytes(header_of({80: -1.0}, (1, 1)))
    read_label(tmp_path / "a.nii")
    assert caplog.records == []


SLABS = {
    "one": np.pad(np.ones((1, 1, 1), np.uint8), 8),
    "border": np.pad(np.ones((20, 5, 5), np.uint8), ((0, 0), (8, 8), (8, 8))),
    "thin": np.ones((1, 12, 9), np.uint8),
    "full": np.ones((9, 8, 7), np.uint8),
    "two classes \u00fc": np.pad(np.stack([np.full((6, 6), 1), np.full((6, 6), 2)]).astype(np.uint8), 6),
}


@pytest.mark.parametrize("name", SLABS)
def test_odd_labels_give_a_map_or_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    file = f"{name}.nii.gz"
    nib.save(nib.Nifti1Image(SLABS[name], np.diag([0.5, 0.6, 0.7, 1])), tmp_path / "in" / file)
    (row,) = refine_files(tmp_path / "in", tmp_path / "out", Options(label=FOREGROUND, device="cpu"), quiet=True)[
        "cases"
    ]
    assert row["name"] == name
    if row["status"] == "done":
        after = read_label(tmp_path / "out" / file).array
        assert after.shape == SLABS[name].shape and (after.any() or "nothing is left of the label" in row["warnings"])
    else:
        assert "\n" not in row["message"] and "Error" not in row["message"]
        assert not (tmp_path / "out" / file).exists()


def test_hostile_names_stay_in_one_printable_line(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"training": [{"label": "a\\n\\u001b[31m.nii.gz"}]}')
    with pytest.raises(NearError, match=r"a\\n\\x1b\[31m\.nii\.gz"):
        find_cases(tmp_path)
    (tmp_path / "dataset.json").write_text("[" * 100_000)
    with pytest.raises(NearError, match="not JSON"):
        find_cases(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """They could be in no report, table or list."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.nii.gz")).write_bytes(b"")
    with pytest.raises(NearError, match=r"a\\udcff' is no name in UTF-8.*rename it"):
        find_cases(tmp_path)


def test_links_that_lead_nowhere_are_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "loop.nii.gz").symlink_to("loop.nii.gz")
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "up.nii").symlink_to(tmp_path)
    (tmp_path / "a.nii.gz").write_bytes(b"")
    assert [case.name for case in find_cases(tmp_path)] == ["a", "loop"]
