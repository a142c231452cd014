"""What a run has done: one line per case and process while it runs, one ``run.json`` of all of them when it ends.

Every process of a run appends to a file of its own (``.records/SHARD.jsonl``), a line when a case is finished: the cost
of a record does not grow with the number of cases, and a killed job loses at most the line that it was writing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from near_monai.cases import Case
from near_monai.errors import NearError
from near_monai.layout import RUN_FILE
from near_monai.storage import fingerprint, make_folder, to_json, write_json

RECORD_FOLDER = ".records"
DONE, FAILED = "done", "failed"

Row = dict[str, Any]


class Records:
    """Rows of the cases of a run, in a folder.

    Args:
        folder: where the run writes.
        shard: name of this process among those of the run.
        settings: whatever decides what a result looks like; a row counts for the same settings and input file only.
    """

    def __init__(self, folder: Path, shard: str, settings: Any) -> None:
        self.folder = folder
        self.path = folder / RECORD_FOLDER / f"{shard}.jsonl"
        self.settings = settings

    def add(self, case: Case, row: Row) -> None:
        """Append a row; it is on disk when this returns.

        Raises:
            NearError: it cannot be written.
        """
        line = json.dumps(to_json(row | {"key": fingerprint(case.label, self.settings)}), allow_nan=False)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" + line)  # a killed process may have left half a line
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise NearError(f"{self.path}: cannot be written ({error.strerror})") from error

    def rows(self) -> dict[str, Row]:
        """The last row of every case, of all processes."""
        found: dict[str, Row] = {}
        for path in sorted((self.folder / RECORD_FOLDER).glob("*.jsonl"), key=lambda p: p.stat().st_mtime_ns):
            found.update((row["name"], row) for row in _lines(path))
        return found

    def finished(self, cases: Iterable[Case]) -> set[str]:
        """Names of the cases whose result is there already, made from the same file with the same settings."""
        there = ((case, row) for case, row in self._current(cases) if row["status"] == DONE)
        return {case.name for case, _ in there if (self.folder / case.file).is_file()}

    def _current(self, cases: Iterable[Case]) -> Iterator[tuple[Case, Row]]:
        """The cases that have a row for these settings and the present state of their files, with it."""
        rows = self.rows()
        for case in cases:
            row = rows.get(case.name)
            if row is not None and row["key"] == fingerprint(case.label, self.settings):
                yield case, row

    def merge(self, head: Row, cases: Iterable[Case]) -> Row:
        """Write ``run.json``: ``head`` and, under ``cases``, the rows that there are of ``cases``, sorted by name.

        Processes that end at the same time wait for each other, so that the last one to write has seen all rows.
        """
        lock = self.path.parent / "lock"
        make_folder(lock.parent)
        with FileLock(lock):
            rows = [{k: v for k, v in row.items() if k != "key"} for _, row in self._current(cases)]
            run = head | {"cases": rows}
            write_json(self.folder / RUN_FILE, run)
        return run


def _lines(path: Path) -> Iterator[Row]:
    """The whole lines of a record file; one that a killed process left half-written does not count."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and all(isinstance(row.get(key), str) for key in ("name", "status", "key")):
            yield row
