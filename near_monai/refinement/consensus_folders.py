"""Folders of label maps of the same cases to one folder of what they agree on."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from near_monai.anatomy import Anatomy, table_of
from near_monai.data.case_lists import Case, find_cases, paired
from near_monai.data.class_selection import ALL, Selection
from near_monai.data.colour_tables import segments_of, write_tables
from near_monai.data.failed_cases import Outcomes
from near_monai.data.run_layout import AGREEMENT_FOLDER, CONSENSUS_FILE
from near_monai.errors import NearError, printable, some
from near_monai.formats.atomic_writing import claim_empty, write_json
from near_monai.formats.label_maps import read_label, write_label, write_volume
from near_monai.networks.weight_files import pick_device
from near_monai.refinement.all_structures import Networks
from near_monai.refinement.consensus_map import consensus_of, kept_network


def consensus_folders(
    folders: Sequence[Path],
    output: Path,
    which: int | Selection,
    structure: str | None = None,
    table: Path | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> dict[str, Any]:
    """Make one label map of every case that at least two of ``folders`` have, by name.

    Args:
        folders: two or more folders of label maps, on one grid per case.
        output: new folder: the label maps, ``agreement/`` (the share of the maps that have the label of the result at a
            voxel) and ``consensus.json``.
        which: see :func:`near_monai.consensus`.
        structure: likewise.
        table: anatomy table; ``None`` for the heart's.
        device: ``"auto"``, ``"cpu"`` or a CUDA device.
        quiet: no progress bar.

    Returns:
        What ``consensus.json`` holds: under ``cases`` per case the folders that have it, and what
        :class:`near_monai.refinement.consensus_map.Consensus` says of its structures, and warns of.

    Raises:
        NearError: fewer than two folders, a folder holds nothing, two hold the same file, or some cases are in one
            folder only or cannot be used (the others are written then).
    """
    if len(folders) < 2:
        raise NearError("one folder; expected two or more with label maps of the same cases")
    anatomy, listed = table_of(table), [find_cases(folder) for folder in folders]
    _refuse_copies([case.label for cases in listed for case in cases])
    names = list(dict.fromkeys(case.name for cases in listed for case in cases))
    found = [paired(names, cases) for cases in listed]
    networks = partial(kept_network, device=str(pick_device(device)))
    claim_empty(output)
    if which is ALL:
        write_tables(output, anatomy)
    outcomes, rows = Outcomes(), []
    for name in tqdm(sorted(names), desc="consensus", unit="case", disable=quiet):
        these = {str(folder): cases[name] for folder, cases in zip(folders, found, strict=True) if name in cases}
        row: dict[str, Any] = {"name": name, "status": "done", "folders": list(these)}
        with outcomes.of(name):
            if len(these) < 2:
                raise NearError(f"is in {some(list(these))} only; it is left out")
            row |= _one_case(list(these.values()), output, which, structure, networks, anatomy, table is not None)
            if row["warnings"] and not quiet:
                tqdm.write(printable(f"{name}: warning: {'; '.join(row['warnings'])}"), file=sys.stderr)
        if name in outcomes.failed:
            row |= {"status": "failed", "message": outcomes.failed[name]}
        rows.append(row)
        write_json(output / CONSENSUS_FILE, {"folders": folders, "table": table, "cases": rows})
    outcomes.check(len(names), f"{output / CONSENSUS_FILE}")
    return {"cases": rows}


def _refuse_copies(files: Sequence[Path]) -> None:
    """Refuse to count a map twice: the same folder, however it is spelled, or links to the same files.

    Raises:
        NearError: a file is among ``files`` more than once.
    """
    count = Counter(path.resolve() for path in files)
    if twice := [str(path) for path, times in count.items() if times > 1]:
        raise NearError(f"{some(twice)}: in two of the folders; a map counts once: give every folder once")


def _one_case(
    cases: Sequence[Case],
    output: Path,
    which: int | Selection,
    structure: str | None,
    networks: Networks,
    anatomy: Anatomy,
    table_given: bool,
) -> dict[str, Any]:
    """Write what the maps of a case agree on; what its row says of it."""
    files = [read_label(case.label) for case in cases]
    agreed = consensus_of(files, which, structure, networks, anatomy, table_given)
    first = files[0]
    names = segments_of(anatomy) if which is ALL else []
    write_volume(output / AGREEMENT_FOLDER / cases[0].file, agreed.agreement, first)
    write_label(output / cases[0].file, agreed.label, first, segments=names)
    return {"structures": agreed.structures, "warnings": agreed.warnings}
