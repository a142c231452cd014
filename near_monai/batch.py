"""Refinement of many files: shared among processes, one bad case stops none, finished ones are not computed again."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread

import monai
import torch
from tqdm import tqdm

from near_monai.anatomy import table_of
from near_monai.cases import Case, find_cases
from near_monai.colours import ITKSNAP_FILE, SLICER_FILE, write_tables
from near_monai.errors import NearError, in_one_line
from near_monai.files import Options, folders, forget, refine_all_classes, refine_one_class
from near_monai.layout import RESULT_FOLDERS
from near_monai.network import NearNetwork
from near_monai.records import DONE, FAILED, RUN_FILE, Records, Row
from near_monai.repair import VESSEL
from near_monai.space import WorkingSpace
from near_monai.storage import fingerprint, sweep
from near_monai.transforms import ALL
from near_monai.version import __version__
from near_monai.weights import load_network, pick_device, shipped

#: A process holds about 1 GB.
MOST_WORKERS = 8


def refine_files(
    source: str | Path,
    output: str | Path,
    options: Options,
    quiet: bool = False,
    shard: tuple[int, int] = (0, 1),
    workers: int | None = None,
) -> Row:
    """Refine every case of ``source`` into ``output``; one bad case does not stop the others.

    Cases that an earlier run finished with the same options, from the same files, are not computed again.

    Args:
        source: see :func:`near_monai.cases.find_cases`.
        output: folder to write to.
        options: how.
        quiet: no progress bar.
        shard: ``(i, n)``: only every n-th case, from case i on. Runs of all n shards may write to one folder at once.
        workers: processes; ``None`` for one per core on CPUs, if there are enough cases for them.

    Returns:
        What ``run.json`` holds: versions, options and, under ``cases``, name, status, seconds, components and volume
        before and after (of the refined class, on the grid of the input and of the output), what was added and removed,
        the label's estimated noise, findings with their places in world mm, and warnings.

    Raises:
        NearError: no cases, unusable weights or device, or ``output`` holds files of someone else.
    """
    cases, output = find_cases(source), Path(output)
    _check_output(output, cases)
    sweep(output)
    for kept in (_network, _anatomy):
        kept.cache_clear()  # the files may have changed since an earlier run
    anatomy = _anatomy(options.table)
    _network(options.weights or shipped(VESSEL.weights), options.device)
    head = _head(source, options)
    named = [fingerprint(Path(name), None) for name in (options.weights, options.table) if name]
    records = Records(output, "shard-{}-of-{}".format(*shard), [__version__, asdict(options), named])
    records.merge(head, cases)
    if options.label == ALL:
        write_tables(output, anatomy)
    own = cases[shard[0] :: shard[1]]
    finished = records.finished(own)
    todo = [case for case in own if case.name not in finished]
    if finished and not quiet:
        tqdm.write(f"{len(finished)} cases are finished already", file=sys.stderr)
    # the start of a process costs as much as a case or two
    jobs = _rows(todo, output, options, workers or min(_cores(options.device), len(todo) // 3))
    try:
        for case, row in tqdm(jobs, desc="refine", unit="case", total=len(todo), disable=quiet or not todo):
            _tell(case, row, quiet)
            records.add(case, row)
    finally:
        run = records.merge(head, cases)
    return run


def _head(source: str | Path, options: Options) -> Row:
    """What ``run.json`` says of a run as a whole."""
    return {
        "versions": {"near_monai": __version__, "monai": monai.__version__, "torch": torch.__version__},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": str(source),
        "options": asdict(options),
        "device": str(pick_device(options.device)),
    }


def _tell(case: Case, row: Row, quiet: bool) -> None:
    """What went wrong with a case, or may have, on stderr."""
    if "message" in row:
        tqdm.write(f"{case.name}: {row['message']}", file=sys.stderr)
    elif row["warnings"] and not quiet:
        tqdm.write(f"{case.name}: warning: {'; '.join(row['warnings'])}", file=sys.stderr)


def _rows(cases: Sequence[Case], output: Path, options: Options, workers: int) -> Iterator[tuple[Case, Row]]:
    """Every case and its row, as they are finished."""
    if workers < 2:
        yield from ((case, _refine(case, output, options)) for case in cases)
        return
    context = get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    with ProcessPoolExecutor(workers, context, _join_parent, (theirs,)) as pool, ours:
        jobs = {pool.submit(_refine, case, output, options): case for case in cases}
        for job in as_completed(jobs):
            try:
                yield jobs[job], job.result()
            except BrokenProcessPool:
                message = "its process was killed (out of memory?); the same command goes on with what is missing"
                yield jobs[job], _failed(jobs[job]) | {"message": message}
        pool.shutdown()  # before the line is closed: workers that it ends leave their semaphores


def _join_parent(line: Connection) -> None:
    """Set up a worker: one thread of torch, and an end as soon as the parent is killed or stops to listen."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    torch.set_num_threads(1)
    Thread(target=_end_with, args=(line,), daemon=True).start()


def _end_with(line: Connection) -> None:
    try:
        line.recv()
    except EOFError:
        os._exit(1)


def _refine(case: Case, output: Path, options: Options) -> Row:
    """The row of one case; nothing that can happen to it is raised."""
    start = time.perf_counter()
    row = _failed(case)
    refine: Callable[..., Row] = refine_all_classes if options.label == ALL else refine_one_class
    try:
        forget(case, output)
        found = refine(case, output, options, lambda w: _network(w, options.device), _anatomy(options.table))
        row.update(found, status=DONE)
    except NearError as error:
        row["message"] = str(error)
    except Exception as error:  # whatever it is: one bad case does not stop the others
        row["message"] = in_one_line(error)
    return row | {"seconds": round(time.perf_counter() - start, 3)}


def _failed(case: Case) -> Row:
    """The row of a case that did not come to an end."""
    path = case.label.absolute()
    return {"name": case.name, "status": FAILED, "input": path, "input_state": fingerprint(path, None)}


@cache
def _network(weights: str | Path, device: str) -> tuple[NearNetwork, WorkingSpace]:
    return load_network(weights, device)


_anatomy = cache(table_of)


def _cores(device: str) -> int:
    if pick_device(device).type != "cpu" or "LOCAL_WORLD_SIZE" in os.environ:
        return 1  # a GPU is busy with one process; torch.distributed.run starts as many as are wanted
    return min(torch.get_num_threads(), MOST_WORKERS)


def _check_output(output: Path, cases: list[Case]) -> None:
    """Refuse a folder in which writing would replace an input, or files that an earlier run of ours did not make."""
    for part in {case.file.partition("/")[0] for case in cases if "/" in case.file}.intersection(RESULT_FOLDERS):
        raise NearError(f"{part}: a folder of label maps of that name; results have one of their own: rename it")
    below = {os.path.dirname(case.file) for case in cases}  # noqa: PTH120
    # Path.resolve fails on links in a circle
    written = {os.path.realpath(folder / name) for folder in folders(output) for name in below}
    for folder in {path.parent for case in cases for path in (case.label, Path(os.path.realpath(case.label)))}:
        if os.path.realpath(folder) in written:
            raise NearError(f"{folder}: holds label maps to refine, and {output} would be written there; give another")
    names = [SLICER_FILE, ITKSNAP_FILE, *(case.file for case in cases)]
    taken = [name for name in names if (output / name).exists()]
    if taken and not (output / RUN_FILE).is_file():
        raise NearError(
            f"{output}: already holds {taken[0]}, and no {RUN_FILE} that says it was written here; give an empty folder"
        )
