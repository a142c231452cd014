"""A finished run, seen again: what was edited in every case, and single edits taken back."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from near_monai.data.case_lists import file_of
from near_monai.data.class_selection import OneClass, recorded_class
from near_monai.data.fingerprints import fingerprint
from near_monai.data.run_layout import BRIDGE_FOLDER, REVIEW_FOLDER, RUN_FILE
from near_monai.errors import NearError, some
from near_monai.formats.label_maps import LabelMap, read_label, write_label
from near_monai.geometry.world_places import world_mm
from near_monai.review.edit_decisions import Decision, Rejected, read_decisions, write_decisions
from near_monai.review.undoable_edits import Edit, find_edits, take_back
from near_monai.runs.run_records import DONE, Row

logger = logging.getLogger("near_monai")


@dataclass(frozen=True)
class ReviewedCase:
    """One finished case of a run: the files before and after, and what differs.

    Attributes:
        folder: folder of the run.
        row: its row of ``run.json``.
    """

    folder: Path
    row: Row

    @cached_property
    def source(self) -> Path:
        """The label map that was refined: where it was or, if run and input were moved together, beside the run.

        Raises:
            NearError: it is not there any more, or not as it was.
        """
        there = [Path(self.row["input"])]
        if self.row.get("input_from_here"):
            there.append(Path(os.path.normpath(self.folder.absolute() / self.row["input_from_here"])))
        for path in there:
            if fingerprint(path) == self.row["input_state"]:
                return path
        changed = [path for path in there if path.is_file()]
        if changed:
            raise NearError(f"{changed[0]}: was changed since it was refined; refine it again")
        names = " or ".join(dict.fromkeys(map(str, there)))
        raise NearError(f"{names}: is gone, and was refined to {self.result}; put it back, or refine again")

    @property
    def file(self) -> str:
        """Its label maps in the folders of results."""
        return file_of(self.row["name"], Path(self.row["input"]))

    @property
    def result(self) -> Path:
        """The refined label map."""
        return self.folder / self.file

    @property
    def scales(self) -> dict[OneClass, float]:
        """The scale of every class that was refined."""
        return {recorded_class(part["label"]): part["scale"] for part in self.row.get("structures", [self.row])}

    def check(self) -> None:
        """Refuse a case of which a file is not as it was.

        Raises:
            NearError: see :attr:`source` and :attr:`after`.
        """
        _ = self.source
        for name in self.row["written"]:
            self._check_written(name)

    @cached_property
    def before(self) -> LabelMap:
        """The label map.

        Raises:
            NearError: see :attr:`source`, or it cannot be read.
        """
        return read_label(self.source)

    @cached_property
    def after(self) -> LabelMap:
        """The refined label map.

        Raises:
            NearError: it is not there, not as it was written, or on a grid of its own.
        """
        self._check_written(self.file)
        after = read_label(self.result)
        if not after.on_grid_of(self.before):
            raise NearError(f"{self.result}: is on a grid of its own (--resolution); refine without that to review")
        return after

    @cached_property
    def edits(self) -> list[Edit]:
        """See :func:`near_monai.review.undoable_edits.find_edits`."""
        name = f"{BRIDGE_FOLDER}/{self.file}"
        bridges: NDArray[np.uint8] | None = None
        if name in self.row["written"]:
            self._check_written(name)
            bridges = read_label(self.folder / name).array
        return find_edits(self.before.array, self.after.array, bridges, self.before.grid, self.scales)

    def _check_written(self, name: str) -> None:
        """Refuse a file of the result that is not as the row says: the row is not about it."""
        path = self.folder / name
        if fingerprint(path) != self.row["written"].get(name):
            state = "was changed since it was written" if path.is_file() else "is gone"
            raise NearError(f"{path}: {state}; refine again")


def read_run(folder: Path) -> dict[str, Any]:
    """``run.json`` of a finished or running refinement.

    Raises:
        NearError: it is not there, or not one of ours.
    """
    path = folder / RUN_FILE
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NearError(f"{path}: cannot be read ({error.strerror}); give the folder that refine wrote to") from error
    except ValueError as error:
        raise NearError(f"{path}: is not JSON; refine again") from error
    rows = run.get("cases") if isinstance(run, dict) else None
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise NearError(f"{path}: holds no cases of this version of near-monai; refine again")
    return run


def _is_row(row: object) -> bool:
    if not isinstance(row, dict) or not {"name", "status", "input", "input_state", "written"} <= row.keys():
        return False
    return row["status"] != DONE or all("scale" in part for part in row.get("structures", [row]))


def finished_cases(folder: Path, run: dict[str, Any]) -> Iterator[ReviewedCase]:
    """The cases of ``run`` that have a result."""
    return (ReviewedCase(folder, row) for row in run["cases"] if row["status"] == DONE)


def apply_review(folder: Path, reject: Iterable[str], accept: Iterable[str] = ()) -> dict[str, list[str]]:
    """Write every finished case of a run to ``reviewed/`` in its folder, without the edits that were rejected.

    What earlier calls rejected stays rejected as long as there is that very edit, whatever run or version finds it. The
    run itself and its input stay as they are, so that every edit can be taken back and put in again.

    Args:
        folder: folder of the run.
        reject: edits to take back, as ``CASE/LABEL/EDIT``, for instance ``"patient 7/9/B-3f2c07"``.
        accept: edits that earlier calls rejected, to put in again.

    Returns:
        Per case the names of all edits that are rejected now.

    Raises:
        NearError: no such run, case or edit (nothing is written then), or the files of some cases cannot be read or
            written (the others are).
    """
    rows = {case.row["name"]: case.row for case in finished_cases(folder, read_run(folder))}
    back, again = _by_case(reject, rows), _by_case(accept, rows)
    for name in sorted({*back, *again}):
        _check_there(ReviewedCase(folder, rows[name]), back.get(name, []) + again.get(name, []))
    decisions, failed = read_decisions(folder), []
    for name, row in rows.items():
        case = ReviewedCase(folder, row)
        try:
            edits = _rejected(case, decisions.get(name), back.get(name, []), again.get(name, []))
            decisions[name] = _write_case(case, edits)
        except NearError as error:  # what an earlier call decided and wrote of it stays
            logger.error("%s", error)
            failed.append(name)
    write_decisions(folder, decisions.values())
    if failed:
        raise NearError(f"{len(failed)} of {len(rows)} cases could not be written, the others were: {some(failed)}")
    return {name: names for name in sorted(rows) if (names := [edit.name for edit in decisions[name].rejected])}


def _check_there(case: ReviewedCase, names: Iterable[str]) -> None:
    known, name = [edit.name for edit in case.edits], case.row["name"]
    for edit in names:
        if edit not in known:
            raise NearError(f"{name}/{edit}: no such edit in this result; {name} has {some(known) or 'none'}")


def _rejected(case: ReviewedCase, before: Decision | None, back: list[str], again: list[str]) -> list[Edit]:
    """The edits of a case that are rejected now: those from ``before`` and ``back``, without ``again``."""
    earlier = before.rejected if before else ()
    if not earlier and not back:
        return []
    there = {edit.identity for edit in case.edits}
    for gone in (rejected for rejected in earlier if rejected.identity not in there):
        logger.warning("%s was refined again since: %s is no edit of it any more", case.row["name"], gone)
    known = {rejected.identity for rejected in earlier}
    return [e for e in case.edits if (e.identity in known or e.name in back) and e.name not in again]


def _write_case(case: ReviewedCase, edits: list[Edit]) -> Decision:
    """Write a case without these edits; what was decided of it."""
    array = take_back(case.before.array, case.after.array, edits)
    write_label(case.folder / REVIEW_FOLDER / case.file, array, case.after)
    grid, affine = case.before.grid, case.before.affine
    rejected = tuple(Rejected.of(edit, world_mm(edit.place, grid, affine)) for edit in edits)
    return Decision(case.row["name"], case.row["written"][case.file], rejected)


def _by_case(chosen: Iterable[str], rows: dict[str, Row]) -> dict[str, list[str]]:
    """Names of edits per case of ``CASE/LABEL/EDIT``; neither LABEL nor EDIT holds a slash."""
    found: dict[str, list[str]] = {}
    for text in chosen:
        name, *edit = text.rsplit("/", 2)
        if name not in rows or len(edit) != 2:
            raise NearError(f"{text!r}: expected CASE/LABEL/EDIT of a finished case, as the report names it")
        found.setdefault(name, []).append("/".join(edit))
    return found
