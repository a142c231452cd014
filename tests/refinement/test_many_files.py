"""Many files: shared among shards and processes, each case computed once, one record of all."""

import json
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from near_monai import anatomy
from near_monai.data.case_lists import Case
from near_monai.data.class_selection import ALL, Selection
from near_monai.formats.label_maps import read_label
from near_monai.geometry.coordinates import Grid
from near_monai.networks.weight_files import read_weights, shipped, write_weights
from near_monai.refinement import many_files
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.options import Options
from near_monai.runs.run_records import RECORD_FOLDER, RUN_FILE, Records


@pytest.fixture
def source(tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid) -> Path:
    """Four cases."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        array = np.roll(noisy_vessel, number, 0).astype(np.uint8)
        nib.save(nib.Nifti1Image(array, np.diag([*vessel_grid.spacing, 1.0])), folder / f"{number}.nii.gz")
    return folder


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cases that are computed, which costs nothing here: the label is copied."""
    names: list[str] = []

    def copy(case: Any, output: Path, *_: Any) -> dict[str, Any]:
        names.append(case.name)
        (output / case.label.name).write_bytes(case.label.read_bytes())
        return {"warnings": []}

    monkeypatch.setattr(many_files, "refine_one_class", copy)
    return names


def change(path: Path) -> None:
    """Other bytes: as many, and of the same time."""
    state = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def names_of(output: Path) -> list[str]:
    return [row["name"] for row in json.loads((output / RUN_FILE).read_text())["cases"]]


def test_finished_cases_are_not_computed_again(source: Path, tmp_path: Path, computed: list[str]) -> None:
    output = tmp_path / "out"
    refine_files(source, output, Options(), quiet=True)
    refine_files(source, output, Options(), quiet=True)
    assert computed == ["0", "1", "2", "3"] == names_of(output)
    os.utime(source / "0.nii.gz", ns=(1, 1))  # touched, and still the same
    change(source / "1.nii.gz")
    (output / "2.nii.gz").unlink()
    refine_files(source, output, Options(), quiet=True)
    assert computed[4:] == ["1", "2"]
    refine_files(source, output, Options(clean=False), quiet=True, shard=(0, 2))  # other settings
    assert computed[6:] == ["0", "2"] == names_of(output)  # rows of the old settings do not count


def test_weights_that_change_between_runs_are_read_again(source: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    state, description = read_weights(shipped("model.pt"))
    assert description is not None
    write_weights(weights, state, description)
    one = refine_files(source, tmp_path / "out", Options(weights=str(weights)), quiet=True)["cases"][0]
    write_weights(weights, state | {"field.mlp.last.bias": state["field.mlp.last.bias"] + 1}, description)
    other = refine_files(source, tmp_path / "out", Options(weights=str(weights)), quiet=True)["cases"][0]
    assert other["added_mm3"] > one["added_mm3"]


def test_failed_cases_are_tried_again(source: Path, tmp_path: Path) -> None:
    whole = (source / "3.nii.gz").read_bytes()
    state = (source / "3.nii.gz").stat()
    (source / "3.nii.gz").write_bytes(whole[:100])
    run = refine_files(source, tmp_path / "out", Options(), quiet=True)
    assert [row["status"] for row in run["cases"]] == ["done"] * 3 + ["failed"]
    (source / "3.nii.gz").write_bytes(whole)
    os.utime(source / "3.nii.gz", ns=(state.st_atime_ns, state.st_mtime_ns))
    before = (tmp_path / "out" / "0.nii.gz").stat().st_mtime_ns
    run = refine_files(source, tmp_path / "out", Options(), quiet=True)
    assert [row["status"] for row in run["cases"]] == ["done"] * 4
    assert (tmp_path / "out" / "0.nii.gz").stat().st_mtime_ns == before


def test_a_file_that_vanishes_stops_nobody(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = many_files.refine_one_class

    def and_delete(case: Any, *rest: Any) -> dict[str, Any]:
        (source / "2.nii.gz").unlink(missing_ok=True)
        return read(case, *rest)

    monkeypatch.setattr(many_files, "refine_one_class", and_delete)
    run = refine_files(source, tmp_path / "out", Options(), quiet=True, workers=1)
    assert [row["status"] for row in run["cases"]] == ["done", "done", "failed", "done"]
    assert "no such file" in run["cases"][2]["message"]


@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_shards_compute_every_case_once_and_merge(
    source: Path, tmp_path: Path, computed: list[str], total: int
) -> None:
    for number in reversed(range(total)):
        refine_files(source, tmp_path / "out", Options(), quiet=True, shard=(number, total))
    assert sorted(computed) == ["0", "1", "2", "3"] == names_of(tmp_path / "out")


def test_a_line_that_was_being_written_does_not_count(source: Path, tmp_path: Path, computed: list[str]) -> None:
    output = tmp_path / "out"
    refine_files(source, output, Options(), quiet=True)
    (record,) = (output / RECORD_FOLDER).glob("*.jsonl")
    record.write_bytes(record.read_bytes()[:-20])  # killed while it wrote the last line
    refine_files(source, output, Options(), quiet=True)
    assert computed[4:] == ["3"] and names_of(output) == ["0", "1", "2", "3"]
    assert set(Records(output, "x", None).rows()) == {"0", "1", "2", "3"}


def test_processes_give_what_one_gives(source: Path, tmp_path: Path) -> None:
    one = refine_files(source, tmp_path / "one", Options(), quiet=True, workers=1)
    two = refine_files(source, tmp_path / "two", Options(), quiet=True, workers=2)
    for name in ("0.nii.gz", "3.nii.gz"):
        a, b = (read_label(tmp_path / folder / name).array for folder in ("one", "two"))
        np.testing.assert_array_equal(a, b)
    free = ("seconds",)
    rows = [[{k: v for k, v in row.items() if k not in free} for row in run["cases"]] for run in (one, two)]
    assert rows[0] == rows[1]


def _dies_at_2(case: Case, known: dict[str, str] | None, output: Path, options: Options) -> many_files.Row:
    if case.name == "2":
        os._exit(9)
    return {"name": case.name, "status": "done", "input_state": "", "written": {}, "warnings": [], "bridges": []}


def test_a_case_that_kills_its_process_is_named_and_comes_last(
    source: Path,
    tmp_path: Path,
    computed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    refine = many_files._refine
    monkeypatch.setattr(many_files, "_refine", _dies_at_2)
    run = refine_files(source, tmp_path / "out", Options(), quiet=True, workers=2)
    assert [row["status"] for row in run["cases"]] == ["done", "done", "failed", "done"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("2: its process was killed twice, the second time alone (out of memory?)")
    monkeypatch.setattr(many_files, "_refine", refine)
    refine_files(source, tmp_path / "out", Options(), quiet=True, workers=1)
    assert computed == ["0", "1", "3", "2"]


@pytest.mark.parametrize("label", [9, ALL])
@pytest.mark.parametrize("taken", [0, 1])
def test_bridges_are_where_the_record_says(label: int | Selection, taken: int, tmp_path: Path) -> None:
    """Also where an unknown class, which keeps its voxels, lies in a part of the gap."""
    i, j, k = np.indices((130, 60, 50)) * 0.5
    vessel = np.hypot(j - 20, k - 14) < 1
    array = np.where(vessel & (i > 8) & (i < 60) & (np.abs(i - 36) > 2.5), 9, 0).astype(np.uint8)
    array[vessel & (np.abs(i - 36) <= taken / 2)] = 200 * taken
    array[np.hypot(i - 30, np.hypot(j - 8, k - 8)) < 4] = 6
    affine = np.array([[-0.5, 0, 0, 40], [0, -0.5, 0, 7], [0, 0, 0.5, -90], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "torn.nii.gz")
    options = Options(label, device="cpu", table=str(Path(anatomy.__file__).with_name("anatomy.yaml")))
    (row,) = refine_files(tmp_path / "torn.nii.gz", tmp_path / "out", options, quiet=True)["cases"]
    (bridge,) = [found for own in row.get("structures", [row]) for found in own["bridges"]]
    drawn = np.asarray(nib.nifti1.load(tmp_path / "out" / "bridges" / "torn.nii.gz").dataobj)
    voxel = np.round(np.linalg.inv(affine) @ [*bridge["place"], 1])[:3].astype(int)
    assert drawn[tuple(voxel)]
    assert bridge["gap_mm"] == pytest.approx(5, abs=1)
    assert bridge["volume_mm3"] == pytest.approx(np.count_nonzero(drawn) / 8)


def test_a_case_is_named_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a\n\x1b[31m.nii.gz").write_bytes(b"nothing")
    refine_files(tmp_path / "in", tmp_path / "out", Options(), quiet=True)
    assert any(line.startswith(r"a\n\x1b[31m: ") for line in capsys.readouterr().err.splitlines())
