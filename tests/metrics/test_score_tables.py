"""Evaluation: figures against scipy, what is written, and which pairs of files are refused."""

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from near_monai.cli import main
from near_monai.data.class_selection import AUTO, FOREGROUND, Wanted
from near_monai.errors import NearError
from near_monai.formats.label_maps import LabelMap, read_label, write_label
from near_monai.metrics.mask_metrics import METRICS, score
from near_monai.metrics.score_tables import CaseMasks, evaluate, evaluate_folders, format_table, summarise

SHAPE = (12, 14, 17)
SPACING = (0.4, 0.7, 1.3)
NAMES = ("1", "2.img", "case_3")


def tube(length: int, shift: int = 0) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, bool)
    mask[3 : 6 + shift, 4:7, 2 : 2 + length] = True
    return mask


def masks(name: str, pred: int, truth: int, baseline: int | None = None) -> CaseMasks:
    return CaseMasks(name, tube(pred), tube(truth), SPACING, None if baseline is None else tube(baseline))


def scores_of(**values: tuple[float, float]) -> dict[str, dict[str, dict[str, float]]]:
    """Cases with (prediction, baseline) as the value of every metric."""
    return {
        name: {"prediction": dict.fromkeys(METRICS, pred), "baseline": dict.fromkeys(METRICS, base)}
        for name, (pred, base) in values.items()
    }


def test_scores_are_those_of_the_masks(tmp_path: Path) -> None:
    summary = evaluate([masks("a", 9, 12, 6), masks("b", 12, 12, 6)], tmp_path)
    assert summary["cases"]["a"]["prediction"] == score(tube(9), tube(12), SPACING)
    assert summary["cases"]["b"]["baseline"] == score(tube(6), tube(12), SPACING)
    dice = [summary["cases"][name]["prediction"]["dice"] for name in "ab"]
    assert summary["metrics"]["dice"]["prediction"] == {
        "mean": pytest.approx(np.mean(dice)),
        "sd": pytest.approx(np.std(dice, ddof=1)),
        "finite": 2,
        "n": 2,
    }


def test_interval_is_that_of_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    pred, base = rng.normal(0.9, 0.03, 13), rng.normal(0.8, 0.05, 13)
    cases = scores_of(**{f"c{k}": (p, b) for k, (p, b) in enumerate(zip(pred, base, strict=True))})
    found = summarise(cases)["metrics"]["dice"]["difference"]
    assert found["mean"] == pytest.approx((pred - base).mean())
    assert found["ci95"] == pytest.approx(list(stats.ttest_rel(pred, base).confidence_interval(0.95)))


def test_nan_is_left_out_and_counted() -> None:
    cases = scores_of(a=(0.8, 0.5), b=(math.nan, 0.6), c=(0.9, math.nan), d=(0.6, 0.7))
    found = summarise(cases)["metrics"]["dice"]
    assert found["prediction"]["mean"] == pytest.approx((0.8 + 0.9 + 0.6) / 3)
    assert (found["prediction"]["finite"], found["prediction"]["n"]) == (3, 4)
    assert found["difference"]["mean"] == pytest.approx((0.3 - 0.1) / 2)
    assert (found["difference"]["finite"], found["difference"]["n"]) == (2, 4)
    assert (found["difference"]["better"], found["difference"]["worse"]) == (1, 1)


@pytest.mark.parametrize(
    ("metric", "pred", "base", "better"),
    [
        ("dice", 0.9, 0.8, 1),
        ("hd95_mm", 0.9, 0.8, 0),
        ("loops_added", 0.0, 3.0, 1),
        ("volume_ratio", 0.9, 1.2, 1),
        ("volume_ratio", 1.2, 1.1, 0),
        ("dice", 0.8, 0.8, 0),
        ("betti0", 2.0, 9.0, None),
    ],
)
def test_better_is_nearer_to_the_ideal(metric: str, pred: float, base: float, better: int | None) -> None:
    found = summarise(scores_of(a=(pred, base)))["metrics"][metric]["difference"]
    assert found["better"] == better
    assert found["worse"] == (None if better is None else int(not better and pred != base))


def test_one_case_has_no_interval_and_no_spread() -> None:
    summary = summarise(scores_of(a=(0.8, 0.5)))
    assert summary["metrics"]["dice"]["difference"]["ci95"] is None
    assert math.isnan(summary["metrics"]["dice"]["prediction"]["sd"])
    assert "0.800  " in format_table(summary)
    assert "[" not in format_table(summary).splitlines()[1]


def test_files_are_strict_and_complete(tmp_path: Path) -> None:
    summary = evaluate([masks("a", 0, 12), masks("b", 9, 12)], tmp_path / "new")

    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is not JSON")

    stored = json.loads((tmp_path / "new" / "summary.json").read_text(), parse_constant=refuse)
    assert stored["cases"]["a"]["prediction"]["hd95_mm"] is None
    assert stored["cases"]["a"]["prediction"]["dice"] == 0.0
    assert stored["metrics"]["hd95_mm"]["prediction"]["finite"] == 1
    assert "difference" not in stored["metrics"]["dice"]
    with (tmp_path / "new" / "scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["case"], row["source"]) for row in rows] == [("a", "prediction"), ("b", "prediction")]
    assert rows[0]["hd95_mm"] == "nan"
    assert float(rows[1]["assd_mm"]) == summary["cases"]["b"]["prediction"]["assd_mm"]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"summary.json", "scores.csv"}


def test_table_is_aligned_and_shows_what_is_missing() -> None:
    lines = format_table(summarise(scores_of(a=(0.8, 0.5), b=(math.nan, 0.6), c=(0.9, 0.7)))).splitlines()
    assert len(lines) == 1 + len(METRICS)
    assert lines[0].split() == ["prediction", "baseline", "difference", "[95", "%", "CI]", "better"]
    assert lines[1].startswith("dice")
    assert lines[1].index("0.850 ± 0.071 (2/3)") == lines[0].index("prediction")
    assert lines[1].index("+0.250 [-0.385, +0.885] (2/3)") == lines[0].index("difference")
    assert lines[1].endswith("2/2")


def test_no_cases_and_repeated_cases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NearError, match="no cases to evaluate"):
        evaluate([], tmp_path)
    with pytest.raises(NearError, match="case a: given twice"):
        evaluate([masks("a", 3, 4), masks("a", 3, 4)], tmp_path)
    with pytest.raises(NearError, match=r"case a: prediction .* expected two masks"):
        evaluate([CaseMasks("a", tube(3)[1:], tube(3), SPACING)], tmp_path)


def write(folder: Path, name: str, mask: NDArray[np.bool_], label: int = 9, origin: float = 0.0) -> None:
    affine = np.diag([-SPACING[0], SPACING[1], SPACING[2], 1.0])
    affine[:3, 3] = 5.0, -3.0, origin
    array = np.where(mask, label, 0).astype(np.uint8)
    array[0] = 6  # another class
    write_label(folder / f"{name}.nii.gz", array, LabelMap.from_array(array, affine))


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Three cases: truth, prediction, noisy."""
    for k, name in enumerate(NAMES):
        write(tmp_path / "truth", name, tube(12))
        write(tmp_path / "pred", name, tube(11 - k))
        write(tmp_path / "noisy", name, tube(6 + k))
    return {key: tmp_path / key for key in ("truth", "pred", "noisy", "out")}


def test_folders_are_matched_and_scored(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    summary = evaluate_folders(folders["pred"], folders["truth"], folders["out"], folders["noisy"])
    assert list(summary["cases"]) == list(NAMES)
    found = summary["cases"]["2.img"]
    assert found["prediction"]["dice"] == pytest.approx(score(tube(10), tube(12), SPACING)["dice"])
    assert found["baseline"]["hd95_mm"] == pytest.approx(score(tube(7), tube(12), SPACING)["hd95_mm"])
    assert summary["metrics"]["dice"]["difference"]["better"] == 3
    captured = capsys.readouterr()
    assert "evaluate" in captured.err
    assert captured.out == ""


def test_foreground_counts_every_class(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    summary = evaluate_folders(folders["pred"], folders["truth"], folders["out"], label=FOREGROUND, quiet=True)
    first = summary["cases"]["1"]["prediction"]
    both = [mask | (np.arange(SHAPE[0]) == 0)[:, None, None] for mask in (tube(11), tube(12))]
    assert first["dice"] == pytest.approx(score(both[0], both[1], SPACING)["dice"])
    assert capsys.readouterr().err == ""


def test_single_files_pair_whatever_their_names(folders: dict[str, Path]) -> None:
    pred, truth = folders["pred"] / "1.nii.gz", folders["truth"] / "case_3.nii.gz"
    summary = evaluate_folders(pred, truth, folders["out"], quiet=True)
    assert list(summary["cases"]) == ["case_3"]


def test_missing_predictions_are_listed(folders: dict[str, Path]) -> None:
    """As after a refinement in which some cases failed: they count as NaN, and the others are scored."""
    for name in NAMES[1:]:
        (folders["pred"] / f"{name}.nii.gz").unlink()
    summary = evaluate_folders(folders["pred"], folders["truth"], folders["out"], quiet=True)
    assert summary["failed"] == dict.fromkeys(NAMES[1:], f"{folders['pred']}: no prediction")
    assert summary["metrics"]["dice"]["prediction"]["finite"] == 1 and summary["n"] == 3
    summary = evaluate_folders(folders["truth"], folders["truth"], folders["out"], folders["pred"], quiet=True)
    assert summary["failed"] == dict.fromkeys(NAMES[1:], f"{folders['pred']}: no baseline of it")
    (folders["pred"] / "1.nii.gz").rename(folders["pred"] / "other.nii.gz")
    with pytest.raises(NearError, match=r"no prediction for any of 3 cases, such as 1, 2\.img, case_3"):
        evaluate_folders(folders["pred"], folders["truth"], folders["out"], quiet=True)


def test_a_case_on_another_grid_does_not_stop_the_others(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write(folders["pred"], "1", tube(11)[:, :-1])
    summary = evaluate_folders(folders["pred"], folders["truth"], folders["out"], quiet=True)
    assert re.fullmatch(r"1: .*shape \(12, 13, 17\); expected \(12, 14, 17\).*\n", capsys.readouterr().err)
    assert list(summary["failed"]) == ["1"] and summary["n"] == 3
    assert all(math.isnan(value) for value in summary["cases"]["1"]["prediction"].values())
    assert summary["metrics"]["dice"]["prediction"]["finite"] == 2
    write(folders["pred"], "1", tube(11))
    write(folders["noisy"], "1", tube(11), origin=0.5)
    summary = evaluate_folders(folders["pred"], folders["truth"], folders["out"], folders["noisy"], quiet=True)
    assert re.search(r"1: .*noisy.* grid of .*truth.*: up to .* mm \(.* voxels\) apart", capsys.readouterr().err)
    assert summary["metrics"]["dice"]["difference"]["finite"] == 2
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *(str(folders[key]) for key in ("pred", "truth")), "-o", str(folders["out"]), "--quiet"])
    assert end.value.code == 0
    (folders["pred"] / "1.nii.gz").write_bytes(b"")
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *(str(folders[key]) for key in ("pred", "truth")), "-o", str(folders["out"]), "--quiet"])
    captured = capsys.readouterr()
    assert end.value.code == 1
    assert captured.out.splitlines()[1].startswith("dice") and "(2/3)" in captured.out
    assert captured.err.endswith("near-monai: 1 of 3 cases cannot be scored, and count as NaN: 1\n")


def test_a_label_absent_from_the_truth_fails_its_case_but_not_from_the_prediction(folders: dict[str, Path]) -> None:
    write(folders["pred"], "case_3", tube(0))
    summary = evaluate_folders(folders["pred"], folders["truth"], folders["out"], quiet=True)
    assert summary["cases"]["case_3"]["prediction"]["dice"] == 0.0
    write(folders["truth"], "2.img", tube(0))
    summary = evaluate_folders(folders["pred"], folders["truth"], folders["out"], label=9, quiet=True)
    assert "no voxel has label 9; labels present: 6" in summary["failed"]["2.img"]
    summary = evaluate_folders(folders["pred"], folders["truth"], folders["out"], quiet=True)
    assert "its truth holds class 6 alone" in summary["failed"]["2.img"], "aortas are not averaged with coronaries"
    assert list(summary["failed"]) == ["2.img"]


@pytest.mark.parametrize("pred", ["empty", "full"])
def test_an_empty_truth_is_a_case_like_any_other(
    folders: dict[str, Path], pred: str, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = np.zeros(SHAPE, np.uint8)
    for key in ("truth", *(["pred"] if pred == "empty" else [])):
        affine = read_label(folders[key] / "1.nii.gz").affine
        write_label(folders[key] / "1.nii.gz", nothing, LabelMap.from_array(nothing, affine))
    labels: list[Wanted] = [AUTO, FOREGROUND, 9]
    for label in labels:
        summary = evaluate_folders(folders["pred"], folders["truth"], folders["out"], label=label, quiet=True)
        assert summary["failed"] == {}
        assert "1: the truth is empty" in capsys.readouterr().err
        dice = summary["cases"]["1"]["prediction"]["dice"]
        assert math.isnan(dice) if pred == "empty" else dice == 0
        assert math.isnan(summary["cases"]["1"]["prediction"]["hd95_mm"])
        assert summary["metrics"]["hd95_mm"]["prediction"]["finite"] == 2 and summary["n"] == 3


def test_a_prediction_without_the_class_is_named(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Its Dice is 0, which looks like a bad prediction."""
    file = read_label(folders["pred"] / "1.nii.gz")
    write_label(folders["out"] / "1.nii.gz", np.where(file.array > 0, 3, 0).astype(np.uint8), file)
    (folders["out"] / "1.nii.gz").replace(folders["pred"] / "1.nii.gz")
    summary = evaluate_folders(folders["pred"], folders["truth"], folders["out"], label=9, quiet=True)
    assert summary["cases"]["1"]["prediction"]["dice"] == 0
    assert capsys.readouterr().err == "1: the prediction holds nothing of class 9\n"


@pytest.mark.parametrize(
    ("pred", "truth", "expected"),
    [
        ({1: 10}, {255: 12}, 10 / 11),  # two binary maps
        ({1: 10}, {9: 12, 6: 3}, 10 / 11),  # a binary prediction of one class of several
        ({9: 10, 6: 3}, {1: 12}, 10 / 11),
        ({9: 10, 1: 3}, {1: 12}, 0),  # the truth's class is there: that is meant
        ({6: 10}, {9: 12, 6: 3}, 0),  # the prediction is of another class of the truth
    ],
)
def test_classes_pair_by_what_the_maps_hold(
    tmp_path: Path, pred: dict[int, int], truth: dict[int, int], expected: float
) -> None:
    for name, classes in (("pred", pred), ("truth", truth)):
        array = np.zeros(SHAPE, np.uint8)
        for place, (value, length) in enumerate(classes.items()):
            array[tube(length) if not place else np.roll(tube(length), 5, 0)] = value
        write_label(tmp_path / f"{name}.nii.gz", array, LabelMap.from_array(array, np.diag([*SPACING, 1.0])))
    found = evaluate_folders(tmp_path / "pred.nii.gz", tmp_path / "truth.nii.gz", tmp_path / "out", quiet=True)
    assert found["cases"]["truth"]["prediction"]["dice"] == pytest.approx(expected)
