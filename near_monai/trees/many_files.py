"""The trees of many files: shared among processes, one bad case stops none, finished ones are not computed again."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from near_monai.anatomy import table_of
from near_monai.data.case_lists import Case, find_cases
from near_monai.data.class_selection import Wanted
from near_monai.data.run_layout import BRANCHES_FILE, NAME_FOLDER, SIDE_FOLDER, TREES_FILE
from near_monai.data.shards import Shard
from near_monai.errors import NearError
from near_monai.formats.label_maps import LabelMap, read_label, write_label
from near_monai.runs.case_results import clear, written
from near_monai.runs.run_records import DONE, Kept, Row
from near_monai.runs.shared_run import KILLED, Task, attempted, run_cases, unfinished
from near_monai.trees.one_map import Found, name_map, side_map, trees_in
from near_monai.trees.tree_files import write_centrelines, write_table, write_trees
from near_monai.version import __version__

logger = logging.getLogger("near_monai")

#: What is said of an empty map.
EMPTY = "the label map is empty, and has no tree"


def results_of(case: Case) -> tuple[str, ...]:
    """Every file that may be written of a case, relative to the folder of the run, the trees first."""
    return f"{case.name}.json", f"{case.name}.vtp", f"{SIDE_FOLDER}/{case.file}", f"{NAME_FOLDER}/{case.file}"


def write_all(
    source: str | Path,
    output: str | Path,
    label: Wanted,
    table: str | None = None,
    with_labels: bool = False,
    quiet: bool = False,
    shard: tuple[int, int] | Shard = (0, 1),
    workers: int | None = None,
) -> Row:
    """Write the trees of every case of ``source`` into ``output``; one bad case does not stop the others.

    Args:
        source: see :func:`near_monai.data.case_lists.find_cases`.
        output: folder to write to: ``CASE.json`` and ``CASE.vtp``, ``branches.csv`` and ``trees.json``.
        label: the class.
        table: anatomy table; ``None`` for the heart's.
        with_labels: also write ``sides/CASE``: 1 in the left tree, 2 in the right one, 3 where the side is not known;
            and, if vessels have names, ``names/CASE``.
        quiet: no progress bar.
        shard: ``(i, n)``: only every n-th case, from case i on.
        workers: processes; ``None`` for one per core, if there are enough cases for them.

    Returns:
        What ``trees.json`` holds.

    Raises:
        NearError: no cases, or ``output`` holds files of someone else.
    """
    cases, output = find_cases(source), Path(output)
    _check_output(output, cases)
    numbers = [(structure.name, structure.index) for structure in _anatomy(table).structures]
    options = {"label": label, "table": table, "write_labels": with_labels}
    task = Task(
        "tree",
        {
            "versions": {"near_monai": __version__},
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "source": str(source),
            "options": options,
        },
        {
            "version": __version__,
            "options": options | {"table": numbers},
        },
        "cpu",
        partial(_row, output=output, label=label, table=table, with_labels=with_labels),
        partial(_killed, output=output),
        kept=Kept(TREES_FILE, BRANCHES_FILE, results_of, _with_table),
    )
    return run_cases(task, cases, output, Shard(*shard), workers, quiet)


def _row(
    case: Case, known: dict[str, str] | None, output: Path, label: Wanted, table: str | None, with_labels: bool
) -> Row:
    """The row of one case; nothing that can happen to it is raised."""

    def make() -> Row:
        for path in clear(case, output, known, results_of):
            logger.warning("%s: was changed since it was written; it is kept as %s", case.name, path)
        row = _write_one(case, output, label, table, with_labels)
        return row | {"written": written(case, output, results_of)}

    undo = partial(clear, case, output, None, results_of)
    return attempted(case, output, "measured; give the same command again", make, undo)


def _write_one(case: Case, output: Path, label: Wanted, table: str | None, with_labels: bool) -> Row:
    file = read_label(case.label)
    empty = not file.array.any()
    found = Found([], [], 0, None) if empty else trees_in(file, label, _anatomy(table), str(case.label))
    json_file, vtp_file, side_file, name_file = (output / name for name in results_of(case))
    write_trees(json_file, found.trees, _head(case, found))
    write_centrelines(vtp_file, found.trees)
    if with_labels:
        plain = LabelMap.from_array(file.array, file.affine, file.path, file.unnamed().header, file.ones)
        write_label(side_file, side_map(found, file.array.shape), plain)
        if (names := name_map(found, file)) is not None:
            write_label(name_file, names, plain)
    return {
        "label": found.label,
        "trees": len(found.trees),
        "sides": [tree.side for tree in found.trees if tree.side],
        "branches": sum(len(tree.branches) for tree in found.trees),
        "length_mm": round(sum(tree.length for tree in found.trees), 1),
        "warnings": [*file.warnings, EMPTY] if empty else file.warnings,
    }


def _head(case: Case, found: Found) -> dict[str, Any]:
    return {
        "case": case.name,
        "label": found.label,
        "units": "mm",
        "space": "RAS",
        "left_out": found.left_out,
    }


def _with_table(output: Path, run: Row) -> Row:
    """Write the table of all branches beside the list of cases; a file that somebody took away is made anew later."""
    done = [(row["name"], output / f"{row['name']}.json") for row in run["cases"] if row["status"] == DONE]
    there = ((name, json.loads(path.read_text(encoding="utf-8"))) for name, path in done if path.is_file())
    write_table(output / BRANCHES_FILE, there)
    return run


def _killed(case: Case, output: Path) -> Row:
    """The row of a case whose process was killed, alone, too."""
    clear(case, output, None, results_of)
    return unfinished(case, output) | {"message": KILLED}


def _check_output(output: Path, cases: list[Case]) -> None:
    """Refuse a folder in which writing would replace files that an earlier run of ours did not make."""
    if taken := [case.name for case in cases if f"{case.name}.json" == TREES_FILE]:
        raise NearError(f"{taken[0]}: a case of that name would replace {TREES_FILE}; rename it")
    if (output / TREES_FILE).is_file():
        return
    taken = [name for case in cases for name in results_of(case) if (output / name).exists()]
    if taken:
        raise NearError(
            f"{output}: already holds {taken[0]}, and no {TREES_FILE} that says it was written here; give an empty "
            "folder"
        )


_anatomy = cache(table_of)
