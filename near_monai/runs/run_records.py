"""What a run has done: rows of its cases while it runs, one ``run.json`` of all of them when it ends.

Every process of a run appends to a file of its own (``.records/SHARD.jsonl``): a row that says ``running`` before
anything of an older result is touched, and one when the case is finished. The cost of a record does not grow with the
number of cases, and a killed job loses at most the line that it was writing.

A row belongs to bytes: it says what the input held, what settings made the result, and what every file of the result
held when it was written. Where a file lies and when it was touched does not count.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from near_monai.data.case_lists import Case
from near_monai.data.fingerprints import fingerprint
from near_monai.data.run_layout import REPORT_FILE, RUN_FILE
from near_monai.errors import NearError
from near_monai.formats.atomic_writing import digest, locked, make_folder, to_json, write_json
from near_monai.runs.case_results import results_of

RECORD_FOLDER = ".records"
RUNNING, DONE, FAILED = "running", "done", "failed"
#: What a row of a record file has beyond one of ``run.json``, where it is said once for all cases.
RECORDED = ("key", "settings", "order", "time")
#: What ``run.json`` says of a case that was made with other settings.
OTHERS = ("name", "status", "settings")

Row = dict[str, Any]


class Kept(NamedTuple):
    """What a kind of run leaves in its folder.

    Attributes:
        run: file that lists its cases.
        page: file that shows them to a person.
        results: the files of a case, that which is always there first; none if its row is all there is of it.
        complete: gets the folder and what the file is to list, and gives that with what the cases say together.
    """

    run: str
    page: str
    results: Callable[[Case], tuple[str, ...]]
    complete: Callable[[Path, Row], Row] = lambda folder, run: run


REFINED = Kept(RUN_FILE, REPORT_FILE, results_of)


class Records:
    """Rows of the cases of a run, in a folder.

    Args:
        folder: where the run writes.
        shard: name of this process among those of the run.
        settings: whatever decides what a result looks like, as JSON; a row counts for the same settings only.
        kept: what the run leaves there.
    """

    def __init__(self, folder: Path, shard: str, settings: Any, kept: Kept = REFINED) -> None:
        self.folder = folder
        self.kept = kept
        self.path = folder / RECORD_FOLDER / f"{shard}.jsonl"
        self.settings = to_json(settings)
        self.key = digest(settings)
        self._known = self.rows()
        self._order = max((row["order"] for row in self._known.values()), default=0)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """The folder for processes of these settings: what another one writes meanwhile would get rows of this one.

        Raises:
            NearError: a process with other settings works there.
        """
        own = FileLock(self.path.with_suffix(f".{self.key}.busy"), timeout=0)
        with locked(self.path.parent / "lock"):
            for path in self.path.parent.glob("*.busy"):
                if not path.stem.endswith(self.key) and _is_held(path):
                    raise NearError(
                        f"{self.folder}: another process refines into it with other options or weights; wait for it, "
                        f"give another folder or, if there is none, delete {path}"
                    )
            held = _acquired(own)
        try:
            yield
        finally:
            if held:
                own.release()
                Path(own.lock_file).unlink(missing_ok=True)

    def start(self, case: Case) -> dict[str, str] | None:
        """Write that a case is ``running``; a report of what was there before is one no more.

        Returns:
            Fingerprints of the files of its result as the last run wrote them; ``None`` if that run was killed.

        Raises:
            NearError: it cannot be written.
        """
        before = self.left_by_last(case)
        self.add(case, {"name": case.name, "status": RUNNING, "input": case.label.absolute()})
        self._drop_report()
        return before

    def left_by_last(self, case: Case) -> dict[str, str] | None:
        """What :meth:`start` returns, while nothing is written."""
        before = self._known.get(case.name, {"status": "", "written": {}})
        return None if before["status"] == RUNNING else before["written"]

    def add(self, case: Case, row: Row) -> None:
        """Append a row; it is on disk when this returns.

        Raises:
            NearError: it cannot be written.
        """
        self._order = max(time.time_ns(), self._order + 1)  # a clock may be set back
        stamp = {"order": self._order, "time": datetime.now(UTC).isoformat()}
        whole: Any = to_json({"input_state": "", "written": {}} | row | stamp | {"key": self.key})
        line = json.dumps(whole | {"settings": self.settings}, allow_nan=False)
        make_folder(self.path.parent)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" + line + "\n")  # a killed process may have left half a line
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise NearError(f"{self.path}: cannot be written ({error.strerror})") from error
        self._known[case.name] = whole

    def rows(self) -> dict[str, Row]:
        """The last row of every case, of all processes, by the order that the rows themselves say."""
        paths = sorted((self.folder / RECORD_FOLDER).glob("*.jsonl"))
        rows = sorted((row for path in paths for row in _lines(path)), key=lambda row: row["order"])
        return {row["name"]: row for row in rows}

    def finished(self, cases: Iterable[Case]) -> set[str]:
        """Names of the cases whose result is there as it was written, made of the same bytes with the same settings."""
        rows = self.rows()
        return {case.name for case in cases if case.name in rows and self._holds(rows[case.name], case)}

    def risky_last(self, cases: Iterable[Case]) -> list[Case]:
        """``cases``, those last that did not come to an end when they were tried: they may bring down the process."""
        rows = self.rows()
        return sorted(cases, key=lambda case: rows.get(case.name, {"status": DONE})["status"] != DONE)

    def merge(self, head: Row, cases: Sequence[Case]) -> Row:
        """Write the list of cases: ``head``; the rows of ``cases`` made with these settings; and what else is there.

        Processes that end at the same time wait for each other, so that the last one to write has seen all rows.
        """
        with locked(self.path.parent / "lock"):
            rows = self.rows()
            there = [rows[case.name] for case in cases if case.name in rows]
            own = [_short(row) for row in there if row["key"] == self.key]
            others = [{key: row.get(key) for key in OTHERS} for row in there if row["key"] != self.key]
            left = self._left_over(rows, {case.name for case in cases})
            run = head | {"of": len(cases), "cases": own, "other_settings": others, "left_over": left}
            if _rows_of(self.folder / self.kept.run) != own:
                self._drop_report()
            run = self.kept.complete(self.folder, run)
            write_json(self.folder / self.kept.run, run)
        return run

    def _left_over(self, rows: dict[str, Row], known: set[str]) -> list[str]:
        """Names of cases that the input does not have (any more), of which the folder holds results."""
        there = (name for name, row in rows.items() if any((self.folder / file).is_file() for file in row["written"]))
        return sorted(set(there) - known)

    def _holds(self, row: Row, case: Case) -> bool:
        """Whether a row says that a case is done, and everything that it says is so."""
        names = self.kept.results(case)
        return (
            row["status"] == DONE
            and row["key"] == self.key
            and all(name in row["written"] for name in names[:1])
            and row["input_state"] == fingerprint(case.label)
            and all(n in names and fingerprint(self.folder / n) == state for n, state in row["written"].items())
        )

    def _drop_report(self) -> None:
        (self.folder / self.kept.page).unlink(missing_ok=True)


def _acquired(lock: FileLock) -> bool:
    """Whether ``lock`` is this process's now; where a file system has no locks, nobody has any."""
    try:
        lock.acquire()
    except (Timeout, OSError, NotImplementedError):
        return False
    return True


def _is_held(path: Path) -> bool:
    """Whether a live process holds a lock; one that a killed process left is removed."""
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False
    lock.release()
    path.unlink(missing_ok=True)
    return False


def _short(row: Row) -> Row:
    return {key: value for key, value in row.items() if key not in RECORDED}


def _rows_of(path: Path) -> object:
    """What an earlier ``run.json`` lists; nothing if it is not there or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["cases"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _lines(path: Path) -> Iterator[Row]:
    """The whole lines of a record file; half of one, which a killed process left, and what is none do not count."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if _is_row(row):
            yield row


def _is_row(row: object) -> bool:
    return (
        isinstance(row, dict)
        and all(isinstance(row.get(key), str) for key in ("name", "status", "key", "input_state"))
        and type(row.get("order")) is int
        and isinstance(row.get("written"), dict)
        and all(isinstance(state, str) for state in row["written"].values())
    )
