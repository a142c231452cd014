"""The report of a run: one HTML page that needs no network, the cases that need a look first."""

from __future__ import annotations

import base64
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs
from scipy.spatial import cKDTree
from tqdm import tqdm

from near_monai.anatomy import Anatomy, table_of
from near_monai.data.class_selection import OneClass, mask_of, structure_in
from near_monai.data.run_layout import BRIDGE_FOLDER, REPORT_FILE
from near_monai.errors import NearError
from near_monai.formats.atomic_writing import write_text
from near_monai.geometry.world_places import world_mm
from near_monai.review.edit_decisions import Decision, read_decisions
from near_monai.review.page_template import page_template
from near_monai.review.projections import Drawn, View, three_views
from near_monai.review.reviewed_run import ReviewedCase, read_run
from near_monai.review.surface_scene import packed, pale, scene_of
from near_monai.runs.run_records import DONE, Row

logger = logging.getLogger("near_monai")

#: Kinds of findings that are no edits, and wait for a decision.
UNCHANGED = ("uncertain", "proposed", "open_end")
#: A page gets slow with more: the first ones are shown, with the walls of all classes, and the page says so.
MOST_EDITS = 200
#: Edits that are marked in the pictures; more would hide them.
MOST_MARKS = 14


def write_report(folder: Path, quiet: bool = False) -> Path:
    """Write ``report.html`` into the folder of a run of ``near-monai refine``.

    Per case: three views before and after, a 3-D view, figures, every edit with its place in world mm and a box to
    reject it with, and places where F could not decide.

    Args:
        folder: folder of the run.
        quiet: no progress bar.

    Returns:
        The page.

    Raises:
        NearError: no run there, or the page cannot be written. A case that cannot be read is listed with the reason.
    """
    run, decisions = read_run(folder), read_decisions(folder)
    anatomy = _table(run["options"]["table"])
    rows = tqdm(run["cases"], desc="report", unit="case", disable=quiet)
    cases = sorted((_case(folder, row, decisions, anatomy) for row in rows), key=_urgency, reverse=True)
    template = page_template("near_monai.review", "report")
    page = template.render(run=run, cases=cases, folder=str(folder), plotly=Markup(get_plotlyjs()))
    write_text(folder / REPORT_FILE, page)
    return folder / REPORT_FILE


def _table(path: str | None) -> Anatomy:
    """The table of the run, for names and colours; the heart's if it is not there any more."""
    try:
        return table_of(path)
    except NearError as error:
        logger.warning("%s; names and colours are those of the heart's table", error)
        return table_of(None)


def _case(folder: Path, row: Row, decisions: dict[str, Decision], anatomy: Anatomy) -> dict[str, Any]:
    """What the page says of one case."""
    decided = decisions.get(row["name"])
    old = decided is not None and decided.result not in row["written"].values()
    said = {"row": row, "old_review": old}
    if row["status"] != DONE:
        return said | {"failed": row.get("message", "not finished: it is being refined, or its process was killed")}
    try:
        return said | _finished(ReviewedCase(folder, row), decided, anatomy)
    except NearError as error:
        return said | {"failed": str(error)}


def _finished(case: ReviewedCase, decided: Decision | None, anatomy: Anatomy) -> dict[str, Any]:
    row, before, after = case.row, case.before, case.after
    arrays = before.array, after.array
    drawn = [_drawn(label, *arrays, anatomy, several=len(case.scales) > 1) for label in case.scales]
    rejected = {edit.identity for edit in decided.rejected} if decided else set()
    edits = [
        {
            "name": edit.name,
            "kind": edit.kind,
            "structure": _name_of(edit.label, row, anatomy),
            "place": world_mm(edit.place, before.grid, before.affine),
            "volume": edit.volume_mm3,
            "rejected": edit.identity in rejected,
        }
        for edit in case.edits
    ]
    places = [edit["name"] for edit in edits if edit["kind"] != "wall"][:MOST_EDITS]
    shown = [edit for edit in edits if edit["kind"] == "wall" or edit["name"] in places]
    largest = [edit.name for edit in sorted(case.edits, key=lambda edit: -edit.volume_mm3)[:MOST_MARKS]]
    parts = row.get("structures", [row])
    bridges = Path(BRIDGE_FOLDER) / case.file
    return {
        "parts": parts,
        "edits": shown,
        "more": len(edits) - len(shown),
        "uncertain": _unchanged([f for part in parts for f in part["findings"] if f["kind"] in UNCHANGED], case),
        "flagged": row.get("flagged", []),
        "colours": [(part.name, _css(part.colour)) for part in drawn if part.colour is not None],
        "views": [_pictures(view, largest) for view in three_views(drawn, case.edits, before.grid, before.affine)],
        "scene": packed(scene_of(*arrays, case.edits, before.grid, before.affine, list(case.scales), anatomy)),
        "links": {"refined": quote(case.file)}
        | ({"bridges": quote(bridges.as_posix())} if (case.folder / bridges).is_file() else {}),
    }


def _drawn(
    label: OneClass, before: NDArray[np.uint8], after: NDArray[np.uint8], anatomy: Anatomy, several: bool
) -> Drawn:
    """A class for the pictures: in grey if it is the only one, else pale in its colour of the table."""
    structure = structure_in(label, anatomy)
    name = structure.name if structure else f"class {label}"
    colour = pale(structure.colour) if several and structure else None
    return Drawn(name, mask_of(before, label), mask_of(after, label), colour)


def _name_of(label: OneClass, row: Row, anatomy: Anatomy) -> str:
    """What a class was refined as: alone in its map it may have any number."""
    if "structures" not in row:
        return str(row["structure"])
    return anatomy.name(int(label))


def _css(colour: tuple[int, ...]) -> str:
    return f"rgb({', '.join(map(str, colour))})"


def _unchanged(places: list[dict[str, Any]], case: ReviewedCase) -> list[dict[str, Any]]:
    """Those of ``places`` that are none of the edits: what was removed or added is in their list.

    A place is known by its centre; an edit that comes nearer to it than half the radius of its volume, or a voxel, is
    the same place.
    """
    voxels = [edit.voxels for edit in case.edits if edit.kind != "wall"]
    if not voxels or not places:
        return places
    affine = case.before.affine
    edited = cKDTree(apply_affine(affine, np.concatenate(voxels)))
    apart, _ = edited.query([place["place"] for place in places])
    radii = np.cbrt([3 * place["volume_mm3"] / (4 * np.pi) for place in places])
    same = apart <= np.maximum(radii / 2, max(case.before.grid.spacing))
    return [place for place, edit in zip(places, same, strict=True) if not edit]


def _urgency(case: dict[str, Any]) -> tuple[float, ...]:
    """The larger, the sooner a person should look: failed, warned of, much of it edited or left undecided."""
    if "failed" in case:
        return (1, 0, 0)
    edited = sum(edit["volume"] for edit in case["edits"] if edit["kind"] != "wall")
    undecided = sum(finding["volume_mm3"] for finding in case["uncertain"])
    whole = sum(part["volume_before_mm3"] for part in case["parts"])
    return (0, len(case["row"]["warnings"]) + len(case["flagged"]), (edited + undecided) / whole if whole else np.inf)


def _pictures(view: View, marked: list[str]) -> dict[str, Any]:
    marks = {name: view.marks[name] for name in marked if name in view.marks}
    return {
        "name": view.name,
        "sides": view.sides,
        "before": _uri(view.before),
        "after": _uri(view.after),
        "marks": marks,
    }


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
