"""What the report shows of a case: pictures, a scene, its edits, and places that were left alone but look odd."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nibabel.affines import apply_affine
from scipy.spatial import cKDTree

from near_monai.anatomy import Anatomy
from near_monai.data.class_selection import OneClass, mask_of
from near_monai.data.run_layout import BRIDGE_FOLDER
from near_monai.geometry.world_places import world_mm
from near_monai.review.case_pages import Details, Mark, shown_view
from near_monai.review.class_looks import Look, looks_of
from near_monai.review.edit_decisions import Decision
from near_monai.review.projections import MOMENTS, Drawn, View, three_views
from near_monai.review.reviewed_run import ReviewedCase
from near_monai.review.surface_scene import changes_in, classes_in, packed
from near_monai.review.undoable_edits import Edit
from near_monai.review.vessel_view import has_trees, vessels_in
from near_monai.runs.run_records import Row

#: A page gets slow with more: the first ones are shown, with the walls of all classes, and the page says so.
MOST_EDITS = 200
#: Edits that are marked in the pictures; more would hide them.
MOST_MARKS = 14
#: Kinds of findings that are no edits, and wait for a decision, and what is said of them.
UNCHANGED = {
    "proposed": "joint not made: probability {probability:.2f}",
    "open_end": "the vessel probably goes on here: probability {probability:.2f}",
    "uncertain": "vessel or not: F says {probability:.2f}",
}


class Counts(NamedTuple):
    """What the index says of a case beside its row.

    Attributes:
        edits: the number of its edits, shifts of the wall not counted.
        rejected: the number of edits that a person took back.
        odd: the number of places that were left alone but look odd.
        broken: those of them that break a rule of the anatomy table.
        touched_mm3: the volume of all these edits and odd places.
    """

    edits: int
    rejected: int
    odd: int
    broken: int
    touched_mm3: float


def shown_case(case: ReviewedCase, decided: Decision | None, anatomy: Anatomy) -> tuple[Details, Counts]:
    """Draw a case: what is seen when it is opened, and what is said of it in the index.

    Args:
        case: it.
        decided: what a person decided of it.
        anatomy: names and colours.

    Raises:
        NearError: its files cannot be read, or are not those of the run.
    """
    row, edits = case.row, _edits(case, decided, anatomy)
    parts, flagged = row.get("structures", [row]), row.get("flagged", [])
    places = [edit for edit in edits if edit["kind"] != "wall"]
    listed = [*places[:MOST_EDITS], *(edit for edit in edits if edit["kind"] == "wall")]
    findings = [finding for part in parts for finding in part["findings"] if finding["kind"] in UNCHANGED]
    undecided = _unchanged(findings, case)
    looks = looks_of(list(case.scales), anatomy)
    details = Details(
        row["name"],
        parts=[{"name": part.get("structure", part.get("name")), **part} for part in parts],
        links=_links(case),
        colours=[(look.name, look.css) for look in looks if look.colour],
        views=_pictures(case, looks),
        scene=_scene(case, looks, parts, anatomy),
        edits=listed,
        more=len(edits) - len(listed),
        places=[
            ("Rules of the anatomy table that are still broken", [_spot(at["detail"], at) for at in flagged]),
            ("Not changed, but look at it", [_spot(UNCHANGED[at["kind"]].format(**at), at) for at in undecided]),
        ],
    )
    touched = sum(edit["volume"] for edit in places) + sum(at["volume_mm3"] for at in undecided)
    rejected = sum(edit["rejected"] for edit in edits)
    return details, Counts(len(places), rejected, len(flagged) + len(undecided), len(flagged), touched)


def _edits(case: ReviewedCase, decided: Decision | None, anatomy: Anatomy) -> list[Row]:
    rejected = {edit.identity for edit in decided.rejected} if decided else set()
    return [
        {
            "name": edit.name,
            "kind": edit.kind,
            "structure": _name_of(edit.label, case.row, anatomy),
            "place": world_mm(edit.place, case.before.grid, case.before.affine),
            "volume": edit.volume_mm3,
            "rejected": edit.identity in rejected,
        }
        for edit in case.edits
    ]


def _spot(text: str, place: Row) -> Row:
    """A place without a mark in the pictures."""
    size = f", {place['volume_mm3']:.1f} mm³" if place["volume_mm3"] else ""
    return {"text": text + size, "spots": [("", place["place"])]}


def _links(case: ReviewedCase) -> dict[str, str]:
    bridges = (Path(BRIDGE_FOLDER) / case.file).as_posix()
    links = {"refined file": case.file, "bridges file": bridges}
    return {text: file for text, file in links.items() if (case.folder / file).is_file()}


def _pictures(case: ReviewedCase, looks: Sequence[Look]) -> list[Row]:
    """The views, before and after, the largest edits marked."""
    moments = {
        when: [Drawn(mask_of(array, look.label), look.colour) for look in looks]
        for when, array in (("before", case.before.array), ("after", case.after.array))
    }
    placed = [edit for edit in case.edits if edit.kind in MOMENTS]
    marked = sorted(placed, key=lambda edit: -edit.volume_mm3)[:MOST_MARKS]
    at = {edit.name: edit.place for edit in marked}
    shown = []
    for view in three_views(moments, case.edits, at, case.before.grid, case.before.affine):
        marks = {when: [_mark(edit, view) for edit in marked if MOMENTS[edit.kind] == when] for when in moments}
        shown.append(shown_view(view, marks))
    return shown


def _scene(case: ReviewedCase, looks: Sequence[Look], parts: Sequence[Row], anatomy: Anatomy) -> Row:
    """The surfaces, before and after, and those of the changes; of vessels, their branches."""
    grid, affine = case.before.grid, case.before.affine
    found = [
        vessels_in(case.after, look, case.edits, anatomy) if has_trees(part, anatomy) else None
        for look, part in zip(looks, parts, strict=True)
    ]
    others = [look for look, vessels in zip(looks, found, strict=True) if vessels is None]
    vessels = [vessels for vessels in found if vessels is not None]
    surfaces = [
        *changes_in(case.edits, case.before.array.shape, grid, affine),
        *classes_in(case.before.array, "before", looks, grid, affine),
        *classes_in(case.after.array, "after", others, grid, affine),
        *(one.surface for one in vessels),
    ]
    return packed(surfaces) | {"branches": [branch for one in vessels for branch in one.branches]}


def _mark(edit: Edit, view: View) -> Mark:
    left, top = view.marks[edit.name]
    return {"text": edit.name.rpartition("/")[2][:6], "kind": edit.kind, "left": left, "top": top}


def _name_of(label: OneClass, row: Row, anatomy: Anatomy) -> str:
    """What a class was refined as: alone in its map it may have any number."""
    if "structures" not in row:
        return str(row["structure"])
    return anatomy.name(int(label))


def _unchanged(places: list[Row], case: ReviewedCase) -> list[Row]:
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
