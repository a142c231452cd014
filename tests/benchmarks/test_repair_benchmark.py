"""The benchmark of repair quality on tiny tubes: rows whose figures are known, honest choices, and what is refused."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from benchmarks.calibration import expected_calibration_error, near_walls, reliability
from benchmarks.diameter import EDGES_MM, NAMES, diameter_bins, dice_by_diameter
from benchmarks.measure import network_of
from benchmarks.methods import GAUSSIANS, LEAVE_ONE_OUT, METHODS, NOISY, ORACLE, USUAL, best_setting, leave_one_out
from benchmarks.repair import main
from benchmarks.sets import corrupted_sets, phantom_sets
from benchmarks.unet import Denoiser, LogitGrid
from near_monai.anatomy import by_name
from near_monai.formats.label_maps import LabelMap, write_label
from near_monai.geometry.components import count_components
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.networks.model_description import Description
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import write_weights
from near_monai.shipped_files import bundle_dir

GRID = Grid((40, 36, 30), (0.5, 0.6, 0.7))
CASES = ("a", "b.img", "c")


def tube(radius: float, along: float = 9.0) -> NDArray[np.bool_]:
    """A straight vessel of ``radius`` mm, beside the middle of :data:`GRID`."""
    i, j, k = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    return np.asarray((np.hypot(j - along, k - 10) < radius) & (np.abs(i - 10) < 8))


def write(folder: Path, name: str, mask: NDArray[np.bool_], spacing: tuple[float, ...] = GRID.spacing) -> None:
    file = LabelMap.from_array(mask * np.uint8(9), np.diag([*spacing, 1.0]))
    write_label(folder / f"{name}.nii.gz", file.array, file)


def rows_of(out: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    """scores.csv by set, method and case."""
    with (out / "scores.csv").open(newline="") as stream:
        return {(row["set"], row["method"], row["case"]): row for row in csv.DictReader(stream)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy and true tubes of three cases."""
    folder = tmp_path_factory.mktemp("data")
    for number, name in enumerate(CASES):
        truth = tube(1.2 + 0.5 * number)
        noisy = truth ^ ((np.random.default_rng(number).random(GRID.shape) < 0.3) & tube(2.5))
        noisy[18:22] = False
        write(folder / "truth", name, truth)
        write(folder / "noisy", name, noisy)
    return folder


@pytest.fixture(scope="module")
def paired(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with rows for the truth itself, from a folder, and for the shipped weights under another name."""
    out = tmp_path_factory.mktemp("paired") / "out"
    shipped = f"again={bundle_dir() / 'models' / 'model.pt'}"
    folders = ["--noisy", str(data / "noisy"), "--truth", str(data / "truth"), "--folder", f"perfect={data / 'truth'}"]
    main(["-o", str(out), *folders, "--weights", shipped])
    return out


@pytest.fixture(scope="module")
def summary(paired: Path) -> Any:
    return json.loads((paired / "summary.json").read_text())["sets"]["noisy"]


def test_every_row_and_file_is_there(paired: Path, summary: Any) -> None:
    methods = [*METHODS, LEAVE_ONE_OUT, ORACLE, "perfect", "near_monai", "again"]
    assert list(summary["rows"]) == methods
    assert set(rows_of(paired)) == {("noisy", method, case) for method in methods for case in CASES}
    table = (paired / "table.md").read_text()
    assert all(f"| {method} |" in table for method in methods)
    assert {p.name for p in paired.glob("*.png")} == {"diameter.png", "reliability.png", "render_noisy.png"}


def test_a_perfect_row_is_perfect_and_the_same_weights_score_the_same(summary: Any) -> None:
    perfect = summary["rows"]["perfect"]
    assert perfect["metrics"]["dice"]["mean"] == 1.0
    assert perfect["metrics"]["hd95_mm"]["mean"] == 0.0
    assert perfect["against_noisy"]["dice"]["better"] == len(CASES)
    assert summary["rows"]["again"] == summary["rows"]["near_monai"]
    assert summary["calibration"]["again"] == summary["calibration"]["near_monai"]


def test_rows_are_paired_with_the_input_and_the_filter(paired: Path, summary: Any) -> None:
    rows = rows_of(paired)
    dice = {m: [float(rows["noisy", m, c]["dice"]) for c in CASES] for m in ("near_monai", NOISY, LEAVE_ONE_OUT)}
    for against, base in (("against_noisy", NOISY), ("against_gaussian", LEAVE_ONE_OUT)):
        found = summary["rows"]["near_monai"][against]["dice"]
        expected = stats.ttest_rel(dice["near_monai"], dice[base]).confidence_interval(0.95)
        assert found["ci95"] == pytest.approx(list(expected))
    change = np.subtract(dice["near_monai"], dice[NOISY])
    assert summary["rows"]["near_monai"]["worst_case"] == {
        "name": CASES[int(change.argmin())],
        "dice_change": pytest.approx(change.min()),
    }


def test_the_oracle_is_never_worse_than_leave_one_out(paired: Path, summary: Any) -> None:
    rows = rows_of(paired)
    for case in CASES:
        other, oracle = (float(rows["noisy", method, case]["dice"]) for method in (LEAVE_ONE_OUT, ORACLE))
        assert oracle >= other - 1e-12
    means = summary["gaussian"]["mean_dice"]
    assert means[summary["gaussian"]["oracle"]] == max(means.values())
    assert summary["rows"][ORACLE]["metrics"]["dice"]["mean"] == pytest.approx(max(means.values()))


def test_a_case_has_no_say_in_its_own_setting() -> None:
    dice = {"a": {"x": 1.0, "y": 0.0}, "b": {"x": 0.5, "y": 0.6}, "c": {"x": 0.5, "y": 0.6}}
    assert leave_one_out(dice) == {"a": "y", "b": "x", "c": "x"}
    assert best_setting(dice.values()) == "x"
    assert leave_one_out({"a": dice["a"]}) == {"a": USUAL}
    assert USUAL in GAUSSIANS


def test_without_noise_the_input_is_perfect(data: Path, tmp_path: Path) -> None:
    main(
        [
            "-o",
            str(tmp_path / "out"),
            "--truth",
            str(data / "truth" / "c.nii.gz"),
            "--levels",
            "none",
            "1",
            "--errors",
            "all",
        ]
    )
    sets = json.loads((tmp_path / "out" / "summary.json").read_text())["sets"]
    assert list(sets) == ["none", "1"]
    assert sets["none"]["rows"][NOISY]["metrics"]["dice"]["mean"] == 1.0
    assert sets["1"]["rows"][NOISY]["metrics"]["dice"]["mean"] < 1.0
    assert (tmp_path / "out" / "quality.png").is_file()


@pytest.mark.parametrize("method", [*METHODS.values(), *GAUSSIANS.values()], ids=[*METHODS, *GAUSSIANS])
def test_filters_keep_a_smooth_tube(method: Any) -> None:
    truth = tube(3.0)
    found = method(truth, GRID)
    assert found.dtype == bool
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.85


def test_filters_do_what_they_are_called() -> None:
    torn = tube(2.0)
    torn[12:14] = torn[27:29] = False
    torn[1:3, 1:3, 1:3] = True
    assert count_components(torn) == 4
    assert count_components(METHODS["keep 2"](torn, GRID)) == 2
    assert count_components(METHODS["closing 1"](torn, GRID)) == 2
    for smooth in ("level set", "curvature flow"):
        assert count_components(METHODS[smooth](torn, GRID)) == 3  # the speck goes


def test_calibrated_probabilities_have_no_error_and_sure_ones_do() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random(200_000)
    truth = rng.random(200_000) < probability
    assert expected_calibration_error(reliability(probability, truth)) < 0.01
    sure = np.where(probability > 0.5, 1.0, 0.0)  # right in three of four cases
    assert expected_calibration_error(reliability(sure, truth)) == pytest.approx(0.25, abs=0.01)
    assert math.isnan(expected_calibration_error(reliability(probability[:0], truth[:0])))


def test_only_voxels_near_a_wall_count() -> None:
    near = near_walls(tube(1.5), tube(1.5, along=10.0), GRID.spacing)
    assert near[20, 15, 14]
    assert not near[20, 0, 0] and not near[20, -1, -1]


def test_dice_is_told_by_the_diameter_of_the_truth() -> None:
    thin, wide = tube(1.0, along=4.0), tube(2.3, along=14.0)
    truth, found = thin | wide, np.where(thin, False, wide)
    dice = dice_by_diameter(found, truth, diameter_bins(truth, truth, GRID.spacing))
    assert dice[NAMES[3]] == 1.0
    assert dice[NAMES[1]] == 0.0
    assert math.isnan(dice[NAMES[2]])


@pytest.mark.parametrize("radius", [0.6, 1.0, 1.5, 2.25])
def test_diameters_are_those_of_the_tubes(radius: float) -> None:
    truth = tube(radius)
    bins = diameter_bins(truth, truth, GRID.spacing)[truth]
    assert np.mean(bins == np.digitize(2 * radius, EDGES_MM)) > 0.9


def test_noise_is_that_of_the_set_and_the_same_every_time(data: Path) -> None:
    level = {kind: corrupted_sets(str(data / "truth"), 9, 5, ["1"], [kind])[0] for kind in ("all", "random")}
    first, again, other = level["all"].cases[0].load(), level["all"].cases[0].load(), level["random"].cases[0].load()
    assert np.array_equal(first.noisy, again.noisy)
    assert np.array_equal(first.truth, again.truth) and not np.array_equal(first.truth, first.noisy)
    assert first.noisy.shape != other.noisy.shape or not np.array_equal(first.noisy, other.noisy)


def test_labels_without_noise_are_measured_once() -> None:
    sets = phantom_sets(2, 5, ["none", "mild", "mild"], ["random", "all"])
    assert [s.name for s in sets] == ["none", "mild, random", "mild"]
    assert [case.name for case in sets[1].cases] == ["phantom_5_0000", "phantom_5_0001"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--noisy", "{data}/noisy"], "--noisy needs --truth"),
        (["--truth", "{data}/nowhere"], "no such file or folder"),
        (["--truth", "{data}/truth", "--label", "4"], "no voxel has label 4"),
        (["--levels", "awful"], "noise level 'awful' is unknown"),
        (["--errors", "some"], "errors 'some' are unknown"),
        (["--phantoms", "0"], "expected at least 1"),
        (["--weights", "best.pt"], "expected NAME=PATH"),
        (["--weights", "near_monai=best.pt"], "there is a row 'near_monai' already"),
        (["--weights", "mine={data}/best.pt"], "no such weights file"),
        (["--folder", "mine={data}/truth"], "--folder needs --noisy"),
        (["--noisy", "{data}/odd", "--truth", "{data}/truth/a.nii.gz"], "is not on the grid of"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str], message: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(data / "odd", "a", tube(1.0), (0.5, 0.6, 0.8))
    with pytest.raises(SystemExit) as stop:
        main(["-o", str(tmp_path / "out"), *(text.format(data=data) for text in options)])
    assert stop.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1]
    assert lines[-1].startswith("repair: ")


def test_weights_of_the_u_net_are_read_where_it_is_imported(tmp_path: Path) -> None:
    """Descriptions name classes of a table; the benchmark puts its own there."""
    network = NearNetwork(Denoiser((4, 8), 8), LogitGrid())  # type: ignore[arg-type]
    definition = {
        "_target_": "near_monai.NearNetwork",
        "source": {"_target_": "benchmarks.unet.Denoiser", "channels": [4, 8], "window": 8},
        "field": {"_target_": "benchmarks.unet.LogitGrid"},
    }
    description = Description((by_name("coronary"),), WorkingSpace(), definition, "0", {}, "")
    write_weights(tmp_path / "best.safetensors", network.state_dict(), description)
    found, _ = network_of(str(tmp_path / "best.safetensors"))
    assert isinstance(found.field, LogitGrid)
