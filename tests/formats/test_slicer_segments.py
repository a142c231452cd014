"""Segmentations of 3D Slicer (.seg.nrrd): names and colours stay, extents follow the voxels; slicerio reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicerio
from numpy.typing import NDArray

from near_monai.data.class_selection import ALL
from near_monai.errors import NearError
from near_monai.formats.label_maps import LabelMap, read_label, write_label, write_volume
from near_monai.formats.slicer_segments import EMPTY, Segment, described
from near_monai.geometry.coordinates import Grid
from near_monai.refinement.folder_fusion import fuse_folders
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.one_file import BRIDGE
from near_monai.refinement.options import Options

HEADER = """NRRD0004
# Complete NRRD file format specification at:
# http://teem.sourceforge.net/nrrd/format.html
type: unsigned char
dimension: 3
space: left-posterior-superior
sizes: {sizes}
space directions: ({step[0]},0,0) (0,{step[1]},0) (0,0,{step[2]})
kinds: domain domain domain
encoding: raw
space origin: (1,2,3)
"""
REST = "Segmentation_ConversionParameters:=Reference image geometry|1;0;0|Where.&\nSegmentation_MasterRepresentation"
REST += ":=Binary labelmap\nSegmentation_ReferenceImageExtentOffset:=4 5 6\n"


def segment(number: int, value: int, name: str, **fields: str) -> str:
    known = {"ID": f"Segment_{number}", "Name": name, "LabelValue": str(value), "Layer": "0", "Color": "0.1 0.2 0.3"}
    known |= {"Extent": "0 3 0 3 0 3", "Tags": "Segmentation.Status:inprogress|"} | fields
    return "".join(f"Segment{number}_{key}:={text}\n" for key, text in known.items())


def slicer(path: Path, array: NDArray[np.uint8], step: tuple[float, ...], segments: str) -> Path:
    """A file as 3D Slicer writes it."""
    header = HEADER.format(sizes=" ".join(map(str, array.shape)), step=step) + segments + REST + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.encode() + array.tobytes(order="F"))
    return path


def boxes(array: NDArray[np.integer[Any]], value: int) -> list[int]:
    """First and last voxel of a class along every axis, as Slicer counts."""
    where = np.argwhere(array == value)
    return np.stack([where.min(0), where.max(0)], 1).ravel().tolist() if len(where) else [0, -1] * 3


def check(path: Path) -> dict[int, str]:
    """What Slicer would show of a file is what is in it; names by value."""
    found = slicerio.read_segmentation(str(path))
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T.squeeze(), found["voxels"].squeeze())
    np.testing.assert_array_equal(read_label(path).array, found["voxels"].squeeze())
    for part in found["segments"]:
        assert part["extent"] == boxes(found["voxels"].squeeze(), part["labelValue"]), part
    assert len({part["id"] for part in found["segments"]}) == len(found["segments"])
    return {part["labelValue"]: part["name"] for part in found["segments"]}


@pytest.fixture
def heart(noisy_vessel: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Coronary (9) and, beside it, something that the table knows as an atrium (3)."""
    array = noisy_vessel.astype(np.uint8) * np.uint8(9)
    array[20:40, 38:50, 4:12] = 3
    return array


SEGMENTS = segment(0, 3, "my atrium") + segment(1, 9, "Ast mit \u00dcbergang", Color="1 0 0") + segment(2, 77, "gone")


def test_one_class(tmp_path: Path, heart: NDArray[np.uint8], vessel_grid: Grid) -> None:
    source = slicer(tmp_path / "a.seg.nrrd", heart, vessel_grid.spacing, SEGMENTS)
    (row,) = refine_files(source, tmp_path / "out", Options(device="cpu"), quiet=True)["cases"]
    assert row["status"] == "done"
    header = read_label(tmp_path / "out" / "a.seg.nrrd").header
    assert isinstance(header, dict)
    check(tmp_path / "out" / "a.seg.nrrd")
    assert header["Segment1_Name"] == "Ast mit \u00dcbergang" and header["Segment1_Color"] == "1 0 0"
    assert header["Segment0_Tags"] == "Segmentation.Status:inprogress|" and header["Segment2_Extent"] == EMPTY
    assert header["Segmentation_ReferenceImageExtentOffset"] == "4 5 6" and "Segment3_Name" not in header


def test_cube(tmp_path: Path, heart: NDArray[np.uint8], vessel_grid: Grid) -> None:
    """On another grid the extents are those of that grid, and nothing is said of the old one."""
    source = slicer(tmp_path / "a.seg.nrrd", heart, vessel_grid.spacing, SEGMENTS)
    refine_files(source, tmp_path / "out", Options(device="cpu", resolution=48), quiet=True)
    check(tmp_path / "out" / "a.seg.nrrd")
    header = read_label(tmp_path / "out" / "a.seg.nrrd").header
    assert isinstance(header, dict) and header["Segmentation_ReferenceImageExtentOffset"] == "0 0 0"
    assert "Segmentation_ConversionParameters" not in header


def test_all_classes_and_fuse_overwrite_no_segment(tmp_path: Path, heart: NDArray[np.uint8], vessel_grid: Grid) -> None:
    heart[0, 0, 0] = 5
    source = slicer(tmp_path / "in" / "a.seg.nrrd", heart, vessel_grid.spacing, SEGMENTS)
    refine_files(source.parent, tmp_path / "out", Options(label=ALL, device="cpu"), quiet=True)
    fuse_folders([tmp_path / "out"], tmp_path / "both", None, quiet=True)
    for folder in ("out", "both"):
        path = tmp_path / folder / "a.seg.nrrd"
        check(path)
        header = read_label(path).header
        assert isinstance(header, dict)
        assert [header[f"Segment{n}_LabelValue"] for n in range(3)] == ["3", "9", "77"]
        assert header["Segment0_Name"] == "my atrium" and header["Segment0_Color"] == "0.1 0.2 0.3"


def test_classes_without_a_segment_get_one() -> None:
    array = np.zeros((3, 3, 3), np.uint8)
    array[1, 1, 1], array[2, 2, 2] = 4, 6
    known = {"Segment3_LabelValue": "4", "Segment3_Layer": "0", "Segment3_ID": "six", "Segment3_Name": "four"}
    fields = described(known, array, [Segment(4, "x", (0, 0, 0)), Segment(6, "six", (255, 0, 0))], moved=False)
    assert fields["Segment3_Name"] == "four" and fields["Segment3_Extent"] == "1 1 1 1 1 1"
    assert fields["Segment4_Name"] == "six" and fields["Segment4_Extent"] == "2 2 2 2 2 2"
    assert fields["Segment4_ID"] == "six_6" and fields["Segment4_Color"] == "1.000 0.000 0.000"
    assert not any("Extent" in key for key in described({}, array, [], moved=False))


def test_segment_of_an_old_slicer_is_value_1() -> None:
    """Its files say neither value nor layer; with an extent of nothing a new Slicer would show nothing."""
    array = np.zeros((3, 3, 3), np.uint8)
    array[1, 1, 0:2] = 1
    fields = described({"Segment5_Name": "RCA", "Segment5_Extent": "0 2 0 2 0 2"}, array, [BRIDGE], moved=False)
    assert fields == {"Segment5_Name": "RCA", "Segment5_Extent": "1 1 1 1 0 1"}


def test_bridges_and_probabilities_are_no_segments_of_the_source(
    tmp_path: Path, heart: NDArray[np.uint8], vessel_grid: Grid
) -> None:
    label = read_label(slicer(tmp_path / "a.seg.nrrd", heart, vessel_grid.spacing, SEGMENTS))
    write_label(tmp_path / "b.seg.nrrd", heart // 9, label.unnamed(), segments=[BRIDGE])
    assert check(tmp_path / "b.seg.nrrd") == {1: "bridge"}
    write_volume(tmp_path / "p.nrrd", heart / np.float32(9), label)
    assert "Segment0_Name" not in sitk.ReadImage(str(tmp_path / "p.nrrd")).GetMetaDataKeys()


@pytest.mark.parametrize("count", [1, 2])
def test_layers(tmp_path: Path, heart: NDArray[np.uint8], vessel_grid: Grid, count: int) -> None:
    """One layer in a fourth axis comes back so; of several the message says how to export one."""
    stack = np.stack([heart] * count)
    segments = segment(0, 3, "my atrium") + segment(1, 9, "my tree", Layer=str(count - 1))
    path = slicer(tmp_path / "a.seg.nrrd", stack, vessel_grid.spacing, segments)
    text = path.read_bytes().replace(b"dimension: 3", b"dimension: 4").replace(b"directions: ", b"directions: none ")
    path.write_bytes(text.replace(b"kinds: ", b"kinds: list "))
    if count == 2:
        with pytest.raises(NearError, match=r"2 layers .*layer 0: my atrium; layer 1: my tree.*3D Slicer"):
            read_label(path)
        return
    label = read_label(path)
    np.testing.assert_array_equal(label.array, heart)
    write_label(tmp_path / "b.seg.nrrd", label.array, label)
    assert slicerio.read_segmentation(str(tmp_path / "b.seg.nrrd"))["voxels"].shape == stack.shape
    assert check(tmp_path / "b.seg.nrrd") == {3: "my atrium", 9: "my tree"}
    np.testing.assert_allclose(read_label(tmp_path / "b.seg.nrrd").affine, label.affine)


def test_other_files_are_read_by_slicer_too(tmp_path: Path) -> None:
    array = np.zeros((4, 5, 6), np.uint8)
    array[1:3, 2, 2:5] = 7
    like = LabelMap.from_array(array, np.diag([0.5, 0.6, 0.7, 1.0]))
    write_label(
        tmp_path / "a.nrrd", array, like, segments=[Segment(7, "seven", (1, 2, 3)), Segment(8, "no", (0, 0, 0))]
    )
    assert check(tmp_path / "a.nrrd") == {7: "seven"}
