"""Folders to one map per case: what counts of which folder, what is refused, and that a fused map stays as it is."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from near_monai.anatomy import by_name
from near_monai.cli import main
from near_monai.formats.label_maps import LabelMap, read_label, write_label, write_volume

ATRIUM, VENTRICLE = by_name("left_atrium").index, by_name("left_ventricle").index
CORONARY, MYOCARDIUM = by_name("coronary").index, by_name("myocardium").index
SHAPE = (40, 30, 30)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def put(folder: Path, atrium: int, ventricle: int, refined: int | None = None, probability: float = 0.0) -> None:
    """A case whose atrium ends before x = ``atrium`` and whose ventricle begins at ``ventricle``."""
    array = np.zeros(SHAPE, np.uint8)
    array[ventricle:32, 5:25, 5:25] = VENTRICLE
    array[4:atrium, 5:25, 5:25] = ATRIUM
    file = LabelMap.from_array(array, np.eye(4))
    write_label(folder / "a.nii.gz", array, file)
    if refined is not None:
        (folder / "run.json").write_text(json.dumps({"cases": [{"name": "a", "label": refined}]}))
    if probability:
        write_volume(folder / "probability" / "a.nii.gz", np.where(array == refined, probability, 0), file)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The atrium was refined to x < 18 in one folder, the ventricle to x >= 16 in the other."""
    put(tmp_path / "atrium", 18, 20, ATRIUM)
    put(tmp_path / "ventricle", 14, 16, VENTRICLE)
    return tmp_path / "atrium", tmp_path / "ventricle"


def test_each_folder_gives_the_class_it_refined(folders: tuple[Path, Path], tmp_path: Path) -> None:
    assert run("fuse", *folders, "-o", tmp_path / "out", "--quiet") == 0
    fused = read_label(tmp_path / "out" / "a.nii.gz").array[:, 15, 15]
    assert set(fused[4:16]) == {ATRIUM}
    assert set(fused[18:32]) == {VENTRICLE}
    (case,) = json.loads((tmp_path / "out" / "fuse.json").read_text())["cases"]
    assert [(c["rule"], c["action"]) for c in case["changes"]] == [("overlap", "resolved")]
    assert case["flagged"] == []


def test_saved_probability_decides(folders: tuple[Path, Path], tmp_path: Path) -> None:
    put(folders[0], 18, 20, ATRIUM, probability=0.6)
    put(folders[1], 14, 16, VENTRICLE, probability=0.95)
    assert run("fuse", *folders, "-o", tmp_path / "out", "--quiet") == 0
    assert set(read_label(tmp_path / "out" / "a.nii.gz").array[16:18, 15, 15]) == {VENTRICLE}


def test_slit_between_two_refined_classes_is_filled(tmp_path: Path) -> None:
    put(tmp_path / "one", 16, 17, ATRIUM)
    put(tmp_path / "two", 17, 17, VENTRICLE)  # here x = 16 still is atrium
    assert run("fuse", tmp_path / "one", tmp_path / "two", "-o", tmp_path / "out", "--quiet") == 0
    assert read_label(tmp_path / "out" / "a.nii.gz").array[16, 15, 15] > 0


def test_fused_again_is_the_same_and_names_are_inside(folders: tuple[Path, Path], tmp_path: Path) -> None:
    assert run("fuse", *folders, "-o", tmp_path / "out", "--quiet") == 0
    assert run("fuse", tmp_path / "out", "-o", tmp_path / "again", "--quiet") == 0
    one, two = (nib.nifti1.load(tmp_path / name / "a.nii.gz") for name in ("out", "again"))
    np.testing.assert_array_equal(one.dataobj, two.dataobj)
    (comment,) = two.header.extensions
    assert json.loads(comment.get_content())["Segment1_Name"] == "left_atrium"
    assert (tmp_path / "out" / "labels.ctbl").is_file()


def test_other_table(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    table = tmp_path / "table.yaml"
    table.write_text(
        f"- {{index: {ATRIUM}, name: liver, components: 1, rank: 2}}\n"
        f"- {{index: {VENTRICLE}, name: tumour, components: 9, rank: 1}}\n"
    )
    assert run("fuse", *folders, "-o", tmp_path / "out", "--table", table, "--quiet") == 0
    assert set(read_label(tmp_path / "out" / "a.nii.gz").array[16:32, 15, 15]) == {VENTRICLE}


def test_grids_that_differ_fail_their_case_alone(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    array = np.full((10, 10, 10), ATRIUM, np.uint8)
    for folder in folders:
        write_label(
            folder / "b.nii.gz", array, LabelMap.from_array(array, np.diag([1.0 + (folder == folders[0]), 1, 1, 1]))
        )
    assert run("fuse", *folders, "-o", tmp_path / "out", "--quiet") == 1
    assert "1 of 2 cases failed: b" in capsys.readouterr().err
    assert (tmp_path / "out" / "a.nii.gz").is_file()


def test_nothing_in_common_and_used_output(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fuse", folders[0], "-o", folders[1], "--quiet") == 1
    assert "is not an empty folder" in capsys.readouterr().err
    (folders[1] / "a.nii.gz").rename(folders[1] / "c.nii.gz")
    assert run("fuse", *folders, "-o", tmp_path / "out", "--quiet") == 1
    assert "no case is in all folders" in capsys.readouterr().err


def test_thin_vessel_keeps_its_place_in_a_chamber(tmp_path: Path) -> None:
    array = np.zeros(SHAPE, np.uint8)
    array[5:35, 5:25, 5:25] = MYOCARDIUM
    vessel = array.copy()
    vessel[8:30, 14, 14] = CORONARY
    for folder, content, label in (("one", array, MYOCARDIUM), ("nine", vessel, CORONARY)):
        write_label(tmp_path / folder / "a.nii.gz", content, LabelMap.from_array(content, np.eye(4)))
        (tmp_path / folder / "run.json").write_text(json.dumps({"cases": [{"name": "a", "label": label}]}))
    assert run("fuse", tmp_path / "one", tmp_path / "nine", "-o", tmp_path / "out", "--quiet") == 0
    np.testing.assert_array_equal(read_label(tmp_path / "out" / "a.nii.gz").array, vessel)


def test_class_refined_to_nothing_and_unknown_classes(folders: tuple[Path, Path], tmp_path: Path) -> None:
    put(tmp_path / "plain", 14, 20)
    file = read_label(tmp_path / "plain" / "a.nii.gz")
    file.array[0, 0, 0] = 77
    write_label(tmp_path / "unknown" / "a.nii.gz", file.array, LabelMap.from_array(file.array, np.eye(4)))
    emptied = np.where(file.array == ATRIUM, 0, file.array)
    write_label(tmp_path / "emptied" / "a.nii.gz", emptied, LabelMap.from_array(emptied, np.eye(4)))
    (tmp_path / "emptied" / "run.json").write_text(json.dumps({"cases": [{"name": "a", "label": ATRIUM}]}))
    assert run("fuse", tmp_path / "unknown", tmp_path / "emptied", "-o", tmp_path / "out", "--quiet") == 0
    fused = read_label(tmp_path / "out" / "a.nii.gz").array
    assert not (fused == ATRIUM).any()
    assert fused[0, 0, 0] == 77


def test_cases_that_a_folder_lacks_are_named(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (folders[0] / "a.nii.gz").read_bytes()
    (folders[0] / "only first.nii.gz").write_bytes(whole)
    (folders[1] / "only second.nii.gz").write_bytes(whole)
    assert run("fuse", *folders, "-o", tmp_path / "out", "--quiet") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"only first: is not in {folders[1]}; it is left out"
    assert lines[1] == f"only second: is not in {folders[0]}; it is left out"
    assert lines[2].startswith("near-monai: 2 of 3 cases failed: only first, only second")
    rows = json.loads((tmp_path / "out" / "fuse.json").read_text())["cases"]
    assert {row["name"]: row["status"] for row in rows} == {
        "only first": "failed",
        "only second": "failed",
        "a": "done",
    }
    assert {path.name for path in (tmp_path / "out").glob("*.nii.gz")} == {"a.nii.gz"}


def test_results_that_a_run_does_not_list_are_named(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in folders:
        (folder / "old.nii.gz").write_bytes((folder / "a.nii.gz").read_bytes())
        (folder / "run.json").write_text(json.dumps({"cases": [{"name": "a"}]}))
    assert run("fuse", *folders, "-o", tmp_path / "out", "--quiet") == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"{folder}: old: results of input that its run.json does not list; they are fused, too" for folder in folders
    ]


def test_empty_maps_and_bad_files_stop_nobody(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = np.zeros(SHAPE, np.uint8)
    for folder in folders:
        write_label(folder / "empty.nii.gz", nothing, LabelMap.from_array(nothing, np.eye(4)))
    assert run("fuse", *folders, "-o", tmp_path / "out", "--quiet") == 0
    assert not read_label(tmp_path / "out" / "empty.nii.gz").array.any()
    assert read_label(tmp_path / "out" / "a.nii.gz").array.any()
    (folders[1] / "empty.nii.gz").write_bytes(b"")
    assert run("fuse", *folders, "-o", tmp_path / "again", "--quiet") == 1
    assert "1 of 2 cases failed: empty (" in capsys.readouterr().err
    assert (tmp_path / "again" / "a.nii.gz").is_file()
