"""The command line on real files: same grid and header, right labels, one clear line for what cannot be used."""

import gzip
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
from numpy.typing import NDArray

import near_monai
from near_monai.anatomy import CORONARY, by_name
from near_monai.cli import app, main
from near_monai.formats.label_maps import LabelMap, read_label, read_volume, write_label
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid
from near_monai.inferers.evidence import Evidence
from near_monai.networks.weight_files import shipped
from near_monai.repair.mask_repair import decide
from near_monai.version import __version__

AORTA = by_name("aorta").index


def run(*arguments: object) -> int:
    """Exit code of ``near-monai ARGUMENTS``."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def oblique(grid: Grid, flip: int = 1) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0] * grid.spacing
    affine[:3, 0] *= flip
    affine[:3, 3] = [11.5, -20.25, 30]
    return affine


#: Given, it says that the numbers of a map are the heart's; classes that it does not have then keep their voxels.
HEART_TABLE = Path(near_monai.__file__).with_name("anatomy.yaml")


@pytest.fixture
def folder(tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid) -> Path:
    """Two cases on odd grids: coronary alone, and coronary and aorta together."""
    source = tmp_path / "in"
    source.mkdir()
    labels = noisy_vessel.astype(np.uint8) * CORONARY
    first = nib.Nifti1Image(labels, oblique(vessel_grid))
    first.set_qform(oblique(vessel_grid), 1)
    first.set_sform(oblique(vessel_grid), 2)
    first.header.set_xyzt_units("mm", "sec")
    nib.save(first, source / "90.img.nii.gz")
    labels = labels.copy()
    labels[:, 40:, :5] = AORTA
    nib.save(nib.Nifti1Image(labels.astype(np.float32), oblique(vessel_grid, -1)), source / "b.nii")
    return source


def test_same_grid_header_and_names(folder: Path, tmp_path: Path) -> None:
    assert run("refine", folder, "-o", tmp_path / "out", "--quiet") == 0
    for name in ("90.img.nii.gz", "b.nii"):
        before, after = nib.nifti1.load(folder / name), nib.nifti1.load(tmp_path / "out" / name)
        assert after.get_data_dtype() == np.uint8
        assert after.shape == before.shape
        np.testing.assert_array_equal(after.affine, before.affine)
        for key in ("pixdim", "qform_code", "sform_code", "xyzt_units", "srow_x", "quatern_b", "qoffset_x"):
            np.testing.assert_array_equal(after.header[key], before.header[key])
    cases = json.loads((tmp_path / "out" / "run.json").read_text())["cases"]
    assert [case["name"] for case in cases] == ["90.img", "b"]
    for case in cases:
        assert case["status"] == "done"
        assert case["seconds"] > 0
        assert case["components_before"] > case["components_after"] == 1
        assert case["volume_after_mm3"] == pytest.approx(case["volume_before_mm3"], rel=0.2)


def test_refined_is_closer_to_the_clean_vessel(folder: Path, tmp_path: Path, vessel_grid: Grid) -> None:
    assert run("refine", folder / "90.img.nii.gz", "-o", tmp_path / "out", "--quiet") == 0
    i, j, k = np.meshgrid(*vessel_grid.axes_mm(), indexing="ij")
    clean = np.hypot(j - 12 - 3 * np.sin(i / 8), k - 14 - 0.1 * i) < 1.5
    clean[:6] = clean[-6:] = False
    before, after = (read_label(p / "90.img.nii.gz").array > 0 for p in (folder, tmp_path / "out"))

    def dice(mask: NDArray[np.bool_]) -> float:
        return float(2 * (mask & clean).sum() / (mask.sum() + clean.sum()))

    assert dice(after) > dice(before) + 0.02


def test_other_classes_are_untouched(folder: Path, tmp_path: Path) -> None:
    run("refine", folder / "b.nii", "-o", tmp_path / "out", "--quiet")
    before, after = read_label(folder / "b.nii").array, read_label(tmp_path / "out" / "b.nii").array
    gained = (after == CORONARY) & (before == AORTA)
    np.testing.assert_array_equal((after == AORTA) | gained, before == AORTA)
    assert set(np.unique(after)) == {0, AORTA, CORONARY}


def test_foreground_keeps_segment_labels(tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid) -> None:
    segments = noisy_vessel.astype(np.uint8) * np.where(np.arange(64) < 32, 3, 17).astype(np.uint8)[:, None, None]
    nib.save(nib.Nifti1Image(segments, oblique(vessel_grid)), tmp_path / "s.nii.gz")
    assert run("refine", tmp_path / "s.nii.gz", "-o", tmp_path / "out", "--label", "fg", "--quiet") == 0
    after = read_label(tmp_path / "out" / "s.nii.gz").array
    kept = (after > 0) & noisy_vessel
    np.testing.assert_array_equal(after[kept], segments[kept])
    added = (after > 0) & ~noisy_vessel
    assert added.any() and set(np.unique(after[added])) == {3, 17}
    assert set(np.unique(after[:28])) <= {0, 3} and set(np.unique(after[36:])) <= {0, 17}


def test_cube_lies_at_the_same_place_in_the_world(folder: Path, tmp_path: Path) -> None:
    name = "90.img.nii.gz"
    assert run("refine", folder / name, "-o", tmp_path / "native", "--quiet") == 0
    assert run("refine", folder / name, "-o", tmp_path / "cube", "--resolution", 72, "--quiet") == 0
    centres = []
    for out in ("native", "cube"):
        file = read_label(tmp_path / out / name)
        mask = file.array == CORONARY
        centres.append(np.r_[np.argwhere(mask).mean(0), 1] @ file.affine.T)
        centres.append(np.array([mask.sum() * abs(np.linalg.det(file.affine[:3, :3]))]))
    assert read_label(tmp_path / "cube" / name).array.shape == (72, 72, 72)
    np.testing.assert_allclose(centres[2], centres[0], atol=0.14)  # a fifth of a voxel; a shift would be half of one
    # the label is resampled as a signed distance, which costs thin vessels a few per cent
    assert centres[3] == pytest.approx(centres[1], rel=0.08)


def test_codes_and_probability_say_the_same_as_the_mask(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extra = ("--save-codes", "--save-probability", "--no-clean", "--quiet")
    assert run("refine", folder / "90.img.nii.gz", "-o", out, *extra) == 0
    mask = read_label(out / "90.img.nii.gz")
    probability = read_volume(out / "probability" / "90.img.nii.gz")
    label = read_label(folder / "90.img.nii.gz").array == CORONARY
    caution = json.loads((out / "run.json").read_text())["cases"][0]["caution"]
    shown = Evidence.of(Components.of(label), mask.grid.spacing).shown(
        label
    )  # specks are kept, and F is not asked about them
    np.testing.assert_array_equal(decide(shown, probability.array, caution) | (label & ~shown), mask.array > 0)
    redrawn, affine = near_monai.redraw(out / "codes" / "90.img.safetensors")
    near = probability.array > 0  # within 3 mm of the label, which a code does not know
    # refine asks F in patches of other shapes, which may change the last digit
    np.testing.assert_allclose(redrawn[near], probability.array[near], rtol=2e-6, atol=0)
    assert redrawn[~near].max() < 0.5
    np.testing.assert_allclose(affine, mask.affine)
    assert run("redraw", out / "codes", "-o", tmp_path / "drawn", "--resolution", 48) == 0
    cube = read_label(tmp_path / "drawn" / "90.img.nii.gz")
    assert cube.array.shape == (48, 48, 48)
    assert cube.array.sum() * cube.grid.voxel_volume == pytest.approx(
        (probability.array > 0.5).sum() * mask.grid.voxel_volume, rel=0.05
    )


def test_array_interface_equals_the_command(folder: Path, tmp_path: Path, vessel_grid: Grid) -> None:
    run("refine", folder / "b.nii", "-o", tmp_path / "out", "--quiet")
    with pytest.warns(near_monai.NearWarning) as told:
        array = near_monai.refine(read_label(folder / "b.nii").array, vessel_grid.spacing)
    (case,) = json.loads((tmp_path / "out" / "run.json").read_text())["cases"]
    ours = [str(warning.message) for warning in told if issubclass(warning.category, near_monai.NearWarning)]
    assert ours == case["warnings"] != []  # others may come from the libraries that load now
    np.testing.assert_array_equal(array, read_label(tmp_path / "out" / "b.nii").array)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_other_formats_keep_format_and_place(folder: Path, tmp_path: Path, suffix: str) -> None:
    file = read_label(folder / "90.img.nii.gz")
    path = tmp_path / f"c{suffix}"
    write_label(path, file.array, LabelMap.from_array(file.array, file.affine))
    run("refine", folder / "90.img.nii.gz", "-o", tmp_path / "out", "--quiet")
    assert run("refine", path, "-o", tmp_path / "out", "--quiet") == 0
    other, nifti = read_label(tmp_path / "out" / path.name), read_label(tmp_path / "out" / "90.img.nii.gz")
    np.testing.assert_allclose(other.affine, nifti.affine, atol=1e-4)
    assert (other.array != nifti.array).mean() < 1e-4  # spacing and affine pass through decimals


def odd_units(path: Path) -> bytes:
    """A file whose units code means nothing."""
    content = bytearray(path.read_bytes())
    content[123] = 5
    return bytes(content)


def test_bad_cases_get_one_line_and_stop_nobody(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = (20, 20, 20)
    bad = {
        "absent": (np.r_[np.ones(4000), np.full(4000, 2)].reshape(shape).astype(np.uint8), "no voxel has label 9"),
        "four": (np.ones((5, 5, 5, 2), np.uint8), "4-D image"),
        "large": (np.full(shape, 70000, np.int32), "expected 0..65535"),
    }
    for name, (array, _) in bad.items():
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{name}.nii.gz")
    (folder / "odd.nii").write_bytes(odd_units(folder / "b.nii"))
    whole = gzip.compress(b"\0" * 5000)
    (folder / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    messages = {name: text for name, (_, text) in bad.items()}
    messages |= {"cut": "damaged or not NIfTI", "odd": "damaged or not NIfTI"}

    assert run("refine", folder, "-o", tmp_path / "out", "--quiet") == 1
    lines = capsys.readouterr().err.strip().splitlines()
    for name, text in messages.items():
        assert len([line for line in lines if line.startswith(f"{name}: ") and text in line]) == 1
    assert lines[-1].startswith("near-monai: 5 of 7 cases failed")
    assert len([line for line in lines if ": warning: " not in line]) == 6
    status = {c["name"]: c["status"] for c in json.loads((tmp_path / "out" / "run.json").read_text())["cases"]}
    assert status == dict.fromkeys(messages, "failed") | {"90.img": "done", "b": "done"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"90.img.nii.gz", "b.nii", "run.json", ".records"}


def test_an_empty_label_map_stays_one(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nib.save(nib.Nifti1Image(np.zeros((9, 8, 7), np.uint8), np.diag([0.5, 0.5, 0.5, 1.0])), folder / "c.nii.gz")
    for words in ((), ("--all-labels",), ("--resolution", 16), ("--label", CORONARY)):
        out = tmp_path / "-".join(map(str, ("out", *words)))
        assert run("refine", folder / "c.nii.gz", "-o", out, "--report", *words) == 0
        captured = capsys.readouterr()
        assert "c: warning: the label map is empty, and so is the result" in captured.err
        assert (
            f"1 of 1 cases done, in {out} (failed: 0, bridges: 0, with warnings: 1, left as they were: 0)\n"
            in captured.out
        )
        assert f"look at {out / 'report.html'}; {out / 'run.json'} lists it" in captured.out
        empty = read_label(out / "c.nii.gz")
        assert not empty.array.any()
        assert empty.array.shape == ((16,) * 3 if "--resolution" in words else (9, 8, 7))
        (row,) = json.loads((out / "run.json").read_text())["cases"]
        assert row["status"] == "done"


def test_inputs_and_foreign_files_are_never_overwritten(folder: Path, tmp_path: Path) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert run("refine", folder, "-o", folder, "--quiet") == 1
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    foreign = tmp_path / "precious"
    foreign.mkdir()
    (foreign / "b.nii").write_bytes(b"somebody's")
    assert run("refine", folder, "-o", foreign, "--quiet") == 1
    assert (foreign / "b.nii").read_bytes() == b"somebody's"
    assert run("refine", folder, "-o", tmp_path / "ours", "--quiet") == 0
    assert run("refine", folder, "-o", tmp_path / "ours", "--quiet") == 0  # our own files may be made anew


def test_version_structures_and_options_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"near-monai {__version__}\n"
    assert run("structures") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[6].split() == ["6", "aorta", "2", "yes", "organs.safetensors"]
    assert [line.split()[:2] for line in lines[-3:]] == [
        ["coronary.safetensors", "coronary"],
        ["heart.safetensors", "myocardium,"],
        ["organs.safetensors", "myocardium,"],
    ]
    assert run("train", "--help") == 0
    text = capsys.readouterr().out
    assert all(f"--{name} <" in text for name in ("initial-weights", "lr", "label", "table", "max-epochs"))
    for command in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert run(command, "--help") == 0
        text = capsys.readouterr().out
        assert "<bool>" not in text and not re.search(r"--\w+_", text), command


def test_what_is_wrong_for_every_case_is_said_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("--structure", "aort"), ("--structure", "aort", "--weights", "organs.safetensors")):
        assert run("refine", folder, "-o", tmp_path / "out", "--label", 6, *words) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("near-monai: no structure called 'aort'; expected one of myocardium, left_atrium")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("refine",),
        ("refine", "x", "-o", "y", "--label", "coronary"),
        ("refine", "x", "-o", "y", "--resolution", "2.5"),
        ("refine", "x", "-o", "y", "--colour", "red"),
        ("unknown",),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments) == 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("refine", "nowhere", "-o", "y"), "nowhere: no such file or folder"),
        (("train", "-o", "y", "--lerning_rate", "5"), "no such key"),
        (("train", "-o", "y", "--lerning-rate", "5"), "no such key"),
        (("train", "-o", "y", "--val-intervals", "5"), "did you mean --val-interval?"),
        (("train", "-o", "y", "--max_epochs"), "expected pairs"),
        (("train", "-o", "y", "--dataset_dir", "x"), "use --dataset-dir instead"),
        (("train", "-o", "y", "--curriculum", "[[1,"), "neither JSON nor YAML"),
        (("train", "-o", "y", "--config", "nothing.json"), "no such configuration"),
        (("phantom", "y", "--noise", "loud"), "is unknown"),
    ],
)
def test_failure_is_one_line_and_exit_1(
    arguments: tuple[str, ...],
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert text in lines[-1]
    assert lines[:-1] == ["getting ready to train into y (Ctrl-C stops; the same command goes on)"] * (
        "train" in arguments
    )
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_foreign_weights_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w.pt").write_bytes(b"no weights")
    assert run("refine", folder, "-o", tmp_path / "out", "--weights", tmp_path / "w.pt", "--quiet") == 1
    assert "damaged" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("part", "value", "text"),
    [
        ("source", {"_target_": "os.system", "command": "touch ran"}, "no description may"),
        ("source", {"_target_": "near_monai.formats.atomic_writing.shutil.rmtree", "path": "."}, "no description may"),
        ("source", {"_target_": "near_monai.load_network"}, "no description may"),
        ("field", {"_target_": "near_monai.OccupancyField", "hidden": "$open('ran', 'w')"}, "expression"),
        ("field", "@network_def#source", "expression"),
    ],
)
def test_foreign_weights_cannot_run_anything(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    part: str,
    value: object,
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "foreign" / "best.pt"
    weights.parent.mkdir()
    weights.write_bytes(shipped("model.pt").read_bytes())
    content = json.loads((shipped("model.pt").parents[1] / "configs" / "inference.json").read_text())
    config = {key: content[key] for key in ("network_def", "space")}
    config["network_def"][part] = value
    (weights.parent / "config.json").write_text(json.dumps(config))
    assert run("refine", folder, "-o", "out", "--weights", weights, "--quiet") == 1
    assert text in capsys.readouterr().err
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()


def test_phantoms_are_a_data_set_and_evaluate_scores_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("phantom", tmp_path / "set", "-n", 1, "--seed", 5, "--noise", "mild", "--quiet") == 0
    label, truth = (tmp_path / "set" / name for name in ("labelsTr", "truthTr"))
    assert run("evaluate", label, truth, "-o", tmp_path / "scores", "--baseline", truth) == 0
    assert "surface_dice_1mm" in capsys.readouterr().out
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    (case,) = summary["cases"].values()
    assert 0.75 < case["prediction"]["dice"] < 0.99
    assert case["baseline"]["dice"] == 1
    assert (tmp_path / "scores" / "scores.csv").read_text().startswith("case,source,dice")


@pytest.fixture
def chambers(tmp_path: Path) -> Path:
    """A noisy atrium and ventricle side by side, a coronary beside them, and a class that no table knows."""
    rng = np.random.default_rng(0)
    i, j, k = np.meshgrid(*(np.arange(44.0),) * 3, indexing="ij")
    rough = rng.normal(0, 1.0, i.shape)
    array = np.zeros(i.shape, np.uint8)
    array[(i - 15) ** 2 + (j - 22) ** 2 + (k - 22) ** 2 < (11 + rough) ** 2] = by_name("left_atrium").index
    array[((i - 31) ** 2 + (j - 22) ** 2 + (k - 22) ** 2 < (9 + rough) ** 2) & (array == 0)] = AORTA
    array[2:42, 36:39, 21:24], array[:2, :2, :2] = CORONARY, 99
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 1.0, 1.0])), tmp_path / "heart.nii.gz")
    return tmp_path / "heart.nii.gz"


def test_all_labels_are_refined_to_one_map(chambers: Path, tmp_path: Path) -> None:
    assert run("refine", chambers, "-o", tmp_path / "out", "--all-labels", "--table", HEART_TABLE, "--quiet") == 0
    before, after = (nib.nifti1.load(path) for path in (chambers, tmp_path / "out" / chambers.name))
    np.testing.assert_array_equal(before.affine, after.affine)
    old, new = np.asarray(before.dataobj), np.asarray(after.dataobj)
    assert set(np.unique(old)) == set(np.unique(new))
    np.testing.assert_array_equal(old == 99, new == 99)
    (case,) = json.loads((tmp_path / "out" / "run.json").read_text())["cases"]
    assert [row["name"] for row in case["structures"]] == ["left_atrium", "aorta", "coronary"]
    assert case["rules_broken_after"] == len(case["flagged"]) <= case["rules_broken_before"]
    assert json.loads(after.header.extensions[0].get_content())["Segment8_Name"] == "coronary"
    assert {p.name for p in (tmp_path / "out").glob("labels.*")} == {"labels.ctbl", "labels.txt"}


def test_one_class_of_several_is_what_the_table_says(chambers: Path, tmp_path: Path) -> None:
    options = ("--label", AORTA, "--table", HEART_TABLE)
    assert run("refine", chambers, "-o", tmp_path / "out", *options, "--quiet") == 0
    (case,) = json.loads((tmp_path / "out" / "run.json").read_text())["cases"]
    assert case["structure"] == "aorta"
    assert case["warnings"] == []
    old, new = (read_label(path).array for path in (chambers, tmp_path / "out" / chambers.name))
    np.testing.assert_array_equal(old == by_name("left_atrium").index, new == by_name("left_atrium").index)


def test_class_outside_the_table_has_to_be_named(
    chambers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("refine", chambers, "-o", tmp_path / "out", "--label", 99, "--quiet") == 1
    assert "holds classes that the heart's table does not have (99)" in capsys.readouterr().err
    options = ("--label", 99, "--table", HEART_TABLE)
    assert run("refine", chambers, "-o", tmp_path / "out", *options, "--quiet") == 1
    assert "label 99 is not in the anatomy table" in capsys.readouterr().err
    assert run("refine", chambers, "-o", tmp_path / "named", "--label", 99, "--structure", "aorta", "--quiet") == 0


def test_all_labels_and_one_label_contradict(chambers: Path, tmp_path: Path) -> None:
    assert run("refine", chambers, "-o", tmp_path / "out", "--all-labels", "--label", 3, "--quiet") == 2
    assert not (tmp_path / "out").exists()


def test_hearts_as_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = (np.full((4, 4, 4), 2, np.uint8), np.full((4, 4, 4), 3, np.uint8), Grid((4, 4, 4), (1.0, 1.0, 1.0)))
    monkeypatch.setattr("near_monai.datasets.heart_cases.heart_pair", lambda *_: pair)
    assert run("phantom", tmp_path / "hearts", "-n", 1, "--hearts", "--quiet") == 0
    description = json.loads((tmp_path / "hearts" / "dataset.json").read_text())
    assert description["labels"]["coronary"] == CORONARY
    assert (read_label(tmp_path / "hearts" / "truthTr" / "heart_0_0000.nii.gz").array == 3).all()
