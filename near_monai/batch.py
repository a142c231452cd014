"""Refinement of files: every case of a source, written under the same names, with a record of what happened."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from tqdm import tqdm

from near_monai.anatomy import HEART, Anatomy, Structure, load
from near_monai.boxes import crop_box
from near_monai.cases import Case, find_cases
from near_monai.cleaning import count_components
from near_monai.codes import redraw, save_code
from near_monai.colours import ITKSNAP_FILE, SLICER_FILE, segment_fields, write_tables
from near_monai.coords import Grid
from near_monai.errors import NearError
from near_monai.familiarity import warnings_for
from near_monai.findings import find
from near_monai.fusion import put_back
from near_monai.io import LabelMap, read_label, suffix_of, write_json, write_label, write_volume
from near_monai.merging import by_priority
from near_monai.places import in_world
from near_monai.refinement import refine_mask
from near_monai.repair import VESSEL
from near_monai.transforms import ALL, AUTO, FOREGROUND, choose_label, mask_of
from near_monai.version import __version__
from near_monai.weights import load_network, shipped
from near_monai.whole import Networks, refine_all

RUN_FILE = "run.json"
CODE_FOLDER, PROBABILITY_FOLDER, BRIDGE_FOLDER = "codes", "probability", "bridges"
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
        structure: what the class is, by its name in the table. ``None``: in a map of several classes the table's row of
            that number, in a map of one class a coronary tree, whatever its number.
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


def refine_files(source: str | Path, output: str | Path, options: Options, quiet: bool = False) -> dict[str, Any]:
    """Refine every case of ``source`` into ``output``; one bad case does not stop the others.

    Args:
        source: see :func:`near_monai.cases.find_cases`.
        output: folder to write to.
        options: how.
        quiet: no progress bar.

    Returns:
        What ``run.json`` holds: versions, options and, under ``cases``, name, status, seconds, components and volume
        before and after (of the refined class, on the grid of the input and of the output), what was added and removed,
        the label's estimated noise, findings with their places in world mm, and warnings.

    Raises:
        NearError: no cases, unusable weights or device, or ``output`` holds files of someone else.
    """
    cases = find_cases(source)
    output = Path(output)
    _check_output(output, cases)
    networks = lru_cache(lambda weights: load_network(weights, options.device))
    anatomy = load(options.table) if options.table else HEART
    network, _ = networks(options.weights or shipped(VESSEL.weights))
    run: dict[str, Any] = {
        "versions": {"near_monai": __version__, "monai": monai.__version__, "torch": torch.__version__},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": str(source),
        "options": asdict(options),
        "device": str(next(network.parameters()).device),
        "cases": [],
    }
    write_json(output / RUN_FILE, run)
    if options.label == ALL:
        write_tables(output, anatomy)
    for case in tqdm(cases, desc="refine", unit="case", disable=quiet):
        start = time.perf_counter()
        row: dict[str, Any] = {"name": case.name, "status": "failed"}
        try:
            _forget(case, output)
            if options.label == ALL:
                row.update(_refine_whole(case, output, options, networks, anatomy), status="done")
            else:
                row.update(_refine_file(case, output, options, networks, anatomy), status="done")
        except NearError as error:
            row["message"] = str(error)
        except Exception as error:  # whatever it is: one bad case does not stop the others
            row["message"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'out of memory'}"
        if "message" in row:
            tqdm.write(f"{case.name}: {row['message']}", file=sys.stderr)
        elif row["warnings"] and not quiet:
            tqdm.write(f"{case.name}: warning: {'; '.join(row['warnings'])}", file=sys.stderr)
        row["seconds"] = round(time.perf_counter() - start, 3)
        run["cases"].append(row)
        write_json(output / RUN_FILE, run)
    return run


def _refine_file(case: Case, output: Path, options: Options, networks: Networks, anatomy: Anatomy) -> dict[str, Any]:
    """Refine one class of a file; returns the figures of its row."""
    file = read_label(case.label)
    label = choose_label(file.array, options.label, str(case.label))
    mask = mask_of(file.array, label)
    structure = _structure(file.array, label, options, anatomy)
    network, space = networks(options.weights or shipped(structure.weights))
    target = file.grid
    if options.resolution:
        target = crop_box(mask, file.grid.spacing, CUBE_MARGIN_MM).grid(file.grid).cube(options.resolution)
    affine = target.affine_from(file.affine, file.grid) if options.resolution else None
    result = refine_mask(mask, file.grid, network, space, target, options.clean, structure)
    fused = put_back(file.array, file.grid, result.repaired.mask, target, label, anatomy)
    after = mask_of(fused, label)  # classes of higher priority have kept their voxels
    repaired = result.repaired.within(after)
    findings = find(result.label, repaired, result.probability, target)

    if options.save_codes:
        save_code(output / CODE_FOLDER / f"{case.name}.npz", result.code, file.affine)
    if options.save_probability:
        path = output / PROBABILITY_FOLDER / f"{case.name}{suffix_of(case.label)}"
        write_volume(path, result.probability, file, affine)
    if repaired.bridges:
        write_label(output / BRIDGE_FOLDER / case.label.name, repaired.bridge_mask.astype(np.uint8), file, affine)
    write_label(output / case.label.name, fused, file, affine)
    warnings = warnings_for(mask, file.grid, after, target, repaired.noise_mm)
    return {
        "label": label,
        "components_before": count_components(mask),
        "components_after": count_components(after),
        "volume_before_mm3": _volume(mask, file.grid),
        "volume_after_mm3": _volume(after, target),
        "added_mm3": _volume(repaired.mask & ~result.label, target),
        "removed_mm3": _volume(result.label & ~repaired.mask, target),
        "noise_mm": round(repaired.noise_mm, 4),
        "margin": round(repaired.margin, 6),
        "bridges": [asdict(bridge) for bridge in repaired.bridges],
        "findings": in_world(findings, target, file.affine if affine is None else affine),
        "structure": structure.name,
        "warnings": warnings if structure.weights == VESSEL.weights else [],
    }


def _structure(array: np.ndarray, label: int | str, options: Options, anatomy: Anatomy) -> Structure:
    """What class ``label`` of a map is taken for, see :class:`Options`."""
    if options.structure is not None:
        return anatomy.by_name(options.structure)
    alone = label == FOREGROUND or not np.any((array != 0) & (array != label))
    structure = None if label == FOREGROUND else anatomy.by_index(int(label))
    if alone and (options.table is None or structure is None):
        return VESSEL
    if structure is None:
        raise NearError(f"label {label} is not in the anatomy table; say what it is with --structure, or give a table")
    return structure


def _refine_whole(case: Case, output: Path, options: Options, networks: Networks, anatomy: Anatomy) -> dict[str, Any]:
    """Refine every class of a file; returns the figures of its row."""
    file = read_label(case.label)
    whole = refine_all(file.array, file.grid, networks, options.weights, anatomy)
    if options.save_codes and whole.code is not None:
        affine = whole.code.reference.affine_from(file.affine, file.grid)
        save_code(output / CODE_FOLDER / f"{case.name}.npz", whole.code, affine)
    write_label(output / case.label.name, whole.array, file, names=segment_fields(anatomy))
    if whole.bridges.any():
        write_label(output / BRIDGE_FOLDER / case.label.name, whole.bridges, file)
    rows = [
        row | {"findings": in_world(found, file.grid, file.affine)}
        for row, found in zip(whole.rows, whole.findings, strict=True)
    ]
    lost = [f"nothing is left of {row['name']}" for row in rows if not row["components_after"]]
    return {
        "structures": rows,
        "rules_broken_before": whole.rules_before,
        "rules_broken_after": len(whole.flagged),
        "changes": in_world(whole.changes, file.grid, file.affine),
        "flagged": in_world(whole.flagged, file.grid, file.affine),
        "warnings": lost + [change.detail for change in whole.flagged if change.rule == "touches"],
    }


def redraw_files(
    source: str | Path,
    output: str | Path,
    weights: str | None,
    resolution: int | None,
    device: str = "auto",
    table: str | None = None,
) -> int:
    """Draw saved codes anew, as ``NAME.nii.gz``: 1 where F is above 0.5, or the label map of a function of all classes.

    Args:
        source: a code file or a folder of them.
        output: folder to write to.
        weights: weights that the codes were made with; ``None`` for the shipped ones.
        resolution: N for cubes of N^3 voxels; ``None`` for the grid of the label.
        device: see :func:`near_monai.weights.pick_device`.
        table: anatomy table of a function of all classes; ``None`` for the heart's.

    Returns:
        The number of masks.

    Raises:
        NearError: no codes, codes that do not fit the weights, or a mask is there already.
    """
    source = Path(source)
    paths = sorted(source.glob("*.npz")) if source.is_dir() else [source]
    if not paths:
        raise NearError(f"{source}: no code files; expected NAME.npz as --save-codes writes them")
    anatomy = load(table) if table else HEART
    for path in paths:
        target = Path(output) / f"{path.stem}.nii.gz"
        if target.exists():
            raise NearError(f"{target}: is there already; give another folder")
        probability, affine = redraw(path, weights, resolution, device)
        drawn = by_priority(probability, anatomy) if probability.ndim == 4 else (probability > 0.5).astype(np.uint8)
        file = LabelMap.from_array(drawn, affine)
        write_label(target, file.array, file)
    return len(paths)


def _forget(case: Case, output: Path) -> None:
    """Remove what an earlier run left of a case beside its label map: it would not belong to the new one."""
    for name in (
        f"{CODE_FOLDER}/{case.name}.npz",
        f"{PROBABILITY_FOLDER}/{case.name}{suffix_of(case.label)}",
        f"{BRIDGE_FOLDER}/{case.label.name}",
    ):
        (output / name).unlink(missing_ok=True)


def _volume(mask: np.ndarray, grid: Grid) -> float:
    return round(float(np.count_nonzero(mask)) * grid.voxel_volume, 3)


def _check_output(output: Path, cases: list[Case]) -> None:
    """Refuse a folder in which writing would replace files that an earlier run of ours did not make."""
    names = [SLICER_FILE, ITKSNAP_FILE, *(case.label.name for case in cases)]
    taken = [name for name in names if (output / name).exists()]
    if taken and not (output / RUN_FILE).is_file():
        raise NearError(
            f"{output}: already holds {taken[0]}, and no {RUN_FILE} that says it was written here; give an empty folder"
        )
