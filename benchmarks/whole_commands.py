"""What whole commands cost in processes of their own: wall time, CPU time of all their processes, and memory."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

#: Other jobs on a busy machine.
OTHER_JOBS = 2
BUSY = f"refine, one map, {OTHER_JOBS} other jobs running"


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        wall: seconds.
        cpu: seconds of the command and all processes that it waited for.
        peak_gb: resident memory of the largest of these processes.
    """

    wall: float
    cpu: float
    peak_gb: float


def cost_of(arguments: Sequence[str]) -> Cost:
    """Run ``python -m`` with ``arguments`` once."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"python -m {' '.join(arguments)}: exit code {process.returncode}")
    return Cost(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6)


def commands(
    label_map: Path, label: str, hearts: Sequence[Path], maps: Path | None, training: bool
) -> Iterator[tuple[str, list[str]]]:
    """Name and arguments of every command; ``{out}`` stands for a new folder in them."""
    rest = ["-o", "{out}", "--label", label, "--quiet"]
    one = ["near_monai", "refine", str(label_map), *rest]
    yield "refine, one map", one
    yield BUSY, one
    yield "near-monai --help", ["near_monai", "--help"]
    yield "evaluate, one pair", ["near_monai", "evaluate", str(label_map), str(label_map), *rest]
    for heart in hearts:
        whole = ["near_monai", "refine", str(heart), "-o", "{out}", "--all-labels", "--quiet"]
        yield f"refine --all-labels, {heart.name}", whole
    if maps:
        yield f"refine, all of {maps.name}/", ["near_monai", "refine", str(maps), *rest]
    if training:
        yield "training, no data given", ["near_monai", "train", "-o", "{out}"]


def measured(wanted: Sequence[tuple[str, list[str]]], repeats: int) -> dict[str, Cost]:
    """Medians of ``repeats`` runs of every command, in turn, so that a slow minute hits all of them."""
    runs: dict[str, list[Cost]] = {name: [] for name, _ in wanted}
    for _ in range(repeats):
        for name, arguments in wanted:
            with TemporaryDirectory() as folder, _others(OTHER_JOBS if name == BUSY else 0):
                out = str(Path(folder) / "out")
                runs[name].append(cost_of([out if part == "{out}" else part for part in arguments]))
    return {
        name: Cost(*(statistics.median(getattr(run, key) for run in found) for key in ("wall", "cpu", "peak_gb")))
        for name, found in runs.items()
    }


@contextmanager
def _others(count: int) -> Iterator[None]:
    """``count`` processes that do nothing but use a core."""
    jobs = [multiprocessing.get_context("spawn").Process(target=_spin, daemon=True) for _ in range(count)]
    for job in jobs:
        job.start()
    try:
        yield
    finally:
        for job in jobs:
            job.kill()
            job.join()


def _spin() -> None:
    while True:
        pass


def table(costs: Mapping[str, Cost]) -> str:
    """Markdown, a row per command."""
    rows = [f"| {name} | {cost.wall:.1f} | {cost.cpu:.1f} | {cost.peak_gb:.2f} |" for name, cost in costs.items()]
    return "\n".join(["| whole command, fresh process | wall s | CPU s | peak GB |", "|---|---|---|---|", *rows]) + "\n"
