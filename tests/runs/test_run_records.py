"""Records that cannot lie: a row belongs to bytes, whatever clocks, names, kills and other runs do."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from near_monai.data.case_lists import Case
from near_monai.data.fingerprints import fingerprint
from near_monai.errors import NearError
from near_monai.networks.weight_files import read_weights, write_weights
from near_monai.refinement import many_files
from near_monai.refinement.many_files import refine_files, summary_of
from near_monai.refinement.options import Options
from near_monai.runs import run_records
from near_monai.runs.case_results import REPLACED_FOLDER
from near_monai.runs.run_records import RECORD_FOLDER, RUN_FILE, Records

A, B = Options(), Options(clean=False)


class Killed(BaseException):
    """Nothing that a run catches."""


class Fake:
    """Refinement that costs nothing: writes which options it was given, and what is named in ``beside``."""

    def __init__(self) -> None:
        self.computed: list[str] = []
        self.fails: set[str] = set()
        self.beside: tuple[str, ...] = ()
        self.after: Callable[[], None] = lambda: None

    def __call__(self, case: Case, output: Path, options: Options, *_: Any) -> dict[str, Any]:
        self.computed.append(case.name)
        for folder in self.beside:
            path = output / folder / (f"{case.name}.safetensors" if folder == "codes" else case.label.name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"clean={options.clean}")
        if case.name in self.fails:
            raise NearError("cannot be done")
        (output / case.label.name).write_text(f"{case.label.read_text()} clean={options.clean}")
        self.after()
        return {"warnings": [], "bridges": []}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(many_files, "refine_one_class", fake)
    return fake


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abcd":
        (folder / f"{name}.nii.gz").write_text(f"label {name}")
    return folder


def run(source: Path, output: Path, options: Options = A, **rest: Any) -> dict[str, Any]:
    return refine_files(source, output, options, quiet=True, workers=1, **rest)


def test_a_run_that_was_killed_after_its_map_leaves_nothing_finished(source: Path, tmp_path: Path, fake: Fake) -> None:
    """Options A; options B, killed between the map and its record; options A again."""
    output = tmp_path / "out"
    run(source, output)

    def kill() -> None:
        raise Killed

    fake.after = kill
    with pytest.raises(Killed):
        run(source, output, B)
    assert (output / "a.nii.gz").read_text() == "label a clean=False"
    fake.after, fake.computed = lambda: None, []
    rows = run(source, output)["cases"]
    assert fake.computed == ["a"], "and no other"
    assert [row["status"] for row in rows] == ["done"] * 4
    assert {(output / f"{name}.nii.gz").read_text() for name in "abcd"} == {f"label {n} clean=True" for n in "abcd"}
    assert not (output / REPLACED_FOLDER).exists(), "what a killed run wrote is nobody's work"


def test_while_a_case_runs_its_row_says_so(source: Path, tmp_path: Path, fake: Fake) -> None:
    output, seen = tmp_path / "out", []
    fake.after = lambda: seen.append(Records(output, "x", None).rows()[fake.computed[-1]]["status"])
    run(source, output)
    assert seen == ["running"] * 4


@pytest.mark.parametrize("beside", [(), ("codes", "bridges", "probability")])
def test_a_failed_case_leaves_nothing_of_an_older_run(
    source: Path, tmp_path: Path, fake: Fake, beside: tuple[str, ...]
) -> None:
    output = tmp_path / "out"
    fake.beside = beside
    run(source, output)
    (output / "report.html").write_text("of A")
    (output / "reviewed").mkdir()
    (output / "reviewed" / "b.nii.gz").write_text("a person's")
    fake.fails = {"b"}
    rows = run(source, output, B)["cases"]
    assert [row["status"] for row in rows] == ["done", "failed", "done", "done"]
    assert [path.relative_to(output).as_posix() for path in output.rglob("b.*")] == ["reviewed/b.nii.gz"]
    assert len(list(output.rglob("a.*"))) == 1 + len(beside)
    assert not (output / "report.html").exists()


def test_what_somebody_changed_is_kept_and_does_not_count(
    source: Path, tmp_path: Path, fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "out"
    run(source, output)
    (output / "c.nii.gz").write_text("corrected by hand")
    fake.computed.clear()
    with caplog.at_level("WARNING", "near_monai"):
        run(source, output)
    assert fake.computed == ["c"]
    assert (output / "c.nii.gz").read_text() == "label c clean=True"
    (kept,) = (output / REPLACED_FOLDER).rglob("c.nii.gz")
    assert kept.read_text() == "corrected by hand"
    assert f"c: was changed since it was written; it is kept as {kept}" in caplog.text


@pytest.mark.parametrize("beside", ["codes", "bridges", "probability"])
def test_every_file_of_a_result_counts(source: Path, tmp_path: Path, fake: Fake, beside: str) -> None:
    fake.beside = (beside,)
    run(source, tmp_path / "out")
    next((tmp_path / "out" / beside).glob("b.*")).write_text("another")
    next((tmp_path / "out" / beside).glob("c.*")).unlink()
    fake.computed.clear()
    run(source, tmp_path / "out")
    assert fake.computed == ["b", "c"]


def test_the_order_is_that_of_the_rows(source: Path, tmp_path: Path, fake: Fake) -> None:
    """Shards with other options keep their rows, whichever record file was written last."""
    output = tmp_path / "out"
    run(source, output, A)
    run(source, output, B, shard=(0, 2))
    for path in (output / RECORD_FOLDER).glob("shard-0-of-1.jsonl"):
        os.utime(path)
    fake.computed.clear()
    found = run(source, output, A, shard=(1, 2))
    assert fake.computed == []
    assert [row["name"] for row in found["cases"]] == ["b", "d"]
    assert [(row["name"], row["settings"]["options"]["clean"]) for row in found["other_settings"]] == [
        ("a", False),
        ("c", False),
    ]
    run(source, output, A)
    assert fake.computed == ["a", "c"]


def test_results_of_cases_that_the_input_has_no_more_are_named(source: Path, tmp_path: Path, fake: Fake) -> None:
    output = tmp_path / "out"
    assert run(source, output)["left_over"] == []
    first = next(path for path in source.iterdir() if path.name.startswith("a."))
    first.rename(first.with_name(first.name.replace("a.", "new.", 1)))
    found = run(source, output)
    assert found["left_over"] == ["a"] and "new" in [row["name"] for row in found["cases"]]
    assert "also there, of cases that are not in the input: a\n" in summary_of(found, output)
    next(output.glob("a.*")).unlink()
    assert run(source, output)["left_over"] == []


def test_a_folder_that_is_moved_meanwhile_is_no_finished_run(
    source: Path, tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, start = tmp_path / "out", Records.start

    def move(self: Records, case: Case) -> dict[str, str] | None:
        if case.name == "c":
            output.rename(tmp_path / "moved")
        return start(self, case)

    monkeypatch.setattr(Records, "start", move)
    with pytest.raises(NearError, match="out: was moved or deleted meanwhile, and lacks a, b; give the same command"):
        run(source, output)
    monkeypatch.undo()


def test_a_clock_that_goes_back_changes_nothing(
    source: Path, tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    run(source, output, A)
    now = time.time_ns()
    monkeypatch.setattr(run_records.time, "time_ns", lambda: now - 10**18)
    run(source, output, B)
    fake.computed.clear()
    run(source, output, B)
    assert fake.computed == []
    run(source, output, A)
    assert fake.computed == ["a", "b", "c", "d"]


def test_foreign_lines_do_not_count(source: Path, tmp_path: Path, fake: Fake) -> None:
    output = tmp_path / "out"
    run(source, output)
    path = output / RECORD_FOLDER / "shard-0-of-1.jsonl"
    row = json.loads(path.read_text().strip().splitlines()[-1])
    lines = [
        "null",
        "[1]",
        '{"name": "a"}',
        "\x00\xff",
        json.dumps(row | {"order": "late"}),
        json.dumps(row | {"order": True}),
        json.dumps(row | {"written": ["d.nii.gz"]}),
        json.dumps(row | {"name": 5}),
        json.dumps(row | {"name": "a", "order": 10**40, "written": {"/etc/passwd": "0"}}),
        "[" * 100_000,
    ]
    path.write_text(path.read_text() + "\n".join(lines))
    fake.computed.clear()
    found = run(source, output)
    assert fake.computed == ["a"], "the last line but one names a result that is not there"
    assert [row["status"] for row in found["cases"]] == ["done"] * 4
    fake.computed.clear()
    run(source, output)
    assert fake.computed == [], "what is later than everything is followed by what is later still"


def test_two_processes_with_other_options_do_not_share_a_folder(source: Path, tmp_path: Path, fake: Fake) -> None:
    output = tmp_path / "out"
    other = Records(output, "shard-1-of-2", {"options": "others"})
    with other.claim():
        with pytest.raises(NearError, match="another process refines into it with other options or weights"):
            run(source, output)
        assert fake.computed == []
    run(source, output)
    assert fake.computed == ["a", "b", "c", "d"]
    assert not list((output / RECORD_FOLDER).glob("*.busy"))


def test_an_input_that_changes_meanwhile_is_not_done(source: Path, tmp_path: Path, fake: Fake) -> None:
    def change() -> None:
        (source / "b.nii.gz").write_text("another label")

    fake.after = change
    rows = run(source / "b.nii.gz", tmp_path / "out")["cases"]
    assert [(row["status"], row["message"].split(": ")[1]) for row in rows] == [
        ("failed", "was changed while it was refined; refine it again")
    ]
    assert not (tmp_path / "out" / "b.nii.gz").exists()


@pytest.mark.parametrize("moved", ["in", "out"])
def test_moved_and_copied_runs_are_still_finished(source: Path, tmp_path: Path, fake: Fake, moved: str) -> None:
    run(source, tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / moved).rename(tmp_path / "elsewhere" / moved)
    fake.computed.clear()
    places = {name: (tmp_path / "elsewhere" if name == moved else tmp_path) / name for name in ("in", "out")}
    run(places["in"], places["out"])
    assert fake.computed == []


def test_weights_and_table_count_by_what_they_hold(source: Path, tmp_path: Path, fake: Fake) -> None:
    shipped = many_files.shipped("coronary.safetensors")
    weights, table = tmp_path / "w.safetensors", tmp_path / "t.yaml"
    weights.write_bytes(shipped.read_bytes())
    table.write_text("- {index: 9, name: coronary, components: 2, rank: 1}\n")
    options = Options(weights=str(weights), table=str(table))
    run(source, tmp_path / "out", options)
    weights.touch()
    copy = tmp_path / "copy.yaml"
    copy.write_bytes(table.read_bytes())
    run(source, tmp_path / "out", Options(weights=str(weights), table=str(copy)))
    assert len(fake.computed) == 4
    table.write_text("- {index: 9, name: coronary, components: 3, rank: 1}\n")
    run(source, tmp_path / "out", options)
    assert len(fake.computed) == 8


def test_shipped_weights_count_by_what_they_hold(
    source: Path, tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(source, tmp_path / "out")
    for file in many_files.shipped("").glob("*.safetensors"):
        shutil.copy(file, tmp_path / file.name)
    state, description = read_weights(tmp_path / "organs.safetensors")
    assert description is not None
    write_weights(tmp_path / "organs.safetensors", state | {"field.mlp.last.bias": torch.ones(1)}, description)
    monkeypatch.setattr("near_monai.networks.weight_files.shipped", lambda name: tmp_path / name)
    run(source, tmp_path / "out")
    assert len(fake.computed) == 8


def test_the_report_goes_when_what_it_shows_is_not_the_run_any_more(source: Path, tmp_path: Path, fake: Fake) -> None:
    output = tmp_path / "out"
    run(source, output)
    (output / "report.html").write_text("four cases")
    run(source, output)
    assert (output / "report.html").exists(), "nothing has changed"
    run(source / "a.nii.gz", output)
    assert not (output / "report.html").exists()
    assert len(json.loads((output / RUN_FILE).read_text())["cases"]) == 1


def test_voxels_beside_a_header_are_part_of_its_content(tmp_path: Path) -> None:
    header = tmp_path / "a.mhd"
    header.write_bytes(b"ObjectType = Image\nElementDataFile = a.raw\n")
    (tmp_path / "a.raw").write_bytes(b"1")
    first = fingerprint(header)
    (tmp_path / "a.raw").write_bytes(b"2")
    assert fingerprint(header) != first
    (tmp_path / "a.raw").write_bytes(b"1")
    assert fingerprint(header) == first
    lines = tmp_path / "b.nhdr"
    lines.write_bytes(b"NRRD0004\ntype: uchar\ndata file: a.raw\n\n")
    first = fingerprint(lines)
    (tmp_path / "a.raw").write_bytes(b"2")
    assert fingerprint(lines) != first
    (tmp_path / "a.raw").unlink()
    assert fingerprint(lines) not in (first, fingerprint(tmp_path / "none.nhdr"))
