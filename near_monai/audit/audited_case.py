"""The audit of one label map: per structure what it would score, and why. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from near_monai.anatomy import Anatomy, Structure
from near_monai.audit.case_geometry import geometry_of
from near_monai.audit.expected_score import SCORES, agreement, auditor_for
from near_monai.audit.reasons import Reason, foreign_pieces, reasons_of
from near_monai.audit.seen_label import Seen
from near_monai.audit.shape_figures import shape_figures
from near_monai.data.class_selection import ALL, FOREGROUND, OneClass, alone, mask_of, refuse_strangers, structures_in
from near_monai.errors import NearError
from near_monai.formats.label_maps import LabelMap, read_label
from near_monai.formats.voxel_values import values_in
from near_monai.geometry.coordinates import FloatArray
from near_monai.geometry.world_places import world_mm
from near_monai.metrics.mask_metrics import score
from near_monai.networks.weight_files import shipped
from near_monai.refinement.all_structures import Networks
from near_monai.refinement.case_figures import figures_of
from near_monai.refinement.one_structure import reasons
from near_monai.refinement.options import Options
from near_monai.refinement.subject import Subject, subject_in, subject_of

Row = dict[str, Any]


def audit_case(
    file: LabelMap, options: Options, networks: Networks, anatomy: Anatomy, truth: Path | None = None
) -> Row:
    """What is known of a label map without its truth.

    Args:
        file: the map.
        options: which class, and how it is refined; ``"all"`` audits every class of the table by itself.
        networks: gives the network of a weights file.
        anatomy: the table.
        truth: a map whose scores are given beside the expected ones.

    Returns:
        ``warnings``, ``geometry`` (``None`` of an empty map) and ``structures``: per structure its name, volume, pieces
        and noise, ``expected`` scores with intervals and whether these are ``calibrated``, ``reasons``, and ``true``
        scores if there is a truth.

    Raises:
        NearError: the map lacks the class; ``truth`` is on another grid.
    """
    if not file.array.any():
        return {"warnings": [*file.warnings, "the label map is empty"], "geometry": None, "structures": []}
    true = None if truth is None else read_label(truth)
    if true is not None:
        true.check_grid_of(file)
    subjects = list(_subjects(file, options, networks, anatomy))
    geometry = geometry_of(file, {subject.label: subject.evidence.found.voxels for subject in subjects})
    rows = [_structure(file, subject, anatomy, true) for subject in subjects]
    for row in rows:
        geometry["classes"][str(row["label"])]["components"] = row["components"]
    return {"warnings": file.warnings, "geometry": geometry, "structures": rows}


def _subjects(file: LabelMap, options: Options, networks: Networks, anatomy: Anatomy) -> Iterator[Subject]:
    """What is audited of a map."""
    where = str(file.path)
    if options.label is not ALL:
        yield subject_in(file, options, networks, anatomy, where)
        return
    if options.table is None:
        refuse_strangers(file.array, anatomy, where)
    present = structures_in(file.array, anatomy)
    if not present:
        raise NearError(f"{where}: no class of the anatomy table is in the label map; give another table")
    for structure in present:
        yield subject_of(file, structure.index, structure, networks(shipped(structure.weights)), where)


def _structure(file: LabelMap, subject: Subject, anatomy: Anatomy, true: LabelMap | None) -> Row:
    """The row of one structure."""
    structure, evidence = subject.structure, subject.evidence
    parts = list(subject.refined_parts(file, True, anatomy))
    aside = evidence.aside([part.box for part in parts if part.box])
    refined = figures_of(file, structure, evidence, parts, aside, not reasons(parts))
    seen = Seen.of_parts(file.grid, evidence, parts, structure)
    figures = shape_figures(seen)
    expected, calibrated = _expected(figures, structure)
    row: Row = {
        "label": subject.label,
        "structure": structure.name,
        "components": len(evidence.found),
        "volume_mm3": refined["volume_before_mm3"],
        "noise_mm": refined["noise_mm"],
        "expected": expected,
        "calibrated": calibrated,
        "reasons": _reasons(file, subject, seen, figures, refined, anatomy),
    }
    if true is not None:
        row["true"] = _true(file, subject, true)
    return row


def _expected(figures: dict[str, float], structure: Structure) -> tuple[Row, bool]:
    """Expected scores as plain numbers, and whether they were calibrated on such structures.

    Of others only how far the label agrees with its own refined result is known, and no intervals.
    """
    auditor = auditor_for(structure)
    if auditor is None:
        return {name: [round(value, 4), None, None] for name, value in agreement(figures).items()}, False
    return {name: [round(value, 4) for value in at] for name, at in auditor(figures).items()}, True


def _reasons(
    file: LabelMap, subject: Subject, seen: Seen, figures: dict[str, float], refined: Row, anatomy: Anatomy
) -> list[Row]:
    scale = subject.structure.scale

    def to_world(place: FloatArray) -> list[float]:
        return world_mm(np.asarray(place) * scale, file.grid, file.affine)

    rows = [reason.to_row() for reason in reasons_of(seen, figures, refined, scale, to_world)]
    if isinstance(subject.label, int):
        inside = foreign_pieces(file.array, subject.label, subject.evidence.found, anatomy.name)
        for name in dict.fromkeys(inside):
            text = f"{inside.count(name)} of its pieces inside {name}"
            rows.insert(0, Reason("foreign", text).to_row())
    return rows


def _true(file: LabelMap, subject: Subject, true: LabelMap) -> Row:
    """Scores against the truth, for those that are expected."""
    mask, wanted = mask_of(file.array, subject.label), _class_in(true, file, subject)
    scores = score(mask, mask_of(true.array, wanted), file.affine[:3, :3])
    return {name: round(scores[name], 4) for name in SCORES}


def _class_in(true: LabelMap, file: LabelMap, subject: Subject) -> OneClass:
    """The class of the truth that stands for what is audited: alone in its map that may have any number."""
    if not alone(file.array, subject.label):
        return subject.label
    if len(set(values_in(true.array)) - {0}) < 2 or subject.label is FOREGROUND:
        return FOREGROUND
    return subject.structure.index
