"""What a run survives: kill -9 at random moments, signals, full and read-only disks, little memory, vanishing files.

    python -m benchmarks.faults -o OUT [--kills 50] [--seed 0]

Every fault happens to a real command. Then the same command is run again, and its results are compared with those of a
run that nothing happened to: tensors of the weights, bytes of the (decompressed) label maps. Writes ``faults.json`` and
``table.md``. Commands run in forks of this process, since to import MONAI takes longer than a run. Linux; full and
read-only disks need the right to mount.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from benchmarks.commands import CASES, Bench, digest, files_of, labels_of
from near_monai.formats.atomic_writing import PART_PREFIX, claim_empty, write_json, write_text

Row = dict[str, Any]


def kills(bench: Bench, what: str, count: int) -> Row:
    """Kill -9 at random moments, in the same folder again and again until the command has come to its end."""
    done, rounds, parts = 0, 0, 0
    while done < count:
        output = bench.folder / f"{what}-killed-{rounds}"
        while done < count:
            command = bench.run(what, output)
            if command.wait(bench.chance.uniform(0, bench.expected(what)[1])) is not None:
                break
            done += command.stop(signal.SIGKILL) == -signal.SIGKILL
            parts += len([*output.rglob(f"{PART_PREFIX}*")])
        bench.check(what, output)
        shutil.rmtree(output)
        rounds += 1
    return {"count": done, "outcome": f"{rounds} runs went on to identical results; {parts} half-written parts, unused"}


def signals(bench: Bench, what: str, number: signal.Signals, count: int = 2) -> Row:
    """A signal at random moments; runs that ended before it do not count."""
    codes = []
    while len(codes) < count:
        output = bench.folder / f"{what}-{number.name}"
        command = bench.run(what, output)
        if command.wait(bench.chance.uniform(0.1, 0.9) * bench.expected(what)[1]) is None:
            codes.append(str(command.stop(number)))
        command.says()
        bench.check(what, output)
        shutil.rmtree(output)
    return {"count": count, "outcome": f"exit codes {sorted(set(codes))}; then identical results"}


def full_disk(bench: Bench, what: str, size: str) -> Row:
    """The disk fills up; with more room the same command goes on."""
    with bench.disk(size) as disk:
        command = bench.run(what, disk / "out")
        code, line = command.wait(), command.says()
        if code != 1:
            raise AssertionError(f"full disk: exit code {code}")
        for path in (disk / "out").glob("*.nii.gz"):
            if digest(gzip.decompress(path.read_bytes())) != bench.expected(what)[0][path.name]:
                raise AssertionError(f"{path}: broken")
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        bench.check(what, disk / "out")
    return {"count": 1, "outcome": f"exit 1: {line}; with more room identical results"}


def read_only(bench: Bench, what: str) -> Row:
    """The output lies on a disk that cannot be written."""
    with bench.disk("1m", "ro") as disk:
        command = bench.run(what, disk / "out")
        code, line = command.wait(), command.says()
    if code != 1 or "Read-only" not in line:
        raise AssertionError(f"read-only: exit code {code}: {line}")
    return {"count": 1, "outcome": f"exit 1: {line}"}


def memory(bench: Bench, what: str, megabytes: int) -> Row:
    """Little memory; with more the same command goes on.

    The command says so and ends with 1, unless a thread of a library needs what is not there: that ends any process.
    """
    output = bench.folder / f"{what}-memory"
    command = bench.run(what, output, megabytes << 20)
    code, line = command.wait(), command.says()
    if code not in (1, -signal.SIGABRT, -signal.SIGSEGV):
        raise AssertionError(f"out of memory: exit code {code}: {line}")
    bench.check(what, output)
    shutil.rmtree(output)
    return {"count": 1, "outcome": f"exit {code}: {line}; with more memory identical results"}


def large_case(bench: Bench, megabytes: int) -> Row:
    """One case is too large for the memory; the others are finished without it."""
    few = Bench(bench.folder / "large", 0)
    scan = np.zeros((1000, 1000, 600), np.uint8)
    scan[:48, :40, :32] = nib.nifti1.load(few.source / "00.nii.gz").dataobj
    nib.save(nib.Nifti1Image(scan, np.diag([0.5, 0.55, 0.7, 1])), few.source / "large.nii.gz")
    few.inputs, output = files_of(few.source), few.folder / "out"
    command = few.run("refinement", output, megabytes << 20)
    code, line, found = command.wait(), command.says(), labels_of(output)
    failed = [key for key, value in found.items() if value == "failed"]
    if code != 1 or failed != ["status of large"]:
        raise AssertionError(f"large case: exit code {code}, failed: {failed}: {line}")
    few.check("refinement", output)
    return {"count": 1, "outcome": f"exit 1: {line}; the {CASES} others are finished, with more memory all"}


def vanished(bench: Bench, victim: str) -> Row:
    """An input, or the output folder, is deleted in the middle of a refinement."""
    output = bench.folder / "vanished"
    command = bench.run("refinement", output)
    bench.until_first(command, output)
    last = bench.source / f"{CASES - 1:02d}.nii.gz"
    if victim == "output":
        output.rename(bench.folder / "moved")
    else:
        os.link(last, bench.folder / "kept")
        last.unlink()
    code, line = command.wait(), command.says()
    if victim == "input":
        (bench.folder / "kept").rename(last)
    if code != 1:
        raise AssertionError(f"{victim} vanished: exit code {code}: {line}")
    bench.check("refinement", output)
    for folder in (output, bench.folder / "moved"):
        shutil.rmtree(folder, ignore_errors=True)
    return {"count": 1, "outcome": f"exit 1: {line}; restored: identical results"}


def orphans(bench: Bench) -> Row:
    """Kill -9 of a refinement in several processes: none goes on without the others."""
    output = bench.folder / "orphans"
    command = bench.run("refinement", output, workers=2)
    bench.until_first(command, output)
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
    command.stop(signal.SIGKILL)
    time.sleep(2)
    left = [pid for pid in children if Path("/proc", pid).exists()]
    if left:
        raise AssertionError(f"{len(left)} of {len(children)} processes go on")
    bench.check("refinement", output)
    shutil.rmtree(output)
    return {"count": 1, "outcome": f"its {len(children)} processes end, too; then identical results"}


def faults(bench: Bench, count: int) -> Iterator[tuple[str, str, Callable[[], Row]]]:
    """Name, command and trial of every fault."""
    for what, size, megabytes in (("refinement", "300k", 40), ("training", "3m", 60)):
        yield "kill -9", what, partial(kills, bench, what, count // 2)
        for number in (signal.SIGINT, signal.SIGTERM):
            yield number.name, what, partial(signals, bench, what, number)
        if os.geteuid() == 0:
            yield "full disk", what, partial(full_disk, bench, what, size)
            yield "read-only disk", what, partial(read_only, bench, what)
        yield "out of memory", what, partial(memory, bench, what, megabytes)
    yield "one large case", "refinement", partial(large_case, bench, 500)
    yield "kill -9 of one of 3", "refinement", partial(orphans, bench)
    for victim in ("input", "output"):
        yield f"{victim} vanishes", "refinement", partial(vanished, bench, victim)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder")
    parser.add_argument("--kills", type=int, default=50, help="kill -9, half of them in training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    claim_empty(options.output)
    torch.set_num_threads(1)
    bench = Bench(options.output.resolve(), options.seed)
    rows = []
    for fault, what, trial in faults(bench, options.kills):
        try:
            row = {"fault": fault, "command": what, "survived": True} | trial()
        except AssertionError as error:
            row = {"fault": fault, "command": what, "survived": False, "count": 0, "outcome": str(error)}
        rows.append(row)
        print("{survived!s:5} {fault:19} {command:11} {count:3}  {outcome}".format(**row), flush=True)
    write_json(options.output / "faults.json", rows)
    lines = ["| {fault} | {command} | {count} | {outcome} |".format(**row) for row in rows]
    write_text(
        options.output / "table.md",
        "\n".join(["| Fault | In | Times | Outcome |", "| --- | --- | ---: | --- |", *lines]) + "\n",
    )
    if not all(row["survived"] for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
