"""Refinement of many files: shared among processes, one bad case stops none, finished ones are not computed again."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

import monai
import torch
from tqdm import tqdm

from near_monai.anatomy import Anatomy, table_of
from near_monai.data.case_lists import Case, find_cases
from near_monai.data.class_selection import ALL
from near_monai.data.colour_tables import ITKSNAP_FILE, SLICER_FILE, write_tables
from near_monai.data.fingerprints import fingerprint
from near_monai.data.run_layout import REPORT_FILE, RESULT_FOLDERS, RUN_FILE
from near_monai.data.shards import Shard, local_rank
from near_monai.errors import NearError, in_one_line, printable, some
from near_monai.formats.atomic_writing import sweep
from near_monai.geometry.working_space import WorkingSpace
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import identity, load_network, pick_device, shipped
from near_monai.refinement.class_meaning import named
from near_monai.refinement.one_file import Options, refine_all_classes, refine_one_class
from near_monai.repair.mask_repair import VESSEL
from near_monai.runs.case_results import clear, folders, written
from near_monai.runs.process_pool import in_processes
from near_monai.runs.run_records import DONE, FAILED, Records, Row
from near_monai.version import __version__

logger = logging.getLogger("near_monai")

#: A process holds about 1 GB.
MOST_WORKERS = 8


def refine_files(
    source: str | Path,
    output: str | Path,
    options: Options,
    quiet: bool = False,
    shard: tuple[int, int] | Shard = (0, 1),
    workers: int | None = None,
) -> Row:
    """Refine every case of ``source`` into ``output``; one bad case does not stop the others.

    Cases that an earlier run finished with the same options, weights and table, from files of the same bytes, are not
    computed again. Of all others nothing is left of what earlier runs wrote.

    Args:
        source: see :func:`near_monai.data.case_lists.find_cases`.
        output: folder to write to.
        options: how.
        quiet: no progress bar.
        shard: ``(i, n)``: only every n-th case, from case i on. Runs of all n shards may write to one folder at once.
        workers: processes; ``None`` for one per core on CPUs, if there are enough cases for them.

    Returns:
        What ``run.json`` holds: versions, options, number of cases (``of``) and, under ``cases``, name, status,
        seconds, components and volume before and after (of the refined class, on the grid of the input and of the
        output), what was added and removed, the label's estimated noise, findings with their places in world mm, and
        warnings. Under ``other_settings``: cases of which the folder holds results of other options or weights; under
        ``left_over``: names of results there of cases that ``source`` does not have (any more).

    Raises:
        NearError: no cases, unusable weights or device, ``output`` holds files of someone else, a process with other
            options works there, or it is not there any more in the end.
    """
    cases, output, part = find_cases(source), Path(output), Shard(*shard)
    _check_output(output, cases)
    sweep(output)
    here, anatomy = _checked(options)
    head, own = _head(source, options, here.device), part.of(cases)
    if part.size > 1:
        tqdm.write(part.line(len(own), len(cases)), file=sys.stderr)
    records = Records(output, f"shard-{part.rank}-of-{part.size}", _settings(options, anatomy))
    with records.claim():
        records.merge(head, cases)
        if options.label == ALL:
            write_tables(output, anatomy)
        finished = records.finished(own)
        if finished and not quiet:
            tqdm.write(f"{len(finished)} cases are finished already", file=sys.stderr)
        todo = records.risky_last(case for case in own if case.name not in finished)
        # the start of a process costs as much as a case or two
        workers = workers or min(_cores(here.device), len(todo) // 3)
        try:
            _refine_all(todo, records, output, here, workers, quiet)
        finally:
            run = records.merge(head, cases)
    if lost := _lost(own, run, output):
        raise NearError(
            f"{output}: was moved or deleted meanwhile, and lacks {some(lost)}; give the same command again"
        )
    return run


def _lost(cases: Sequence[Case], run: Row, output: Path) -> list[str]:
    """Names of ``cases`` that are not in a run that has just ended, or whose result is not there."""
    written = {row["name"]: row["written"] for row in run["cases"]} | {row["name"]: {} for row in run["other_settings"]}
    return [
        case.name
        for case in cases
        if case.name not in written or not all((output / file).is_file() for file in written[case.name])
    ]


def _checked(options: Options) -> tuple[Options, Anatomy]:
    """Options with the device that is there, and the table. What is wrong for every case is said once.

    Raises:
        NearError: unusable weights, table or device, or a structure that none of them knows.
    """
    for kept in (_kept_network, _anatomy):
        kept.cache_clear()  # the files may have changed since an earlier run
    anatomy, here = _anatomy(options.table), replace(options, device=str(pick_device(options.device)))
    network, _ = _kept_network(options.weights or shipped(VESSEL.weights), here.device)
    if options.structure is not None:
        given = network.description if options.weights else None
        named(options.structure, anatomy if options.table else None, given)
    return here, anatomy


def _refine_all(todo: list[Case], records: Records, output: Path, options: Options, workers: int, quiet: bool) -> None:
    """Refine cases in processes, and record what became of each."""
    work = partial(_refine, output=output, options=options)
    jobs = in_processes(todo, records.start, work, workers, partial(torch.set_num_threads, 1))
    for case, row in tqdm(jobs, desc="refine", unit="case", total=len(todo), disable=quiet or not todo):
        found = row or _killed(case, output)
        _tell(case, found, quiet)
        records.add(case, found)


def summary_of(run: Row, output: Path) -> str:
    """What came of a run, and where to look."""
    done = [row for row in run["cases"] if row["status"] == DONE]
    parts = [part for row in done for part in row.get("structures", [row])]
    bridges = sum(len(part["bridges"]) for part in parts)
    warned = sum(bool(row["warnings"]) for row in done)
    left = sum(any(part.get("left_as_it_was") for part in (row, *row.get("structures", ()))) for row in done)
    failed = sum(row["status"] == FAILED for row in run["cases"])
    line = f"{len(done)} of {run['of']} cases done, in {output} "
    line += f"(failed: {failed}, bridges: {bridges}, with warnings: {warned}, left as they were: {left})"
    if others := len(run["other_settings"]):
        line += f"; {others} there are of other options or weights"
    if over := run["left_over"]:
        line += f"; also there, of cases that are not in the input: {some(over)}"
    seen = output / REPORT_FILE
    look = f"look at {seen}" if seen.is_file() else f"near-monai report {output} shows what changed"
    return f"{line}\n{look}; {output / RUN_FILE} lists it" if done else line


def _settings(options: Options, anatomy: Anatomy) -> Row:
    """Everything that decides what a result looks like: files by what they hold, not by where they lie."""
    return {
        "version": __version__,
        "options": asdict(replace(options, weights=None, table=None)),
        "weights_and_table": identity(options.weights, anatomy),
    }


def _head(source: str | Path, options: Options, device: str) -> Row:
    """What ``run.json`` says of a run as a whole."""
    return {
        "versions": {"near_monai": __version__, "monai": monai.__version__, "torch": torch.__version__},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": str(source),
        "options": asdict(options),
        "device": str(pick_device(device)),
    }


def _tell(case: Case, row: Row, quiet: bool) -> None:
    """What went wrong with a case, or may have, on stderr."""
    if "message" in row:
        tqdm.write(printable(f"{case.name}: {row['message']}"), file=sys.stderr)
    elif row["warnings"] and not quiet:
        tqdm.write(printable(f"{case.name}: warning: {'; '.join(row['warnings'])}"), file=sys.stderr)


def _refine(case: Case, known: dict[str, str] | None, output: Path, options: Options) -> Row:
    """The row of one case; nothing that can happen to it is raised.

    ``known`` are the files of an older result, see :func:`near_monai.runs.case_results.clear`.
    """
    start = time.perf_counter()
    row = _failed(case, output)
    try:
        for path in clear(case, output, known):
            logger.warning("%s: was changed since it was written; it is kept as %s", case.name, path)
        try:
            row |= _done(case, output, options)
            if fingerprint(case.label) != row["input_state"]:
                raise NearError(f"{case.label}: was changed while it was refined; refine it again")
            row |= {"status": DONE, "written": written(case, output)}
        except Exception:
            clear(case, output, None)  # half of a result is none
            raise
    except NearError as error:
        row = _failed(case, output) | {"message": str(error)}
    except Exception as error:  # whatever it is: one bad case does not stop the others
        row = _failed(case, output) | {"message": in_one_line(error)}
    return row | {"seconds": round(time.perf_counter() - start, 3)}


def _done(case: Case, output: Path, options: Options) -> Row:
    """Refine a case; what its row says of the result."""
    refine: Callable[..., Row] = refine_all_classes if options.label == ALL else refine_one_class
    return refine(case, output, options, lambda w: _kept_network(w, options.device), _anatomy(options.table))


def _failed(case: Case, output: Path) -> Row:
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


def _killed(case: Case, output: Path) -> Row:
    """The row of a case whose process was killed, alone, too."""
    message = "its process was killed twice, the second time alone (out of memory?); the same command tries it last"
    try:
        clear(case, output, None)
    except OSError as error:
        message += f"; what it left cannot be removed ({error.strerror})"
    return _failed(case, output) | {"message": message}


@cache
def _kept_network(weights: str | Path, device: str) -> tuple[NearNetwork, WorkingSpace]:
    return load_network(weights, device)


_anatomy = cache(table_of)


def _cores(device: str) -> int:
    if pick_device(device).type != "cpu" or local_rank() is not None:
        return 1  # a GPU is busy with one process; a launcher starts as many as are wanted
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
