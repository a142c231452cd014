"""The commands that :mod:`benchmarks.faults` disturbs, in processes of their own, and what they give undisturbed."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

import near_monai.refinement.many_files  # loaded before the forks
import near_monai.training.train_command  # noqa: F401
from near_monai.cli import main as near_monai_main
from near_monai.formats.atomic_writing import PART_PREFIX
from near_monai.runs.run_records import RUN_FILE

COARSE = "[1.5, 1.5, 1.5]"
#: A training of seconds. The last epoch is validated after it is saved, which is one more moment to be killed at.
TRAINING = {
    "phantoms": "0",
    "max_epochs": "3",
    "val_interval": "2",
    "windows_per_epoch": "8",
    "batch_size": "2",
    "points": "256",
    "num_workers": "0",
    "device": "$torch.device('cpu')",
    "amp": "false",
    "validate#dataset#data#count": "1",
    "validate#dataset#data#spacing": COARSE,
    "held_out#dataset#data#count": "1",
    "held_out#dataset#data#spacing": COARSE,
}
CASES = 12


class Command:
    """A ``near-monai`` command in a process of its own, with its output in a file.

    Args:
        words: the command line.
        log: where stdout and stderr go.
        memory: bytes of address space that it may add to what this process has.
    """

    def __init__(self, words: Iterable[object], log: Path, memory: int | None = None) -> None:
        self.log = log
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1), os.dup2(target, 2)
        if memory:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
        code = 70
        try:
            near_monai_main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)

    def wait(self, seconds: float = 600) -> int | None:
        """Exit code (negative: the signal that ended it), or None if it still runs after so many ``seconds``."""
        end = time.monotonic() + seconds
        while self.code is None and time.monotonic() < end:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self.code = os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        return self.code

    def stop(self, number: int) -> int | None:
        """Send a signal, if it still runs; returns the exit code."""
        if self.code is None:
            os.kill(self.pid, number)
        return self.wait(60)

    def says(self) -> str:
        """The last line of its output; a traceback is an error."""
        text = self.log.read_text(errors="replace")
        if "Traceback" in text:
            raise AssertionError(f"a traceback:\n{text}")
        lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
        return lines[-1] if lines else ""


def vessels(folder: Path, count: int = CASES) -> Path:
    """Small label maps of a bent, rough vessel with a gap."""
    folder.mkdir(parents=True)
    i, j, k = np.meshgrid(
        *(np.arange(n) * s for n, s in zip((48, 40, 32), (0.5, 0.55, 0.7), strict=True)), indexing="ij"
    )
    for number in range(count):
        distance = np.hypot(j - 11 - 3 * np.sin(i / 8 + number), k - 11 - 0.1 * i) - 1.5
        mask = distance + np.random.default_rng(number).normal(0, 0.25, distance.shape) < 0
        mask[:4] = mask[-4:] = mask[22:24] = False
        nib.save(
            nib.Nifti1Image(mask.astype(np.uint8) * 9, np.diag([0.5, 0.55, 0.7, 1])), folder / f"{number:02d}.nii.gz"
        )
    return folder


def labels_of(folder: Path) -> dict[str, str]:
    """Fingerprints of the refined label maps, and that the run is recorded as complete."""
    run = json.loads((folder / RUN_FILE).read_text())
    files = [*folder.glob("*.nii.gz"), *folder.glob("[!.]*/*.nii.gz")]
    found = {str(path.relative_to(folder)): digest(gzip.decompress(path.read_bytes())) for path in files}
    return found | {f"status of {row['name']}": row["status"] for row in run["cases"]}


def weights_of(folder: Path) -> dict[str, str]:
    """Fingerprints of every tensor of the best weights and of the latest state, and of the held-out figures."""
    found = {"summary": digest((folder / "held_out" / "summary.json").read_bytes())}
    for name in ("best.pt", "latest.pt"):
        found |= dict(_tensors(name, torch.load(folder / name, weights_only=True)))
    return found


def _tensors(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict | list | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _tensors(f"{name}.{key}", part)
    elif isinstance(value, torch.Tensor):
        yield name, digest(value.contiguous().numpy().tobytes())
    else:
        yield name, repr(value)


RESULTS = {"refinement": labels_of, "training": weights_of}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files_of(folder: Path) -> dict[str, str]:
    return {str(p): digest(p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


class Bench:
    """The two commands, what they give when nothing happens, and how long they take."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.source = vessels(folder / "labels")
        self.inputs = files_of(self.source)
        self.expected = cache(self._undisturbed)

    def _undisturbed(self, what: str) -> tuple[dict[str, str], float]:
        """Results and seconds, of the second run: it finds the caches of the machine warm, as the disturbed ones do."""
        for turn in range(2):
            output = self.folder / f"{what}-{turn}"
            start = time.monotonic()
            command = self.run(what, output)
            if command.wait():
                raise AssertionError(command.says())
        return RESULTS[what](output), time.monotonic() - start

    def run(self, what: str, output: Path, memory: int | None = None, workers: int = 1) -> Command:
        log = self.folder / f"{what}.log"
        if what == "refinement":
            words = ["refine", self.source, "-o", output, "--quiet", "--device", "cpu", "--save-codes"]
            return Command([*words, "--workers", workers], log, memory)
        options = [word for key, value in TRAINING.items() for word in (f"--{key}", value)]
        return Command(["train", "-o", output, "--dataset-dir", self.source, *options], log, memory)

    def until_first(self, command: Command, output: Path) -> None:
        """Wait until the first case of a refinement is finished."""
        while not [*output.glob("*.nii.gz")]:
            if command.wait(0.01) is not None:
                raise AssertionError(f"ended before the first case: {command.says()}")

    def check(self, what: str, output: Path) -> None:
        """Run the command to its end and compare everything with what it gives when nothing happens."""
        command = self.run(what, output)
        code = command.wait()
        if code:
            raise AssertionError(f"{what}: exit code {code}: {command.says()}")
        found, expected = RESULTS[what](output), self.expected(what)[0]
        differ = [key for key in {**found, **expected} if found.get(key) != expected.get(key)]
        if differ:
            raise AssertionError(f"{what}: not what an undisturbed run gives: {differ[:5]}")
        if files_of(self.source) != self.inputs:
            raise AssertionError("an input has changed")
        for part in output.rglob(f"{PART_PREFIX}*"):  # an hour later the next run removes what was killed at writing
            os.utime(part, (1, 1))
        if self.run(what, output).wait() or [*output.rglob(f"{PART_PREFIX}*")]:
            raise AssertionError(f"{what}: parts are left in {output}")

    @contextmanager
    def disk(self, size: str, options: str = "rw") -> Iterator[Path]:
        """A small disk."""
        place = self.folder / "disk"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},{options}", "tmpfs", place], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)
            place.rmdir()
