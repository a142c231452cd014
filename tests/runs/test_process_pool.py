"""Processes that die, and scripts that start them."""

import gc
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from near_monai.runs.process_pool import in_processes

SCRIPT = """
import gc
import operator
from near_monai.runs.process_pool import in_processes
print(sorted(result for _, result in in_processes([1, 2, 3], lambda job: 5, operator.mul, 2, gc.collect)))
"""


def work(job: int, folder: Path) -> int:
    """Dies at job 3, at job 4 the first time only; says what it was given."""
    attempts = folder / str(job)
    attempts.write_text(attempts.read_text() + "." if attempts.exists() else ".")
    if job == 3 or (job == 4 and len(attempts.read_text()) == 1):
        os._exit(9)
    time.sleep(0.01)
    return 10 * job


def test_a_process_that_dies_takes_one_job_with_it(tmp_path: Path) -> None:
    begun = []

    def begin(job: int) -> Path:
        begun.append(job)
        return tmp_path

    found = list(in_processes(range(8), begin, work, 2, gc.collect))
    assert dict(found) == {job: None if job == 3 else 10 * job for job in range(8)}
    assert len(found) == 8
    assert begun[:8] == list(range(8)) and set(begun[8:]) == {3, 4}, "they are tried again at the end"
    assert (tmp_path / "3").read_text() == (tmp_path / "4").read_text() == ".."


def test_jobs_begin_when_a_process_is_free(tmp_path: Path) -> None:
    begun: list[int] = []

    def begin(job: int) -> Path:
        begun.append(job)
        return tmp_path

    results = in_processes(range(6), begin, work, 2, gc.collect)
    next(results)
    assert len(begun) <= 3
    results.close()


@pytest.mark.parametrize("start", ["file", "stdin", "command"])
def test_a_script_needs_no_main_guard(tmp_path: Path, start: str) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    how = {"file": [str(path)], "stdin": ["-"], "command": ["-c", SCRIPT]}[start]
    text = SCRIPT if start == "stdin" else ""
    found = subprocess.run([sys.executable, *how], input=text, capture_output=True, text=True, timeout=240, check=False)
    assert found.stdout == "[5, 10, 15]\n", found.stderr
