"""The command: files of every case, finished ones kept, bad ones named."""

import base64
import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from near_monai.cli import main
from near_monai.formats.label_maps import read_label

AFFINE = np.array([[-0.5, 0, 0, 90], [0, -0.5, 0, 70], [0, 0, 0.5, -300], [0, 0, 0, 1.0]])
DTYPES = {"Float32": "<f4", "Int64": "<i8", "Int32": "<i4"}


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def vessel() -> NDArray[np.uint8]:
    x, y, z = np.indices((70, 24, 24)) * 0.5
    return ((np.hypot(y - 6, z - 6) < 2 - x / 50) & (x > 2) & (x < 33)).astype(np.uint8)


def arrays_of(path: Path) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for element in ElementTree.parse(path).iter("DataArray"):
        content = base64.b64decode(element.text or "")
        assert int.from_bytes(content[:8], "little") == len(content) - 8
        found.setdefault(element.attrib["Name"], np.frombuffer(content[8:], DTYPES[element.attrib["type"]]))
    return found


def test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels, out = tmp_path / "labels", tmp_path / "out"
    (labels / "p1").mkdir(parents=True)
    nib.save(nib.Nifti1Image(vessel(), AFFINE), labels / "p1" / "a.nii.gz")
    nib.save(nib.Nifti1Image(0 * vessel(), AFFINE), labels / "empty.nii.gz")
    (labels / "bad.nii.gz").write_bytes(b"nothing")
    assert run("tree", labels, "-o", out, "--write-labels") == 1
    said = capsys.readouterr()
    assert "bad: " in said.err and "empty: warning: the label map is empty" in said.err
    assert "2 of 3 cases done" in said.out and "1 of 3 cases failed: bad" in said.err

    content = json.loads((out / "p1" / "a.json").read_text())
    (tree,) = content["trees"]
    assert (content["case"], content["space"], content["units"], content["left_out"]) == ("p1/a", "RAS", "mm", 0)
    (branch,) = tree["branches"]
    points = np.array(branch["points_mm"])
    assert len(points) == len(branch["radius_mm"]) and tree["root_mm"] == branch["points_mm"][0]
    np.testing.assert_allclose(points[:, 1:], np.broadcast_to([64, -294], (len(points), 2)), atol=0.3)
    assert tree["root_mm"][0] > 80 and branch["length_mm"] == pytest.approx(27, abs=1.5)
    assert json.loads((out / "empty.json").read_text())["trees"] == []

    with (out / "branches.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["case"], row["tree"], row["side"], row["parent"], row["name"]) == ("p1/a", "0", "", "", "")
    assert float(row["min_radius_mm"]) == branch["min_radius_mm"]

    arrays = arrays_of(out / "p1" / "a.vtp")
    np.testing.assert_allclose(arrays["Points"].reshape(-1, 3), points, atol=2e-3)
    np.testing.assert_allclose(arrays["Radius"], branch["radius_mm"], atol=2e-3)
    assert arrays["offsets"].tolist() == [len(points)] and arrays["Parent"].tolist() == [-1]
    assert arrays["Name"].tolist() == arrays["Label"].tolist() == [0]
    assert ">82 65 83 0<" in (out / "p1" / "a.vtp").read_text(), "the file says RAS"

    sides = read_label(out / "sides" / "p1" / "a.nii.gz")
    np.testing.assert_array_equal(sides.array, 3 * vessel())
    np.testing.assert_array_equal(sides.affine, AFFINE)


def test_finished_cases_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "labels", tmp_path / "out"
    source.mkdir()
    for name in "ab":
        nib.save(nib.Nifti1Image(vessel(), AFFINE), source / f"{name}.nii.gz")
    assert run("tree", source, "-o", out, "--shard", "1/2") == 0
    assert not (out / "a.json").exists()
    before = (out / "b.json").stat().st_mtime_ns
    assert run("tree", source, "-o", out) == 0
    assert "1 cases are finished already" in capsys.readouterr().err
    assert (out / "b.json").stat().st_mtime_ns == before
    with (out / "branches.csv").open(newline="") as file:
        assert [row["case"] for row in csv.DictReader(file)] == ["a", "b"]
    (out / "a.json").unlink()
    assert run("tree", source, "-o", out, "--quiet") == 0
    assert (out / "a.json").exists()


def test_files_of_others_are_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nib.save(nib.Nifti1Image(vessel(), AFFINE), tmp_path / "a.nii.gz")
    (tmp_path / "a.json").write_text("mine")
    assert run("tree", tmp_path / "a.nii.gz", "-o", tmp_path) == 1
    assert "already holds a.json" in capsys.readouterr().err
    assert (tmp_path / "a.json").read_text() == "mine"
    assert run("tree", tmp_path / "a.nii.gz", "-o", tmp_path / "out", "--label", 4) == 1
    assert "no voxel has label 4" in capsys.readouterr().err
