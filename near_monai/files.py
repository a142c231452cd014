"""Refinement of one file: from a label map to a refined one beside it, and the figures of its row in ``run.json``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from near_monai.anatomy import Anatomy
from near_monai.boxes import Box, box_of, occupied, voxels_where, widen
from near_monai.cases import Case
from near_monai.codes import SavedCode, described, save_code
from near_monai.colours import segments_of
from near_monai.components import Components
from near_monai.coords import Grid
from near_monai.evidence import Evidence
from near_monai.familiarity import remarks
from near_monai.findings import find, set_aside
from near_monai.fusion import put_back
from near_monai.io import LabelMap, read_label, write_label, write_volume
from near_monai.layout import BRIDGE_FOLDER, CODE_FOLDER, PROBABILITY_FOLDER
from near_monai.places import in_world
from near_monai.refinement import MARGIN_MM, refine_mask
from near_monai.repair import VESSEL, Repaired
from near_monai.segments import Segment
from near_monai.subject import as_trained, check_units, doubts_of, subject_of
from near_monai.tensors import SUFFIX
from near_monai.transforms import AUTO, FOREGROUND, choose_label, mask_of, refuse_strangers
from near_monai.weights import shipped
from near_monai.whole import Networks, refine_all

#: What viewers call the bridges of one class.
BRIDGE = Segment(1, "bridge", (255, 221, 51))
#: mm kept around the label in a cube (``resolution``).
CUBE_MARGIN_MM = 10.0


@dataclass(frozen=True)
class Options:
    """How to refine files.

    Attributes:
        label: class index, ``"fg"`` (everything above 0 as one tree), ``"auto"`` (the only class, else coronary) or
            ``"all"`` (every class of the table, fused).
        weights: weights file, ``None`` for the shipped ones; with ``"all"`` one function of all structures.
        device: ``"auto"``, ``"cpu"`` or a CUDA device.
        resolution: ``None`` for the original grid; N for a cube of N^3 voxels around the label.
        save_codes: also write z of every case.
        save_probability: also write F on the output grid.
        clean: also reconnect torn-off pieces and drop small ones that could not be joined.
        table: anatomy table, ``None`` for the heart's.
        structure: what the class is, by its name in the table; ``None`` for the rule of
            :func:`near_monai.subject.subject_of`.
    """

    label: int | str = AUTO
    weights: str | None = None
    device: str = "auto"
    resolution: int | None = None
    save_codes: bool = False
    save_probability: bool = False
    clean: bool = True
    table: str | None = None
    structure: str | None = None


def refine_one_class(
    case: Case, output: Path, options: Options, networks: Networks, anatomy: Anatomy
) -> dict[str, Any]:
    """Refine one class of a file and write the result; returns the figures of its row."""
    file = read_label(case.label)
    if not file.array.any():
        return _empty_map(case, output, file, options) | _empty_class(options, anatomy)
    filled = occupied(file.array)  # a scan is a hundred times larger than what is labelled in it
    labelled = file.array[filled.slices()]
    label = choose_label(labelled, options.label, str(case.label), anatomy)
    given = networks(options.weights)[0].description if options.weights else None
    table = anatomy if options.table else None
    structure = subject_of(labelled, label, table, options.structure, given, str(case.label))
    network, space = networks(options.weights or shipped(structure.weights))
    part = filled.grid(file.grid.scaled(1 / structure.scale))
    found = Components.at(voxels_where(labelled, lambda plane: mask_of(plane, label)), labelled.shape)
    evidence = Evidence.of(found, part.spacing)
    inner = evidence.box.moved(filled.start)  # stray voxels far away would make all that follows as large as the scan
    check_units(inner, file.grid.spacing, structure.scale, str(case.label))
    box = widen(inner, file.grid.spacing, MARGIN_MM * structure.scale, file.grid.shape)
    array, grid = np.ascontiguousarray(file.array[box.slices()]), box.grid(file.grid)
    mask = mask_of(array, label)
    target = grid
    if options.resolution:
        kept = widen(inner, file.grid.spacing, CUBE_MARGIN_MM, file.grid.shape)
        target = kept.grid(file.grid).cube(options.resolution)
    result = refine_mask(mask, grid, network, space, target, options.clean, structure)
    aside = evidence.aside(box.within(filled))
    beside_mm3 = aside.sizes * file.grid.voxel_volume
    gone = options.clean and not result.repaired.beyond
    if gone:
        labelled[tuple(aside.voxels.T)] = 0
    fused = put_back(array, grid, result.repaired.mask, target, label, anatomy)
    after = mask_of(fused, label)  # classes of higher priority have kept their voxels
    repaired = result.repaired.within(after, target)
    place = None if options.resolution else box
    codes = tuple(replace(code, reference=file.grid.scaled(1 / structure.scale)) for code in result.codes)
    saved = SavedCode(codes, file.affine, described(network), (structure,)) if options.save_codes else None
    written = _Target(case, output, file, target, place)
    with ThreadPoolExecutor(1) as pool:  # to pack the file takes as long as the figures, on a core of its own
        writing = pool.submit(written.write, fused, result.probability, repaired.bridge_mask, saved, options)
        places = find(result.label, repaired, result.probability, target, structure.scale)
        places += set_aside(aside, part, structure.scale) if gone else []
        pieces_mm3 = np.append(Components.of(after).sizes * target.voxel_volume, [] if gone else beside_mm3)
        row = {
            "label": label,
            "components_before": len(evidence.found),
            "volume_before_mm3": _volume(mask, grid, beside_mm3),
            **_figures(pieces_mm3, result.label, repaired, target, beside_mm3 if gone else beside_mm3[:0]),
            "bridges": in_world(repaired.bridges, file.grid, file.affine),
            "findings": in_world(places, file.grid, file.affine),
            "structure": structure.name,
            "scale": structure.scale,
            "left_as_it_was": bool(repaired.beyond),
            "warnings": file.warnings
            + doubts_of(network, structure)
            + remarks(mask, grid, pieces_mm3, repaired.beyond, structure),
        }
        writing.result()
    return row


def _figures(
    pieces_mm3: NDArray[np.floating],
    label: NDArray[np.bool_],
    repaired: Repaired,
    grid: Grid,
    gone_mm3: NDArray[np.floating],
) -> dict[str, float]:
    """What became of a label on ``grid``: ``pieces_mm3`` are left, and ``gone_mm3`` beyond the grid are not."""
    return {
        "components_after": len(pieces_mm3),
        "volume_after_mm3": round(float(pieces_mm3.sum()), 3),
        "added_mm3": _volume(repaired.mask & ~label, grid),
        "removed_mm3": _volume(label & ~repaired.mask, grid, gone_mm3),
        "noise_mm": round(repaired.noise_mm, 4),
        "margin": round(repaired.margin, 6),
    }


@dataclass(frozen=True)
class _Target:
    """Where the results of a case go: on a grid of their own, or as the part ``place`` of a volume like ``file``."""

    case: Case
    output: Path
    file: LabelMap
    grid: Grid
    place: Box | None

    def write(
        self,
        fused: NDArray[np.uint8],
        probability: NDArray[np.float32],
        bridges: NDArray[np.bool_],
        code: SavedCode | None,
        options: Options,
    ) -> None:
        """Write everything that ``options`` ask for, the label map last; ``file`` then holds the refined one."""
        file, affine = self.file, None if self.place else self.grid.affine_from(self.file.affine, self.file.grid)
        if code is not None:
            save_code(self.output / CODE_FOLDER / f"{self.case.name}{SUFFIX}", code)
        if options.save_probability:
            path = self.output / PROBABILITY_FOLDER / self.case.file
            write_volume(path, self.whole(probability), file, affine)
        if bridges.any():
            path = self.output / BRIDGE_FOLDER / self.case.file
            write_label(path, self.whole(bridges.astype(np.uint8)), file.unnamed(), affine, [BRIDGE])
        array = fused
        if self.place:
            array = file.array  # nobody needs what was read any more, and a copy of a scan takes a while
            array[self.place.slices()] = fused
        write_label(self.output / self.case.file, array, file, affine)

    def whole(self, part: NDArray[Any]) -> NDArray[Any]:
        """``part`` in its volume, which holds 0 elsewhere; as it is on a grid of its own."""
        if self.place is None:
            return part
        array = self.file.array  # pages of zeros that nobody touches cost nothing, unlike those of zeros_like
        out = np.zeros(array.shape, part.dtype, order="F" if array.flags.f_contiguous else "C")
        out[self.place.slices()] = part
        return out


def _empty_map(case: Case, output: Path, file: LabelMap, options: Options) -> dict[str, Any]:
    """Of an empty map an empty map is written; what to warn of."""
    grid, affine = file.grid, None
    if options.resolution:
        grid = file.grid.cube(options.resolution)
        affine = grid.affine_from(file.affine, file.grid)
    write_label(output / case.file, np.zeros(grid.shape, np.uint8), file, affine)
    return {"warnings": [*file.warnings, "the label map is empty, and so is the result"]}


def _empty_class(options: Options, anatomy: Anatomy) -> dict[str, Any]:
    """The figures of a class in a map that is empty."""
    label = options.label if isinstance(options.label, int) else FOREGROUND
    structure = None if label == FOREGROUND else anatomy.by_index(int(label))
    if options.structure is not None:
        structure = anatomy.by_name(options.structure)
    structure = structure or VESSEL
    counts = dict.fromkeys(("components_before", "components_after"), 0)
    names = ("volume_before_mm3", "volume_after_mm3", "added_mm3", "removed_mm3", "noise_mm", "margin")
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
    rows = [
        row | {kind: in_world(found, file.grid, file.affine) for kind, found in places.items()}
        for row, places in zip(whole.rows, whole.places, strict=True)
    ]
    lost = [f"nothing is left of {row['name']}" for row in rows if not row["components_after"]]
    beyond = [f"{row['name']}: {reason}" for row, reason in zip(rows, whole.beyond, strict=True) if reason]
    return {
        "structures": rows,
        "left_as_it_was": bool(beyond),
        "rules_broken_before": whole.rules_before,
        "rules_broken_after": len(whole.flagged),
        "changes": in_world(whole.changes, file.grid, file.affine),
        "flagged": in_world(whole.flagged, file.grid, file.affine),
        "warnings": file.warnings
        + doubts
        + lost
        + beyond
        + [change.detail for change in whole.flagged if change.rule == "touches"],
    }


def _as_trained(file: LabelMap, options: Options, networks: Networks, anatomy: Anatomy) -> tuple[Anatomy, list[str]]:
    """The table as weights of one's own were trained for it, and why they, or its own, may not suit what is there."""
    weights = networks(options.weights)[0].description if options.weights else None
    if weights is not None and options.table is None:
        anatomy = Anatomy(tuple(as_trained(row, weights) for row in anatomy.structures))
    known = anatomy.knows(file.array)
    doubts: dict[str, None] = {}
    if known.any():
        present = [row for row in anatomy.structures if (file.array == row.index).any()]
        check_units(box_of(known), file.grid.spacing, max(row.scale for row in present), str(file.path))
        for row in present:
            doubts |= dict.fromkeys(doubts_of(networks(options.weights or shipped(row.weights))[0], row))
    return anatomy, list(doubts)


def _volume(mask: NDArray[np.bool_], grid: Grid, more_mm3: ArrayLike = 0.0) -> float:
    return round(float(np.count_nonzero(mask) * grid.voxel_volume + np.sum(more_mm3)), 3)
