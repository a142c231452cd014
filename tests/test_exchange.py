"""Refined labels in the layout of the data set that they were made from: in, out and in again."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from near_monai.cases import find_cases
from near_monai.cli import main
from near_monai.coords import Grid
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


def data_set(folder: Path, description: dict[str, Any], label: NDArray[np.bool_], grid: Grid) -> Path:
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
    assert "no refined label for 1 of 2 cases: b.nii.gz" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert run("dataset", old / "labelsTr", old, "-o", tmp_path / "refined") == 1
    assert "not an empty folder" in capsys.readouterr().err
    assert run("dataset", old / "labelsTr", old, "-o", old / "new") == 1
    assert "which it is to replace" in capsys.readouterr().err
    assert run("dataset", old / "labelsTr", tmp_path / "refined", "-o", tmp_path / "new") == 1
    assert "holds no dataset.json" in capsys.readouterr().err
