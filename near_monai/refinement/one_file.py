"""Refinement of one file: from a label map to a refined one beside it, and the figures of its row in ``run.json``."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import VESSEL, Anatomy
from near_monai.data.case_lists import Case
from near_monai.data.class_selection import (
    EMPTY,
    FOREGROUND,
    OneClass,
    mask_of,
    refuse_strangers,
    structure_in,
    structures_in,
)
from near_monai.data.colour_tables import segments_of
from near_monai.data.run_layout import BRIDGE_FOLDER, CODE_FOLDER, PROBABILITY_FOLDER
from near_monai.formats.label_maps import LabelMap, read_label, write_label, write_volume
from near_monai.formats.slicer_segments import Segment
from near_monai.formats.tensor_files import SUFFIX
from near_monai.geometry.boxes import Box, box_where, widen
from near_monai.geometry.units import check_units
from near_monai.geometry.world_places import in_world
from near_monai.inferers.saved_codes import SavedCode, described, save_code
from near_monai.networks.weight_files import shipped
from near_monai.refinement.all_structures import Networks, Whole, refine_all
from near_monai.refinement.case_figures import figures_of
from near_monai.refinement.class_meaning import as_trained, doubts_of
from near_monai.refinement.one_structure import CONTEXT_MM, RefinedPart, reasons, refine_mask
from near_monai.refinement.options import Options
from near_monai.refinement.subject import Subject, subject_in
from near_monai.repair.judge import Bounds

#: What viewers call the bridges of one class.
BRIDGE = Segment(1, "bridge", (255, 221, 51))
#: mm kept around the label in a cube (``resolution``).
CUBE_MARGIN_MM = 10.0


def refine_one_class(
    case: Case, output: Path, options: Options, networks: Networks, anatomy: Anatomy
) -> dict[str, Any]:
    """Refine one class of a file and write the result; returns the figures of its row."""
    file = read_label(case.label)
    if not file.array.any():
        return _empty_map(case, output, file, options) | _empty_class(options, anatomy)
    subject = subject_in(file, options, networks, anatomy, str(case.label))
    if options.resolution:
        parts = [_on_a_cube(file, subject, options.resolution, options.clean, anatomy)]
    else:
        parts = list(subject.refined_parts(file, options.clean, anatomy))
    aside = subject.evidence.aside([part.box for part in parts if part.box])
    gone = options.clean and not reasons(parts)
    if gone:
        file.array[tuple(aside.voxels.T)] = 0
    saved = subject.saved(file, parts) if options.save_codes else None
    with ThreadPoolExecutor(1) as pool:  # to pack the file takes as long as the figures, on a core of its own
        writing = pool.submit(_write, case, output, file, parts, saved, options)
        row = figures_of(file, subject.structure, subject.evidence, parts, aside, gone)
        row["label"] = subject.label
        row["warnings"] = file.warnings + doubts_of(subject.network, subject.structure) + row["warnings"]
        writing.result()
    return row


def _on_a_cube(
    file: LabelMap, subject: Subject, resolution: int, clean: bool | Bounds, anatomy: Anatomy
) -> RefinedPart:
    """The refined label on a cube of ``resolution`` voxels per side around all that counts."""
    structure, grid = subject.structure, file.grid
    inner = subject.evidence.box
    box = widen(inner, grid.spacing, structure.size.mm(CONTEXT_MM), grid.shape)
    cube = widen(inner, grid.spacing, CUBE_MARGIN_MM, grid.shape).grid(grid).cube(resolution)
    array, near = np.ascontiguousarray(file.array[box.slices()]), box.grid(grid)
    mask = mask_of(array, subject.label)
    result = refine_mask(mask, near, subject.network, subject.space, cube, clean, structure)
    return RefinedPart.of(result, array, near, subject.label, anatomy, None)


def _write(
    case: Case, output: Path, file: LabelMap, parts: Sequence[RefinedPart], saved: SavedCode | None, options: Options
) -> None:
    """Write everything that ``options`` ask for, the label map last; ``file`` then holds the refined one."""
    grid = parts[0].refined.grid
    affine = grid.affine_from(file.affine, file.grid) if options.resolution else None
    if saved is not None:
        save_code(output / CODE_FOLDER / f"{case.name}{SUFFIX}", saved)
    if options.save_probability:
        whole = _whole(file, [(part.box, part.refined.probability) for part in parts])
        write_volume(output / PROBABILITY_FOLDER / case.file, whole, file, affine)
    if any(part.repaired.bridge_mask.any() for part in parts):
        whole = _whole(file, [(part.box, part.repaired.bridge_mask.astype(np.uint8)) for part in parts])
        write_label(output / BRIDGE_FOLDER / case.file, whole, file.unnamed(), affine, [BRIDGE])
    array = file.array  # nobody needs what was read any more, and a copy of a scan takes a while
    for part in parts:
        if part.box is None:
            array = part.fused
        else:
            array[part.box.slices()] = part.fused
    write_label(output / case.file, array, file, affine)


def _whole(file: LabelMap, parts: Sequence[tuple[Box | None, NDArray[Any]]]) -> NDArray[Any]:
    """Parts in their volume, which holds 0 elsewhere; one on a grid of its own as it is."""
    array = file.array  # pages of zeros that nobody touches cost nothing, unlike those of zeros_like
    out = np.zeros(array.shape, parts[0][1].dtype, order="F" if array.flags.f_contiguous else "C")
    for box, part in parts:
        if box is None:
            return part
        out[box.slices()] = part
    return out


def _empty_map(case: Case, output: Path, file: LabelMap, options: Options) -> dict[str, Any]:
    """Of an empty map an empty map is written, and F's probability, which is 0; what to warn of."""
    grid, affine = file.grid, None
    if options.resolution:
        grid = file.grid.cube(options.resolution)
        affine = grid.affine_from(file.affine, file.grid)
    if options.save_probability:
        write_volume(output / PROBABILITY_FOLDER / case.file, np.zeros(grid.shape, np.float32), file, affine)
    write_label(output / case.file, np.zeros(grid.shape, np.uint8), file, affine)
    return {"warnings": [*file.warnings, EMPTY]}


def _empty_class(options: Options, anatomy: Anatomy) -> dict[str, Any]:
    """The figures of a class in a map that is empty."""
    label: OneClass = options.label if isinstance(options.label, int) else FOREGROUND
    structure = structure_in(label, anatomy)
    if options.structure is not None:
        structure = anatomy.by_name(options.structure)
    structure = structure or VESSEL
    counts = dict.fromkeys(("components_before", "components_after"), 0)
    names = ("volume_before_mm3", "volume_after_mm3", "added_mm3", "removed_mm3", "noise_mm", "caution")
    places: dict[str, Any] = {"bridges": [], "findings": []}
    said = {"label": label, "structure": structure.name, "scale": structure.scale}
    return said | counts | dict.fromkeys(names, 0.0) | places


def refine_all_classes(
    case: Case, output: Path, options: Options, networks: Networks, anatomy: Anatomy
) -> dict[str, Any]:
    """Refine every class of a file and write the result; returns the figures of its row."""
    file = read_label(case.label)
    if not file.array.any():
        empty = {"structures": [], "rules_broken_before": 0, "rules_broken_after": 0, "changes": [], "flagged": []}
        return _empty_map(case, output, file, options) | empty
    if options.table is None:
        refuse_strangers(file.array, anatomy, str(case.label))
    anatomy, doubts = _as_trained(file, options, networks, anatomy)
    whole = refine_all(file.array, file.grid, networks, options.weights, anatomy)
    if options.save_codes and options.weights and whole.codes:
        codes = tuple(replace(code, reference=file.grid) for code in whole.codes)
        saved = SavedCode(codes, file.affine, described(networks(options.weights)[0]), anatomy.structures)
        save_code(output / CODE_FOLDER / f"{case.name}{SUFFIX}", saved)
    if whole.bridges.any():
        write_label(output / BRIDGE_FOLDER / case.file, whole.bridges, file.unnamed(), segments=segments_of(anatomy))
    write_label(output / case.file, whole.array, file, segments=segments_of(anatomy))
    return _figures_of_all(file, whole, doubts)


def _figures_of_all(file: LabelMap, whole: Whole, doubts: list[str]) -> dict[str, Any]:
    """The row of a case of which every class was refined."""
    rows = [
        row | {kind: in_world(found, file.grid, file.affine) for kind, found in places.items()}
        for row, places in zip(whole.rows, whole.places, strict=True)
    ]
    lost = [f"nothing is left of {row['name']}" for row in rows if not row["components_after"]]
    beyond = [f"{row['name']}: {reason}" for row, reason in zip(rows, whole.beyond, strict=True) if reason]
    apart = [change.detail for change in whole.flagged if change.rule == "touches"]
    return {
        "structures": rows,
        "left_as_it_was": bool(beyond),
        "rules_broken_before": whole.rules_before,
        "rules_broken_after": len(whole.flagged),
        "changes": in_world(whole.changes, file.grid, file.affine),
        "flagged": in_world(whole.flagged, file.grid, file.affine),
        "warnings": file.warnings + doubts + lost + beyond + apart,
    }


def _as_trained(file: LabelMap, options: Options, networks: Networks, anatomy: Anatomy) -> tuple[Anatomy, list[str]]:
    """The table as weights of one's own were trained for it, and why they, or its own, may not suit what is there."""
    weights = networks(options.weights)[0].description if options.weights else None
    if weights is not None and options.table is None:
        anatomy = Anatomy(tuple(as_trained(row, weights) for row in anatomy.structures))
    doubts: dict[str, None] = {}
    if present := structures_in(file.array, anatomy):
        box, scale = box_where(file.array, anatomy.knows), max(row.scale for row in present)
        check_units(box, file.grid.spacing, scale, str(file.path))
        for row in present:
            doubts |= dict.fromkeys(doubts_of(networks(options.weights or shipped(row.weights))[0], row))
    return anatomy, list(doubts)
