"""Refinement of many files: shared among processes, one bad case stops none, finished ones are not computed again."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

import torch

from near_monai.anatomy import VESSEL, Anatomy, table_of
from near_monai.data.case_lists import Case, find_cases
from near_monai.data.class_selection import ALL
from near_monai.data.colour_tables import ITKSNAP_FILE, SLICER_FILE, write_tables
from near_monai.data.run_layout import REPORT_FILE, RESULT_FOLDERS, RUN_FILE
from near_monai.data.shards import Shard
from near_monai.errors import NearError, some
from near_monai.networks.weight_files import identity, load_network, pick_device, shipped
from near_monai.refinement.class_meaning import named
from near_monai.refinement.one_file import refine_all_classes, refine_one_class
from near_monai.refinement.options import Options
from near_monai.runs.case_results import clear, folders, written
from near_monai.runs.run_records import DONE, FAILED, Row
from near_monai.runs.shared_run import KILLED, Task, attempted, run_cases, unfinished
from near_monai.version import __version__

logger = logging.getLogger("near_monai")


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
    here, anatomy = _checked(options)
    task = Task(
        "refine",
        head_of(source, options, here.device),
        _settings(options, anatomy),
        here.device,
        partial(_refine, output=output, options=here),
        partial(_killed, output=output),
        begin=partial(write_tables, output, anatomy) if options.label is ALL else lambda: None,
    )
    run = run_cases(task, cases, output, part, workers, quiet)
    if lost := _lost(part.of(cases), run, output):
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


def head_of(source: str | Path, options: Options, device: str) -> Row:
    """What is said of a run as a whole."""
    return {
        "versions": {"near_monai": __version__, "monai": version("monai"), "torch": torch.__version__},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": str(source),
        "options": asdict(options),
        "device": str(pick_device(device)),
    }


def _refine(case: Case, known: dict[str, str] | None, output: Path, options: Options) -> Row:
    """The row of one case; nothing that can happen to it is raised.

    ``known`` are the files of an older result, see :func:`near_monai.runs.case_results.clear`.
    """

    def make() -> Row:
        for path in clear(case, output, known):
            logger.warning("%s: was changed since it was written; it is kept as %s", case.name, path)
        row = _done(case, output, options)
        return row | {"written": written(case, output)}

    return attempted(case, output, "refined; refine it again", make, partial(clear, case, output, None))


def _done(case: Case, output: Path, options: Options) -> Row:
    """Refine a case; what its row says of the result."""
    refine: Callable[..., Row] = refine_all_classes if options.label is ALL else refine_one_class
    return refine(case, output, options, lambda w: _kept_network(w, options.device), _anatomy(options.table))


def _killed(case: Case, output: Path) -> Row:
    """The row of a case whose process was killed, alone, too."""
    message = KILLED
    try:
        clear(case, output, None)
    except OSError as error:
        message += f"; what it left cannot be removed ({error.strerror})"
    return unfinished(case, output) | {"message": message}


_kept_network = cache(load_network)
_anatomy = cache(table_of)


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
