"""Refined labels in the layout of the data set that they were made from: in, out and in again."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from near_monai.cli import main
from near_monai.data.case_lists import find_cases
from near_monai.geometry.coordinates import Grid
from near_monai.review.reviewed_run import finished_cases, read_run
from near_monai.version import __version__

MSD = {
    "name": "Heart",
    "description": "left atria",
    "modality": {"0": "CT"},
    "labels": {"0": "background", "1": "coronary"},
    "numTraining": 2,
    "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in "ab"],
    "test": ["./imagesTs/c.nii.gz"],
}
NNUNET = {"channel_names": {"0": "CT"}, "labels": {"background": 0}, "numTraining": 2, "file_ending": ".nii.gz"}


def data_set(folder: Path, description: dict[str, Any], label: NDArray[np.generic], grid: Grid) -> Path:
    image = nib.Nifti1Image(label.astype(np.uint8), np.diag([*grid.spacing, 1.0]))
    for name in ("labelsTr/a", "labelsTr/b", "imagesTr/a", "imagesTr/b", "imagesTs/c"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, folder / f"{name}.nii.gz")
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


@pytest.mark.parametrize("description", [MSD, NNUNET], ids=["msd", "nnunet"])
def test_refined_data_set_takes_the_place_of_the_old_one(
    description: dict[str, Any], tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid
) -> None:
    old = data_set(tmp_path / "Dataset001_Heart", description, noisy_vessel, vessel_grid)
    new = tmp_path / "Dataset501_Heart"
    assert run("refine", old, "-o", tmp_path / "refined", "--quiet") == 0
    assert run("dataset", tmp_path / "refined", tmp_path / "refined" / ".." / old.name, "-o", new) == 0
    written = json.loads((new / "dataset.json").read_text())
    assert written.pop("description").endswith(f"Labels refined by near_monai {__version__}.")
    assert written == {key: value for key, value in description.items() if key != "description"}
    assert [case.label for case in find_cases(new)] == [new / "labelsTr" / f"{name}.nii.gz" for name in "ab"]
    assert not (new / "labelsTr").is_symlink() and (new / "imagesTr").is_symlink()
    for case in find_cases(new):
        assert case.label.read_bytes() == (tmp_path / "refined" / case.label.name).read_bytes()
        assert (new / "imagesTr" / case.label.name).read_bytes() == (old / "imagesTr" / case.label.name).read_bytes()
    moved = tmp_path / "elsewhere"
    assert run("refine", new, "-o", moved, "--quiet") == 0
    assert {path.name for path in moved.glob("*.nii.gz")} == {"a.nii.gz", "b.nii.gz"}


def test_nothing_noisy_slips_in(
    tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid, capsys: pytest.CaptureFixture[str]
) -> None:
    old = data_set(tmp_path / "old", MSD, noisy_vessel, vessel_grid)
    (tmp_path / "refined").mkdir()
    (tmp_path / "refined" / "a.nii.gz").write_bytes((old / "labelsTr" / "a.nii.gz").read_bytes())
    assert run("dataset", tmp_path / "refined", old, "-o", tmp_path / "new") == 1
    assert f"b: {tmp_path}/refined/b.nii.gz: no refined label there; the case is left out" in capsys.readouterr().err
    assert not (tmp_path / "new" / "labelsTr" / "b.nii.gz").exists()
    assert run("dataset", old / "labelsTr", old, "-o", tmp_path / "refined") == 1
    assert "not an empty folder" in capsys.readouterr().err
    assert run("dataset", old / "labelsTr", old, "-o", old / "new") == 1
    assert "which it is to replace" in capsys.readouterr().err
    assert run("dataset", old / "labelsTr", tmp_path / "refined", "-o", tmp_path / "other") == 1
    assert "holds no dataset.json" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["", "data/"])
@pytest.mark.parametrize("links", [True, False])
def test_images_beside_their_labels_come_along(
    place: str,
    links: bool,
    tmp_path: Path,
    noisy_vessel: NDArray[np.bool_],
    vessel_grid: Grid,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = nib.Nifti1Image(noisy_vessel.astype(np.uint8), np.diag([*vessel_grid.spacing, 1.0]))
    names = [f"{place}{number}.{kind}.nii.gz" for number in (1, 2) for kind in ("img", "label")]
    for name in names:
        (tmp_path / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, tmp_path / "old" / name)
    (tmp_path / "refined").mkdir()
    for name in names[1::2]:
        nib.save(image, tmp_path / "refined" / Path(name).name)
    entries = [{"image": one, "label": other} for one, other in zip(names[::2], names[1::2], strict=True)]
    (tmp_path / "old" / "dataset.json").write_text(json.dumps({"training": entries}))
    (tmp_path / "old" / "notes").mkdir()
    (tmp_path / "old" / "notes" / "a.txt").write_text("who labelled what")
    if not links:

        def refuse(*_: object) -> None:
            raise OSError("no links here")

        monkeypatch.setattr(Path, "symlink_to", refuse)
    assert run("dataset", tmp_path / "refined", tmp_path / "old", "-o", tmp_path / "new") == 0
    for name in names:
        assert (tmp_path / "new" / name).read_bytes() == (tmp_path / "old" / name).read_bytes()
        assert (tmp_path / "new" / name).is_symlink() == (links and "img" in name)
    assert (tmp_path / "new" / "notes" / "a.txt").read_text() == "who labelled what"


def test_images_that_are_listed_and_not_there_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("old/a.nii.gz", "old/b.nii.gz", "old/a_ct.nii.gz", "new/a.nii.gz", "new/b.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), tmp_path / name)
    entries = [{"image": f"{name}_ct.nii.gz", "label": f"{name}.nii.gz"} for name in "ab"]
    (tmp_path / "old" / "dataset.json").write_text(json.dumps({"training": entries}))
    assert run("dataset", tmp_path / "new", tmp_path / "old", "-o", tmp_path / "out") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"b: warning: its image {tmp_path / 'old' / 'b_ct.nii.gz'} is not there"


@pytest.mark.parametrize("description", [MSD, NNUNET], ids=["msd", "nnunet"])
@pytest.mark.parametrize("bad", ["missing", "damaged", "moved"])
def test_a_bad_case_is_left_out_with_its_image(
    description: dict[str, Any],
    bad: str,
    tmp_path: Path,
    noisy_vessel: NDArray[np.bool_],
    vessel_grid: Grid,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = data_set(tmp_path / "old", description, noisy_vessel, vessel_grid)
    if description is NNUNET:
        for path in (old / "imagesTr").iterdir():
            path.rename(path.with_name(path.name.replace(".nii", "_0000.nii")))
    (tmp_path / "refined").mkdir()
    empty = nib.Nifti1Image(np.zeros(noisy_vessel.shape, np.uint8), np.diag([*vessel_grid.spacing, 1.0]))
    nib.save(empty, tmp_path / "refined" / "a.nii.gz")
    if bad == "damaged":
        (tmp_path / "refined" / "b.nii.gz").write_bytes(b"")
    if bad == "moved":
        affine = np.diag([*vessel_grid.spacing, 1.0])
        affine[0, 3] = 1
        nib.save(nib.Nifti1Image(empty.dataobj, affine), tmp_path / "refined" / "b.nii.gz")
    assert run("dataset", tmp_path / "refined", old, "-o", tmp_path / "new") == 1
    error = capsys.readouterr().err
    assert "a.nii.gz: warning: is empty" in error
    assert "near-monai: 1 of 2 cases failed: b (" in error
    assert [case.name for case in find_cases(tmp_path / "new")] == ["a"]
    assert json.loads((tmp_path / "new" / "dataset.json").read_text())["numTraining"] == 1
    assert [path.name[0] for path in (tmp_path / "new" / "imagesTr").iterdir()] == ["a"]
    assert (tmp_path / "new" / "imagesTs").is_symlink()


@pytest.mark.parametrize(
    ("labels", "allowed"),
    [
        ({"0": "background", "1": "coronary"}, {1, 7}),
        ({"background": 0, "whole": [1, 2], "coronary": 2}, {1, 2, 7}),
        (None, {7}),
    ],
    ids=["msd", "regions", "none"],
)
def test_classes_that_the_data_set_does_not_have_stay_out(
    labels: dict[str, Any] | None, allowed: set[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the old label are there, whatever the description says."""
    grid, mask = Grid((8, 7, 6), (0.5, 0.5, 0.5)), np.zeros((8, 7, 6), bool)
    mask[2:6, 2:5, 2:4] = True
    old = data_set(tmp_path / "old", MSD | {"labels": labels}, mask.astype(np.uint8) * 7, grid)
    for value in (1, 2, 7, 999):
        refined, new = tmp_path / f"refined{value}", tmp_path / f"new{value}"
        refined.mkdir()
        for name in "ab":
            array = mask.astype(np.uint16) * (value if name == "a" else 7)
            nib.save(nib.Nifti1Image(array, np.diag([0.5, 0.5, 0.5, 1])), refined / f"{name}.nii.gz")
        assert run("dataset", refined, old, "-o", new) == (value not in allowed)
        assert (new / "labelsTr" / "a.nii.gz").exists() == (value in allowed)
        said = f"holds classes ({value}) that neither {old}/labelsTr/a.nii.gz nor the dataset.json has"
        assert (said in capsys.readouterr().err) == (value not in allowed)


def refined_with_doubts(tmp_path: Path, description: dict[str, Any], label: NDArray[np.bool_], grid: Grid) -> Path:
    """A data set, refined with its probability; a proposed joint is added to the record."""
    old = data_set(tmp_path / "Dataset001_Heart", description, label, grid)
    assert run("refine", old, "-o", tmp_path / "refined", "--quiet", "--save-probability") == 0
    record = tmp_path / "refined" / "run.json"
    content = json.loads(record.read_text())
    for case in content["cases"]:
        case["findings"].append({"kind": "proposed", "place": [2.0, 13.0, 14.0], "volume_mm3": 0.0, "probability": 0.3})
    record.write_text(json.dumps(content))
    return old


def test_what_is_undecided_gets_the_ignore_label(
    tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid, capsys: pytest.CaptureFixture[str]
) -> None:
    named = NNUNET | {"labels": {"background": 0, "coronary": 1}}
    old, new = refined_with_doubts(tmp_path, named, noisy_vessel, vessel_grid), tmp_path / "new"
    assert run("dataset", tmp_path / "refined", old, "-o", new, "--ignore-uncertain", ".8") == 0
    assert json.loads((new / "dataset.json").read_text())["labels"] == {"background": 0, "coronary": 1, "ignore": 2}
    read = [
        np.asarray(nib.nifti1.load(folder / "a.nii.gz").dataobj) for folder in (tmp_path / "refined", new / "labelsTr")
    ]
    p = np.asarray(nib.nifti1.load(tmp_path / "refined" / "probability" / "a.nii.gz").dataobj)
    unsure = (p > 0.2) & (p < 0.8)
    assert unsure.any() and (read[1][unsure] == 2).all()
    assert read[1][4, 24, 20] == 2  # where a joint was proposed
    kept = read[1] != 2
    np.testing.assert_array_equal(read[0][kept], read[1][kept])
    assert (~kept).mean() < 0.1
    assert run("dataset", tmp_path / "refined", old, "-o", tmp_path / "x", "--ignore-uncertain", "1.5") == 1
    assert "expected a probability between 0.5 and 1" in capsys.readouterr().err


def test_an_empty_label_has_nothing_undecided(
    tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid, capsys: pytest.CaptureFixture[str]
) -> None:
    old = data_set(tmp_path / "old", NNUNET | {"labels": {"background": 0, "coronary": 1}}, noisy_vessel, vessel_grid)
    empty = nib.nifti1.Nifti1Image(np.zeros(noisy_vessel.shape, np.uint8), np.diag([*vessel_grid.spacing, 1.0]))
    nib.nifti1.save(empty, old / "labelsTr" / "a.nii.gz")
    assert run("refine", old, "-o", tmp_path / "refined", "--quiet", "--save-probability") == 0
    assert run("dataset", tmp_path / "refined", old, "-o", tmp_path / "new", "--ignore-uncertain", ".8") == 0
    assert "a.nii.gz: warning: is empty" in capsys.readouterr().err
    written = nib.nifti1.load(tmp_path / "new" / "labelsTr" / "a.nii.gz")
    assert written.shape == noisy_vessel.shape and not np.asarray(written.dataobj).any()


def test_the_ignore_label_of_a_decathlon_set_is_named_by_its_number(
    tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = refined_with_doubts(tmp_path, MSD, noisy_vessel, vessel_grid), tmp_path / "new"
    assert run("dataset", tmp_path / "refined", old, "-o", new, "--ignore-uncertain", ".65") == 0
    names = json.loads((new / "dataset.json").read_text())["labels"]
    assert names == {"0": "background", "1": "coronary", "2": "ignore"}
    for path in (tmp_path / "refined" / "probability").iterdir():
        path.unlink()
    assert run("dataset", tmp_path / "refined", old, "-o", tmp_path / "other", "--ignore-uncertain", ".65") == 1
    assert "refine with --save-probability" in capsys.readouterr().err
    unnamed = data_set(tmp_path / "unnamed", NNUNET, noisy_vessel, vessel_grid)
    assert run("dataset", tmp_path / "refined", unnamed, "-o", tmp_path / "y", "--ignore-uncertain", ".65") == 1
    assert "names no classes under 'labels'" in capsys.readouterr().err


def test_rejected_places_are_ignored_too(tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid) -> None:
    named = NNUNET | {"labels": {"background": 0, "coronary": 1}}
    torn = noisy_vessel.copy()
    torn[20:24] = False
    old = data_set(tmp_path / "old", named, torn, vessel_grid)
    refined = tmp_path / "refined"
    assert run("refine", old, "-o", refined, "--quiet", "--save-probability") == 0
    case = next(finished_cases(refined, read_run(refined)))
    bridge = next(edit for edit in case.edits if edit.kind == "bridged")
    assert run("apply", refined, "--reject", f"{case.row['name']}/{bridge.name}") == 0
    assert run("dataset", refined / "reviewed", old, "-o", tmp_path / "new", "--ignore-uncertain", ".7") == 0
    written = np.asarray(nib.nifti1.load(tmp_path / "new" / "labelsTr" / f"{case.row['name']}.nii.gz").dataobj)
    assert (written[tuple(bridge.voxels.T)] == 2).all()


def test_nnunet_finds_nothing_wrong(tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid) -> None:
    integrity = pytest.importorskip("nnunetv2.experiment_planning.verify_dataset_integrity")
    named = NNUNET | {"labels": {"background": 0, "coronary": 1}}
    old, new = refined_with_doubts(tmp_path, named, noisy_vessel, vessel_grid), tmp_path / "Dataset501_Heart"
    for folder in ("imagesTr", "imagesTs"):  # nnU-Net numbers the channels
        for path in list((old / folder).iterdir()):
            path.rename(path.with_name(path.name.replace(".nii.gz", "_0000.nii.gz")))
    assert run("dataset", tmp_path / "refined", old, "-o", new, "--ignore-uncertain", ".8") == 0
    integrity.verify_dataset_integrity(str(new), num_processes=1)
