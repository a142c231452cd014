"""Folders of refined label maps to one map per case."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from near_monai.anatomy import Anatomy, table_of
from near_monai.data.case_lists import Case, find_cases, paired
from near_monai.data.colour_tables import segments_of, write_tables
from near_monai.data.failed_cases import Outcomes
from near_monai.data.run_layout import FUSE_FILE, PROBABILITY_FOLDER, RUN_FILE
from near_monai.errors import NearError, printable, some
from near_monai.formats.atomic_writing import claim_empty, write_json
from near_monai.formats.label_maps import LabelMap, read_label, read_volume, write_label
from near_monai.fusion.anatomy_rules import violations
from near_monai.fusion.consistent_map import compose
from near_monai.fusion.overlaps import Claim
from near_monai.geometry.boxes import crop_box
from near_monai.geometry.distance import signed_distance
from near_monai.geometry.world_places import in_world

#: Without a saved probability a structure is sure of its mask, and outside less and less over this many mm.
UNSURE_MM = 1.0
#: mm around a mask in which it has a say about slits.
SLIT_MARGIN_MM = 4.0


def fuse_folders(folders: Sequence[Path], output: Path, table: Path | None, quiet: bool = False) -> dict[str, Any]:
    """Fuse the cases that ``folders`` have in common by name.

    Of a folder that ``near-monai refine`` wrote, the class that was refined there counts, with its probability where
    it was saved; classes that no folder refined come from the first folder. Of other folders every class counts.

    Args:
        folders: folders of label maps, on one grid per case.
        output: empty folder to write to.
        table: anatomy table; ``None`` for the heart's.
        quiet: no progress bar.

    Returns:
        What ``fuse.json`` holds: under ``cases`` the changes and flagged places of every case, in world mm.

    Raises:
        NearError: a folder holds nothing, no case is in all of them, or some are not, or cannot be fused (the others
            are written then).
    """
    anatomy = table_of(table)
    listed = [find_cases(folder) for folder in folders]
    found = [paired([case.name for case in listed[0]], cases) for cases in listed]
    names = sorted(set.intersection(*(set(cases) for cases in found)))
    outcomes, cases = Outcomes(), list[dict[str, Any]]()
    if not names:
        raise NearError(f"{', '.join(map(str, folders))}: no case is in all folders; expected files of one name")
    claim_empty(output)
    write_tables(output, anatomy)
    classes = [_refined_classes(folder) for folder in folders]
    for folder, cases_there in zip(folders, found, strict=True):
        _name_strays(folder, [cases_there[name] for name in names])
    for name, message in _not_in_all(listed, found, folders).items():
        outcomes.fail(name, message)
        cases.append({"name": name, "status": "failed", "message": message})
    for name in tqdm(names, desc="fuse", unit="case", disable=quiet):
        these = [found_here[name] for found_here in found]
        refined = [of_folder.get(case.name) for of_folder, case in zip(classes, these, strict=True)]
        with outcomes.of(name):
            cases.append({"name": name, "status": "done"} | _fuse_case(these, refined, folders, output, anatomy))
        if name in outcomes.failed:
            cases.append({"name": name, "status": "failed", "message": outcomes.failed[name]})
        write_json(output / FUSE_FILE, {"folders": folders, "table": table, "cases": cases})
    outcomes.check(len(cases), f"{output / FUSE_FILE}")
    return {"cases": cases}


def _not_in_all(
    listed: Sequence[Sequence[Case]], found: Sequence[Mapping[str, Case]], folders: Sequence[Path]
) -> dict[str, str]:
    """Cases that some folder lacks, and which; ``found`` has those of every folder by the names in the first."""
    lacking: dict[str, list[Path]] = {}
    for folder, there in zip(folders, found, strict=True):
        for name in (case.name for case in listed[0] if case.name not in there):
            lacking.setdefault(name, []).append(folder)
    for cases, there in zip(listed[1:], found[1:], strict=True):
        for case in (case for case in cases if case not in there.values()):
            lacking.setdefault(case.name, []).append(folders[0])
    return {name: f"is not in {some(sorted({*map(str, where)}))}; it is left out" for name, where in lacking.items()}


def _fuse_case(
    cases: list[Case], refined: list[int | None], folders: Sequence[Path], output: Path, anatomy: Anatomy
) -> dict[str, Any]:
    files = [read_label(case.label) for case in cases]
    first = files[0]
    for file in files[1:]:
        file.check_grid_of(first)
    claims: dict[int, Claim] = {}
    for structure in anatomy.structures:
        index = structure.index
        source = refined.index(index) if index in refined else _first(files, refined, index)
        if (files[source].array == index).any():
            saved = folders[source] / PROBABILITY_FOLDER / cases[source].file if refined[source] == index else None
            claims[index] = _claim(files[source], index, saved)
    # what any folder labels can become a slit; classes that the table does not have are those of the first
    others = np.maximum.reduce([np.where(np.isin(f.array, list(claims)), f.array, 0) for f in files])
    before = np.where((first.array > 0) & ~anatomy.knows(first.array), first.array, others)
    composed = compose(list(claims.values()), before, first.grid, anatomy)
    write_label(output / cases[0].file, composed.array, first, segments=segments_of(anatomy))
    return {
        "rules_broken_before": len(violations(first.array, first.grid, anatomy)),
        "rules_broken_after": len(composed.flagged),
        "changes": in_world(composed.changes, first.grid, first.affine),
        "flagged": in_world(composed.flagged, first.grid, first.affine),
    }


def _first(files: list[LabelMap], refined: list[int | None], index: int) -> int:
    """The file that a class comes from which no folder refined: the first whole map that has it, else the first."""
    whole = [n for n, only in enumerate(refined) if only is None and (files[n].array == index).any()]
    return whole[0] if whole else 0


def _name_strays(folder: Path, cases: Iterable[Case]) -> None:
    """Say which of ``cases`` in the folder of a run the run does not have: their input was renamed, or is gone."""
    try:
        known = {row["name"] for row in json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["cases"]}
    except (OSError, ValueError, KeyError, TypeError):
        return
    if strays := [case.name for case in cases if case.name not in known]:
        message = f"{folder}: {some(strays)}: results of input that its {RUN_FILE} does not list; they are fused, too"
        tqdm.write(printable(message), file=sys.stderr)


def _refined_classes(folder: Path) -> dict[str, int]:
    """Per case the class that ``near-monai refine`` refined in ``folder``; only for those of which it says one."""
    try:
        rows = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))["cases"]
        return {row["name"]: row["label"] for row in rows if isinstance(row.get("label"), int)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _claim(file: LabelMap, index: int, saved: Path | None) -> Claim:
    """What a file claims for one class, as sure as its ``saved`` probability says if it is there, or how near it is."""
    box = crop_box(file.array == index, file.grid.spacing, SLIT_MARGIN_MM)
    mask = file.array[box.slices()] == index
    if saved and saved.is_file():
        volume = read_volume(saved)
        volume.check_grid_of(file)
        return Claim(index, box, mask, volume.array[box.slices()])
    return Claim(index, box, mask, _nearness(mask, file.grid.spacing))


def _nearness(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> NDArray[np.floating]:
    """Falls off outside the mask; inside all are as sure, or a thick structure would win over every thin one."""
    outside = signed_distance(mask, spacing, SLIT_MARGIN_MM)
    probability: NDArray[np.floating] = np.where(mask, 1.0, 0.5 * np.exp(-np.maximum(outside, 0) / UNSURE_MM))
    return probability
