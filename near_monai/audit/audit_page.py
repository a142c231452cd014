"""The audit for a person: an index of all labels, the worst first, and what each looks like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from near_monai.anatomy import Anatomy
from near_monai.data.class_selection import mask_of, recorded_class
from near_monai.formats.label_maps import LabelMap
from near_monai.geometry.world_places import local_mm
from near_monai.review.case_pages import Cell, Column, Details, Entry, Order, shown_view, write_case, write_index
from near_monai.review.class_looks import Look, looks_of
from near_monai.review.projections import Drawn, three_views
from near_monai.review.surface_scene import classes_in, packed
from near_monai.runs.run_records import DONE, Row

LABEL = "label"
#: Columns of scores on the page: their key in the table, what they are called, how they are written, and their worst.
SHOWN: tuple[tuple[str, str, str, Order], ...] = (
    ("dice", "Dice", "{:.3f}", "ascending"),
    ("surface_dice_1mm", "Surface Dice 1 mm", "{:.3f}", "ascending"),
    ("cldice", "clDice", "{:.3f}", "ascending"),
    ("betti0_error", "Betti-0 error", "{:.1f}", "descending"),
)
ABOUT = (
    "{cases} of {of} cases of {source}, near_monai {version}, {started}. Worst first: what cannot be read, then what "
    "does not fit the rest of the set, then what has the lowest expected Dice. Nothing was changed. A research tool, "
    "not for clinical use.",
    "{note} Scores are expected from shape alone; four of five labels lie in the interval below a score, if the labels "
    "are like those that it was calibrated on. Without an interval a score is only how far the label agrees with its "
    "own refined result, and is not calibrated.",
)


def write_page(page: Path, run: dict[str, Any], lines: Sequence[Row]) -> None:
    """Write the index.

    Args:
        page: the file.
        run: what ``audit.json`` holds.
        lines: those of ``audit.csv``, in order, and under ``why`` their reasons without places.
    """
    with_truth = any("dice_true" in line for line in lines)
    columns = [Column("Structure"), Column("Unfit", "descending", "from 1 on something is probably wrong")]
    for _, title, _, first in SHOWN:
        columns += [Column(title, first), *([Column(f"{title}, true", first)] if with_truth else [])]
    done = {row["name"] for row in run["cases"] if row["status"] == DONE}
    entries = [Entry(line["case"], _cells(line, with_truth), line["case"] in done) for line in lines]
    said = {key: run[key] for key in ("of", "source", "started", "note")}
    version = run["versions"]["near_monai"]
    about = [text.format(**said, cases=len(run["cases"]), version=version) for text in ABOUT]
    write_index(page, "Audit of labels", str(run["source"]), about, [*columns, Column("Why")], entries)


def _cells(line: Row, with_truth: bool) -> tuple[Cell, ...]:
    """The cells of a row."""
    unfit = line["unfit"]
    cells = [Cell(line["structure"]), Cell(f"{unfit:.1f}", unfit, trouble=unfit >= 1)]
    for key, _, form, _ in SHOWN:
        at, low, high = (line.get(f"{key}_{what}") for what in ("expected", "low", "high"))
        between = "" if low is None else f"{form} to {form}".format(low, high)
        cells.append(Cell("", math.nan) if at is None else Cell(form.format(at), at, between))
        if with_truth:
            true = line.get(f"{key}_true")
            cells.append(Cell("", math.nan) if true is None else Cell(form.format(true), true))
    return *cells, Cell(line["why"])


def write_audited(page: Path, name: str, row: Row, file: LabelMap, anatomy: Anatomy) -> None:
    """Write what a case of the page shows: its label, and the places of all reasons.

    Args:
        page: the file of the index.
        name: the case.
        row: what :func:`near_monai.audit.audited_case.audit_case` says of it.
        file: its label map.
        anatomy: names and colours.
    """
    reasons = [reason for part in row["structures"] for reason in part["reasons"]]
    numbers = iter(range(1, sum(len(reason["places"]) for reason in reasons) + 1))
    rows = [
        {"text": reason["what"], "spots": [(str(next(numbers)), place) for place in reason["places"]]}
        for reason in reasons
    ]
    looks = looks_of([recorded_class(part["label"]) for part in row["structures"]], anatomy)
    details = Details(
        name,
        row["warnings"],
        colours=[(look.name, look.css) for look in looks if look.colour],
        views=_pictures(file, looks, dict(spot for reason in rows for spot in reason["spots"])),
        scene=packed(classes_in(file.array, LABEL, looks, file.grid, file.affine)),
        places=[("Why", rows)],
    )
    write_case(page, details)


def _pictures(file: LabelMap, looks: Sequence[Look], places: Mapping[str, Sequence[float]]) -> list[Row]:
    """The views, with numbers at ``places`` in world mm."""
    drawn = [Drawn(mask_of(file.array, look.label), look.colour) for look in looks]
    spots = {number: local_mm(place, file.grid, file.affine) for number, place in places.items()}
    shown = []
    for view in three_views({LABEL: drawn}, (), spots, file.grid, file.affine):
        marks = [{"text": n, "kind": "noted", "left": left, "top": top} for n, (left, top) in view.marks.items()]
        shown.append(shown_view(view, {LABEL: marks}))
    return shown
