"""One kind of work for many cases: processes share them, one bad case stops none, finished ones are not done again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from near_monai.data.case_lists import Case
from near_monai.data.fingerprints import fingerprint
from near_monai.data.shards import Shard, local_rank
from near_monai.errors import NearError, in_one_line, printable
from near_monai.formats.atomic_writing import sweep
from near_monai.networks.weight_files import pick_device
from near_monai.runs.process_pool import in_processes
from near_monai.runs.run_records import DONE, FAILED, REFINED, Kept, Records, Row

#: What is said of a case whose process was killed, alone, too.
KILLED = "its process was killed twice, the second time alone (out of memory?); the same command tries it last"
#: A process holds about 1 GB.
MOST_WORKERS = 8


@dataclass(frozen=True)
class Task:
    """What a run does.

    Attributes:
        verb: what it is called beside the progress bar.
        head: what the file that lists the cases says of the run as a whole.
        settings: whatever decides what comes out.
        device: where networks run.
        work: gives the row of a case, and raises nothing; it gets what :meth:`Records.start` says, too. It is called in
            another process.
        killed: gives the row of a case whose process was killed, alone, too.
        kept: what is left in the folder.
        begin: is called when the folder is this run's.
    """

    verb: str
    head: Row
    settings: Any
    device: str
    work: Callable[[Case, dict[str, str] | None], Row]
    killed: Callable[[Case], Row]
    kept: Kept = REFINED
    begin: Callable[[], object] = lambda: None


def run_cases(
    task: Task, cases: Sequence[Case], output: Path, part: Shard, workers: int | None = None, quiet: bool = False
) -> Row:
    """Do ``task`` for those of ``cases`` that ``part`` says and that are not finished; returns what is listed then.

    Args:
        task: what is done.
        cases: all cases.
        output: folder to write to.
        part: which of them are this process's.
        workers: processes; ``None`` for one per core on CPUs, if there are enough cases for them.
        quiet: no progress bar.

    Raises:
        NearError: a process with other settings works there.
    """
    sweep(output)
    own = part.of(cases)
    if part.size > 1:
        tqdm.write(part.line(len(own), len(cases)), file=sys.stderr)
    records = Records(output, f"shard-{part.rank}-of-{part.size}", task.settings, task.kept)
    with records.claim():
        records.merge(task.head, cases)
        task.begin()
        finished = records.finished(own)
        if finished and not quiet:
            tqdm.write(f"{len(finished)} cases are finished already", file=sys.stderr)
        todo = records.risky_last(case for case in own if case.name not in finished)
        workers = workers or processes_for(task.device, len(todo))
        try:
            _do_all(task, todo, records, workers, quiet)
        finally:
            run = records.merge(task.head, cases)
    return run


def _do_all(task: Task, todo: list[Case], records: Records, workers: int, quiet: bool) -> None:
    """Do the work in processes, and record what became of each case."""
    jobs = in_processes(todo, records.start, task.work, workers, partial(torch.set_num_threads, 1))
    for case, row in tqdm(jobs, desc=task.verb, unit="case", total=len(todo), disable=quiet or not todo):
        found = row or task.killed(case)
        _tell(case, found, quiet)
        records.add(case, found)


def attempted(
    case: Case, output: Path, done: str, make: Callable[[], Row], undo: Callable[[], object] = lambda: None
) -> Row:
    """The row of one case as ``make`` gives it; nothing that can happen is raised.

    Args:
        case: the case.
        output: folder of the run.
        done: what is done with it, and what to do if it was changed meanwhile: ``"refined; refine it again"``.
        make: does it.
        undo: takes away what half of it has left.
    """
    start = time.perf_counter()
    row = unfinished(case, output)
    try:
        try:
            row |= make()
            if fingerprint(case.label) != row["input_state"]:
                raise NearError(f"{case.label}: was changed while it was {done}")
            row |= {"status": DONE}
        except Exception:
            undo()  # half of a result is none
            raise
    except NearError as error:
        row = unfinished(case, output) | {"message": str(error)}
    except Exception as error:  # whatever it is: one bad case does not stop the others
        row = unfinished(case, output) | {"message": in_one_line(error)}
    return row | {"seconds": round(time.perf_counter() - start, 3)}


def unfinished(case: Case, output: Path) -> Row:
    """The row of a case that did not come to an end."""
    path = case.label.absolute()
    return {
        "name": case.name,
        "status": FAILED,
        "input": path,
        "input_from_here": _relative(path, output.absolute()),
        "input_state": fingerprint(path),
    }


def _relative(path: Path, folder: Path) -> str | None:
    """The way from ``folder`` to ``path``, which stays when both are moved; there is none between Windows' drives."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:
        return None


def _tell(case: Case, row: Row, quiet: bool) -> None:
    """What went wrong with a case, or may have, on stderr."""
    if "message" in row:
        tqdm.write(printable(f"{case.name}: {row['message']}"), file=sys.stderr)
    elif row["warnings"] and not quiet:
        tqdm.write(printable(f"{case.name}: warning: {'; '.join(row['warnings'])}"), file=sys.stderr)


def processes_for(device: str, count: int) -> int:
    """How many processes do ``count`` cases on ``device``: to start one costs as much as a case or two."""
    if pick_device(device).type != "cpu" or local_rank() is not None:
        cores = 1  # a GPU is busy with one process; a launcher starts as many as are wanted
    else:
        cores = min(torch.get_num_threads(), MOST_WORKERS)
    return min(cores, count // 3)
