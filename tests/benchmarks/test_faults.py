"""Commands that are killed go on to the same result; the long run is ``python -m benchmarks.faults``."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from near_monai.cli import main
from near_monai.errors import NearError, in_one_line, out_of_memory
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.options import Options

ROOT = Path(__file__).parents[2]
KILLS = "from pathlib import Path; from benchmarks import faults; bench = faults.Bench(Path({folder!r}), 0); "
KILLS += "print(faults.kills(bench, 'refinement', 3)['count'])"


def test_killed_refinement_goes_on_to_identical_label_maps(tmp_path: Path) -> None:
    """In a process of its own, since threads of other tests do not survive a fork."""
    command = [sys.executable, "-c", KILLS.format(folder=str(tmp_path / "bench"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "3", done.stderr


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_fault_is_survived(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.faults", "-o", str(tmp_path / "out"), "--kills", "50"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "out" / "faults.json").read_text())
    assert sum(row["count"] for row in rows if row["fault"] == "kill -9") == 50


def test_errors_become_one_line() -> None:
    assert in_one_line(MemoryError()).startswith("out of memory (MemoryError)")
    error = RuntimeError("component\nfailed")
    error.__cause__ = np._core._exceptions._ArrayMemoryError((1,), np.dtype("u1"))  # type: ignore[attr-defined]
    assert out_of_memory(error.__cause__)
    assert "\n" not in in_one_line(error) and "Unable to allocate" in in_one_line(error)
    assert in_one_line(KeyError("x\ny")) == "KeyError: 'x\\ny'"
    assert not out_of_memory(ValueError("memory")) and out_of_memory(RuntimeError("std::bad_alloc"))
    assert out_of_memory(ImportError("_SimpleITK.so: failed to map segment from shared object"))


def test_unforeseen_errors_are_one_line_at_the_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr("near_monai.refinement.many_files.refine_files", fail)
    with pytest.raises(SystemExit) as end:
        main(["refine", "x", "-o", str(tmp_path)])
    assert end.value.code == 1
    assert capsys.readouterr().err == "near-monai: ZeroDivisionError: by\n"


@pytest.mark.parametrize("inside", ["", "bridges", "probability", "codes"])
def test_inputs_where_the_results_go_are_refused(tmp_path: Path, inside: str) -> None:
    """Also where a link leads there: what an earlier run left beside a result is removed before the next one."""
    out, real = tmp_path / "out", tmp_path / "real"
    real.mkdir()
    (real / "a.nii.gz").write_bytes(b"precious")
    if inside:
        out.mkdir()
        (out / "run.json").write_text("{}")
        (out / inside).symlink_to(real)
    else:
        out.symlink_to(real)
    for source in (real, out / inside, real / "a.nii.gz"):
        with pytest.raises(NearError, match="holds label maps to refine"):
            refine_files(source, out, Options(), quiet=True)
    assert (real / "a.nii.gz").read_bytes() == b"precious"
