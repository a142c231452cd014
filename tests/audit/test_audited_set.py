"""The audit of a folder: nothing is changed, the worst comes first, and what is finished is not computed again."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from near_monai.audit import audited_set
from near_monai.audit.audited_set import BLIND, audit_files
from near_monai.audit.expected_score import SCORES
from near_monai.cli import main
from near_monai.data.fingerprints import fingerprint
from near_monai.errors import NearError
from near_monai.formats.label_maps import LabelMap
from near_monai.geometry.coordinates import Grid
from near_monai.refinement.options import Options


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def lines_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "audit.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def labels(tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid) -> Path:
    """A smooth vessel, a rough one with a speck, and an empty map."""
    i, j, k = np.meshgrid(*vessel_grid.axes_mm(), indexing="ij")
    smooth = np.hypot(j - 12 - 3 * np.sin(i / 8), k - 14 - 0.1 * i) < 1.5
    source, affine = tmp_path / "labels", np.diag([*vessel_grid.spacing, 1.0])
    source.mkdir()
    for name, mask in {"a": smooth, "b": noisy_vessel, "c": np.zeros_like(smooth)}.items():
        nib.save(nib.Nifti1Image(mask.astype(np.uint8) * 9, affine), source / f"{name}.nii.gz")
    return source


def test_worst_first_and_nothing_changed(labels: Path, tmp_path: Path) -> None:
    before = {path: fingerprint(path) for path in labels.iterdir()}
    assert run("audit", labels, "-o", tmp_path / "out", "--quiet") == 0
    assert {path: fingerprint(path) for path in labels.iterdir()} == before
    visible = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}
    assert visible == {"audit.csv", "audit.json", "audit.html", "audit"}
    cases = tmp_path / "out" / "audit" / "cases"
    assert {path.name for path in cases.iterdir()} == {"a.js", "b.js", "c.js"}
    assert "data:image/png" in (cases / "b.js").read_text() and "rough wall" in (cases / "b.js").read_text()
    lines = lines_of(tmp_path / "out")
    assert [line["case"] for line in lines] == ["c", "b", "a"]
    assert lines[0]["reasons"] == "the label map is empty"
    rough, smooth = (float(line["dice_expected"]) for line in lines[1:])
    assert rough < smooth <= 1
    assert "rough wall" in lines[1]["reasons"]
    assert "speck or island" in lines[1]["reasons"] or "an island" in lines[1]["reasons"]
    for line in lines[1:]:
        for score in SCORES:
            low, at, high = (float(line[f"{score}_{end}"]) for end in ("low", "expected", "high"))
            assert low <= at <= high
    assert list(lines[0])[-1] == "reasons"
    content = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert content["worst_first"] == ["c", "b", "a"]
    assert content["note"] == BLIND
    assert BLIND in (tmp_path / "out" / "audit.html").read_text()


def test_finished_cases_are_not_computed_again(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = audit_files(labels, tmp_path / "out", Options(), quiet=True, workers=1)
    computed = []
    audit_case = audited_set.audit_case

    def counted(file: LabelMap, *arguments: object) -> object:
        computed.append(str(file.path and file.path.name))
        return audit_case(file, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(audited_set, "audit_case", counted)
    second = audit_files(labels, tmp_path / "out", Options(), quiet=True, workers=1)
    assert computed == []
    assert second["cases"] == first["cases"]
    (labels / "a.nii.gz").write_bytes((labels / "b.nii.gz").read_bytes())
    third = audit_files(labels, tmp_path / "out", Options(), quiet=True, workers=1)
    assert computed == ["a.nii.gz"]
    assert third["fit"]["a"][0]["text"] == "same content as b"


def test_shards_make_one_audit(labels: Path, tmp_path: Path) -> None:
    for rank in (0, 1):
        part = audit_files(labels, tmp_path / "parts", Options(), quiet=True, shard=(rank, 2), workers=1)
    whole = audit_files(labels, tmp_path / "whole", Options(), quiet=True, workers=1)
    assert part["worst_first"] == whole["worst_first"]
    assert (tmp_path / "parts" / "audit.csv").read_text() == (tmp_path / "whole" / "audit.csv").read_text()


def test_a_bad_case_stops_nobody_and_comes_first(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (labels / "d.nii.gz").write_bytes(b"no image")
    assert run("audit", labels, "-o", tmp_path / "out", "--quiet") == 1
    assert "1 of 4 cases failed: d; see" in capsys.readouterr().err
    first, *_ = lines_of(tmp_path / "out")
    assert first["case"] in ("c", "d")
    assert {line["case"] for line in lines_of(tmp_path / "out")} == {"a", "b", "c", "d"}


def test_scores_against_a_truth_are_given_beside_the_expected_ones(labels: Path, tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    for name in ("a", "b"):
        (tmp_path / "truth" / f"{name}.nii.gz").write_bytes((labels / "a.nii.gz").read_bytes())
    (labels / "c.nii.gz").unlink()
    assert run("audit", labels, "-o", tmp_path / "out", "--quiet", "--truth", tmp_path / "truth") == 0
    true = {line["case"]: float(line["dice_true"]) for line in lines_of(tmp_path / "out")}
    assert true["a"] == 1
    assert 0.5 < true["b"] < 1


@pytest.mark.parametrize("value", [1, 9, 255])
@pytest.mark.parametrize("classes", [(1,), (9,), (1, 2, 9)])
def test_the_truth_may_have_other_numbers(labels: Path, tmp_path: Path, value: int, classes: tuple[int, ...]) -> None:
    for path in labels.iterdir():
        image = nib.nifti1.load(path)
        mask = np.asarray(image.dataobj) > 0
        true = mask * np.uint8(classes[-1])
        for number, other in enumerate(classes[:-1]):
            true[:, number, :4] = other
        (tmp_path / "truth").mkdir(exist_ok=True)
        nib.nifti1.save(nib.nifti1.Nifti1Image(true, image.affine), tmp_path / "truth" / path.name)
        nib.nifti1.save(nib.nifti1.Nifti1Image(mask * np.uint8(value), image.affine), path)
    for name in "bc":
        (labels / f"{name}.nii.gz").unlink()
    assert run("audit", labels, "-o", tmp_path / "out", "--truth", tmp_path / "truth", "--quiet") == 0
    assert [line["dice_true"] for line in lines_of(tmp_path / "out")] == ["1.0"]


def test_a_folder_of_refined_labels_is_left_alone(labels: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(NearError, match=r"holds results of near-monai refine; give another folder"):
        audit_files(labels, tmp_path, Options(), quiet=True)


def test_every_class_by_itself(tmp_path: Path) -> None:
    i, j, k = np.meshgrid(*(np.arange(44.0),) * 3, indexing="ij")
    array = np.zeros(i.shape, np.uint8)
    array[(i - 13) ** 2 + (j - 22) ** 2 + (k - 22) ** 2 < 100] = 2
    array[(i - 31) ** 2 + (j - 22) ** 2 + (k - 22) ** 2 < 64] = 6
    array[30:33, 21:24, 21:24] = 2  # a piece of the atrium in the aorta
    array[2:42, 36:39, 21:24] = 9
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "heart.nii.gz")
    assert run("audit", tmp_path / "heart.nii.gz", "-o", tmp_path / "out", "--all-labels", "--quiet") == 0
    lines = {line["structure"]: line for line in lines_of(tmp_path / "out")}
    assert set(lines) == {"left_atrium", "aorta", "coronary"}
    assert lines["coronary"]["calibrated"] == "yes"
    assert lines["left_atrium"]["reasons"].startswith("1 of its pieces inside aorta")
    assert all(0 <= float(line["dice_expected"]) <= 1 for line in lines.values())


def test_all_labels_and_one_label_contradict(labels: Path, tmp_path: Path) -> None:
    assert run("audit", labels, "-o", tmp_path / "out", "--all-labels", "--label", "9") == 2
