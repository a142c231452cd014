"""A finished run, seen again: what was edited in every case, and single edits taken back."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from near_monai.cases import file_of
from near_monai.edits import Edit, find_edits, take_back
from near_monai.errors import NearError, some
from near_monai.io import LabelMap, read_label, write_label
from near_monai.layout import BRIDGE_FOLDER, REVIEW_FOLDER
from near_monai.records import DONE, RUN_FILE, Row
from near_monai.storage import fingerprint, write_json

logger = logging.getLogger("near_monai")

REVIEW_FILE = "review.json"


@dataclass(frozen=True)
class ReviewedCase:
    """One finished case of a run: the files before and after, and what differs.

    Attributes:
        folder: folder of the run.
        row: its row of ``run.json``.
    """

    folder: Path
    row: Row

    @property
    def source(self) -> Path:
        """The label map that was refined."""
        return Path(self.row["input"])

    @property
    def file(self) -> str:
        """Its label maps in the folders of results."""
        return file_of(self.row["name"], self.source)

    @property
    def result(self) -> Path:
        """The refined label map."""
        return self.folder / self.file

    @property
    def scales(self) -> dict[int | str, float]:
        """The scale of every class that was refined."""
        return {part["label"]: part["scale"] for part in self.row.get("structures", [self.row])}

    @cached_property
    def before(self) -> LabelMap:
        """The label map.

        Raises:
            NearError: it is not there any more, or not as it was.
        """
        if fingerprint(self.source, None) != self.row["input_state"]:
            raise NearError(f"{self.source}: is gone or was changed since it was refined; refine it again")
        return read_label(self.source)

    @cached_property
    def after(self) -> LabelMap:
        """The refined label map.

        Raises:
            NearError: it is not there, damaged, or on a grid of its own.
        """
        after = read_label(self.result)
        if not after.on_grid_of(self.before):
            raise NearError(f"{self.result}: is on a grid of its own (--resolution); refine without that to review")
        return after

    @cached_property
    def edits(self) -> list[Edit]:
        """See :func:`near_monai.edits.find_edits`."""
        path = self.folder / BRIDGE_FOLDER / self.file
        bridges: NDArray[np.uint8] | None = read_label(path).array if path.is_file() else None
        return find_edits(self.before.array, self.after.array, bridges, self.before.grid, self.scales)


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
    if not isinstance(row, dict) or not {"name", "status", "input", "input_state"} <= row.keys():
        return False
    return row["status"] != DONE or all("scale" in part for part in row.get("structures", [row]))


def finished_cases(folder: Path, run: dict[str, Any]) -> Iterator[ReviewedCase]:
    """The cases of ``run`` that have a result."""
    return (ReviewedCase(folder, row) for row in run["cases"] if row["status"] == DONE)


def rejected_in(folder: Path) -> dict[str, list[str]]:
    """Per case the names of the edits that earlier reviews of the run in ``folder`` took back.

    Those of a case that was refined again since are gone: its edits are others.

    Raises:
        NearError: the file that holds them is damaged.
    """
    return {row["name"]: row["rejected"] for row in _recorded(folder)}


def _recorded(folder: Path) -> list[Row]:
    """The cases of ``review.json``, as :func:`apply_review` writes them, without those that were refined again."""
    path = folder / REVIEW_FOLDER / REVIEW_FILE
    if not path.is_file():
        return []
    try:
        listed: list[Row] = json.loads(path.read_text(encoding="utf-8"))["cases"]
        rows = [{key: row[key] for key in ("name", "file", "state", "rejected")} for row in listed]
        now = [fingerprint(folder / row["file"], None) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise NearError(f"{path}: is damaged; delete it to review anew") from error
    for row, state in zip(rows, now, strict=True):
        if state != row["state"]:
            logger.warning(f"{path}: {row['name']} was refined again since; none of its edits is rejected any more")
    return [row for row, state in zip(rows, now, strict=True) if state == row["state"]]


def apply_review(folder: Path, reject: Iterable[str], accept: Iterable[str] = ()) -> dict[str, list[str]]:
    """Write every finished case of a run to ``reviewed/`` in its folder, without the edits that were rejected.

    What earlier calls rejected stays rejected. The run itself and its input stay as they are, so that every edit can be
    taken back and put in again.

    Args:
        folder: folder of the run.
        reject: edits to take back, as ``CASE/LABEL/EDIT``, for instance ``"patient 7/9/B1"``.
        accept: edits that earlier calls rejected, to put in again.

    Returns:
        Per case the names of all edits that are rejected now.

    Raises:
        NearError: no such run, case or edit (nothing is written then), or the files of some cases cannot be read or
            written (the others are).
    """
    rows = {case.row["name"]: case.row for case in finished_cases(folder, read_run(folder))}
    recorded = _recorded(folder)
    rejected = {row["name"]: set(row["rejected"]) for row in recorded if row["name"] in rows}
    for put, chosen in ((set.add, reject), (set.discard, accept)):
        for name, edits in _by_case(chosen, rows).items():
            known = [edit.name for edit in ReviewedCase(folder, rows[name]).edits]
            for edit in edits:
                if edit not in known:
                    raise NearError(f"{name}/{edit}: no such edit; {name} has {', '.join(known) or 'none'}")
                put(rejected.setdefault(name, set()), edit)
    kept = {name: sorted(edits) for name, edits in sorted(rejected.items()) if edits}
    failed = []
    for name, row in rows.items():
        try:
            _write_case(ReviewedCase(folder, row), kept.get(name, []))
        except NearError as error:  # nothing of it was chosen now: what an earlier call wrote of it stays
            logger.error("%s", error)
            failed.append(name)
    files = {name: ReviewedCase(folder, rows[name]).file for name in kept}
    states = [
        {"name": name, "file": file, "state": fingerprint(folder / file, None), "rejected": kept[name]}
        for name, file in files.items()
    ]
    others = [row for row in recorded if row["name"] not in rows]  # refined into this folder by another command
    write_json(folder / REVIEW_FOLDER / REVIEW_FILE, {"cases": states + others})
    if failed:
        raise NearError(f"{len(failed)} of {len(rows)} cases could not be written, the others were: {some(failed)}")
    return kept


def _write_case(case: ReviewedCase, rejected: list[str]) -> None:
    """Write a case without the edits of these names."""
    chosen = [edit for edit in case.edits if edit.name in rejected] if rejected else []
    array = take_back(case.before.array, case.after.array, chosen)
    write_label(case.folder / REVIEW_FOLDER / case.file, array, case.after)


def _by_case(chosen: Iterable[str], rows: dict[str, Row]) -> dict[str, list[str]]:
    """Names of edits per case of ``CASE/LABEL/EDIT``; neither LABEL nor EDIT holds a slash."""
    found: dict[str, list[str]] = {}
    for text in chosen:
        name, *edit = text.rsplit("/", 2)
        if name not in rows or len(edit) != 2:
            raise NearError(f"{text!r}: expected CASE/LABEL/EDIT of a finished case, as the report names it")
        found.setdefault(name, []).append("/".join(edit))
    return found
