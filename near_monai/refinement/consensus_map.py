"""Several label maps of one case to one: of two readers, three networks, several time points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from near_monai.anatomy import Anatomy, Structure, table_of
from near_monai.data.class_selection import (
    ALL,
    AUTO,
    OneClass,
    Selection,
    Wanted,
    choose_label,
    mask_of,
    parse_class,
    refuse_strangers,
)
from near_monai.errors import NearError
from near_monai.formats.given_images import label_map
from near_monai.formats.label_maps import LabelMap
from near_monai.formats.voxel_values import Labels
from near_monai.fusion.class_replacement import put_back
from near_monai.fusion.consistent_map import compose
from near_monai.fusion.overlaps import Claim
from near_monai.geometry.boxes import Box, crop_box
from near_monai.geometry.units import check_units
from near_monai.geometry.world_places import in_world
from near_monai.networks.weight_files import load_network, shipped
from near_monai.refinement.agreed_mask import Agreed, agree
from near_monai.refinement.all_structures import Networks
from near_monai.refinement.class_meaning import meaning_of
from near_monai.refinement.one_structure import CONTEXT_MM


@dataclass(frozen=True, eq=False)
class Consensus:
    """What :func:`consensus` gives with ``return_details``; places are in world mm.

    Attributes:
        label: the label map that all maps agree on, in the shape of the first one.
        agreement: float32, same shape: the share of the maps that have the label of the result at a voxel.
        structures: per structure its ``label`` and name, the ``noise_mm`` of every map, ``bridges`` that no map drew,
            and ``findings``: places that some maps have and others lack, ``kept`` or ``left out``, and joints that are
            only ``proposed``.

    Example:
        >>> import near_monai
        >>> found = near_monai.consensus(["case_1.nii.gz", "refined/case_1.nii.gz"], return_details=True)
        >>> found.agreement.shape == found.label.shape, float(found.agreement.max())
        (True, 1.0)
    """

    label: Labels
    agreement: NDArray[np.float32]
    structures: list[dict[str, Any]]


@overload
def consensus(
    labels: Sequence[Any],
    spacing: ArrayLike | None = None,
    which: int | str = AUTO,
    structure: str | None = None,
    table: str | Path | None = None,
    device: str = "auto",
    *,
    return_details: Literal[False] = False,
) -> Labels: ...
@overload
def consensus(
    labels: Sequence[Any],
    spacing: ArrayLike | None = None,
    which: int | str = AUTO,
    structure: str | None = None,
    table: str | Path | None = None,
    device: str = "auto",
    *,
    return_details: Literal[True],
) -> Consensus: ...
def consensus(
    labels: Sequence[Any],
    spacing: ArrayLike | None = None,
    which: int | str = AUTO,
    structure: str | None = None,
    table: str | Path | None = None,
    device: str = "auto",
    *,
    return_details: bool = False,
) -> Labels | Consensus:
    """One label map of several of the same case.

    Args:
        labels: two or more label maps on one grid, each as for :func:`near_monai.refine`.
        spacing: ``(3,)`` voxel size in mm; not needed for images, files and MetaTensors.
        which: class, ``"fg"``, ``"auto"`` (see :func:`near_monai.refine`), or ``"all"`` for every class of the table.
        structure: what the class is, by its name in the table.
        table: anatomy table; ``None`` for the heart's.
        device: ``"auto"``, ``"cpu"`` or a CUDA device.
        return_details: also say where the maps disagree.

    Returns:
        The map; classes that are not meant are those of the first map. With ``return_details`` a :class:`Consensus`.

    Raises:
        NearError: fewer than two maps, maps on different grids, or what :func:`near_monai.refine` refuses.

    Example:
        >>> import near_monai
        >>> agreed = near_monai.consensus(["case_1.nii.gz", "refined/case_1.nii.gz"])
        >>> agreed.shape
        (64, 52, 40)
    """
    files = [label_map(label, spacing) for label in labels]
    anatomy = table_of(table)
    wanted = ALL if which == ALL else parse_class(which)
    found = consensus_of(files, wanted, structure, partial(kept_network, device=device), anatomy, table is not None)
    label, agreement = np.expand_dims(found.label, files[0].ones), np.expand_dims(found.agreement, files[0].ones)
    return Consensus(label, agreement, found.structures) if return_details else label


kept_network = cache(load_network)


def consensus_of(
    files: Sequence[LabelMap],
    which: int | Selection,
    structure: str | None,
    networks: Networks,
    anatomy: Anatomy,
    table_given: bool,
) -> Consensus:
    """:func:`consensus` of label maps that were read; without the axes of length 1 that the first one has."""
    if len(files) < 2:
        raise NearError(f"{len(files)} label map; expected at least two of the same case")
    first = files[0]
    for file in files[1:]:
        file.check_grid_of(first)
    if which is ALL:
        return _of_all(files, networks, anatomy, table_given)
    return _of_one(files, which, structure, networks, anatomy, table_given)


def _of_one(
    files: Sequence[LabelMap],
    which: Wanted,
    structure: str | None,
    networks: Networks,
    anatomy: Anatomy,
    table_given: bool,
) -> Consensus:
    """One class: what is not of it is that of the first map."""
    filled = [file for file in files if file.array.any()]
    if not filled:
        raise NearError("all label maps are empty; expected at least one labelled voxel")
    label = choose_label(filled[0].array, which, str(filled[0].path or "label map"), anatomy, structure)
    row = meaning_of(filled[0].array, label, anatomy if table_given else None, structure)
    first = files[0]
    box, agreed = _agreed(files, label, row, networks)
    part = box.grid(first.grid)
    out = first.array.copy()
    mask = agreed.repaired.mask
    out[box.slices()] = put_back(np.ascontiguousarray(out[box.slices()]), part, mask, part, label, anatomy)
    there = mask_of(out, label)
    return Consensus(
        out, _share([mask_of(file.array, label) == there for file in files]), [_row(label, row, agreed, first)]
    )


def _of_all(files: Sequence[LabelMap], networks: Networks, anatomy: Anatomy, table_given: bool) -> Consensus:
    """Every class of the table that some map has, made one map again."""
    first = files[0]
    if not table_given:
        for file in files:
            refuse_strangers(file.array, anatomy, str(file.path or "label map"))
    present = [row for row in anatomy.structures if any((file.array == row.index).any() for file in files)]
    if not present:
        raise NearError("no class of the anatomy table is in any of the label maps; give another table")
    claims, rows = [], []
    for row in present:
        box, agreed = _agreed(files, row.index, row, networks)
        if agreed.repaired.mask.any():
            claims.append(Claim(row.index, box, agreed.repaired.mask, agreed.probability))
        rows.append(_row(row.index, row, agreed, first))
    # what any map labels can become a slit; classes that the table does not have are those of the first
    others = np.maximum.reduce([np.where(anatomy.knows(file.array), file.array, 0) for file in files])
    before = np.where((first.array > 0) & ~anatomy.knows(first.array), first.array, others)
    out = compose(claims, before, first.grid, anatomy).array
    return Consensus(out, _share([file.array == out for file in files]), rows)


def _share(agrees: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """Share of the maps that agree, voxel by voxel; nothing larger than a map is made."""
    total = np.zeros(agrees[0].shape, np.float32)
    for one in agrees:
        total += one
    return total / np.float32(len(agrees))


def _agreed(files: Sequence[LabelMap], label: OneClass, row: Structure, networks: Networks) -> tuple[Box, Agreed]:
    """What the maps agree on of a class, and the box where."""
    grid = files[0].grid
    union = np.logical_or.reduce([mask_of(file.array, label) for file in files])
    box = crop_box(union, grid.spacing, row.size.mm(CONTEXT_MM))
    check_units(box, grid.spacing, row.scale, "label maps")
    masks = [np.ascontiguousarray(mask_of(file.array[box.slices()], label)) for file in files]
    network, space = networks(shipped(row.weights))
    return box, agree(masks, box.grid(grid), network, space, row)


def _row(label: OneClass, row: Structure, agreed: Agreed, file: LabelMap) -> dict[str, Any]:
    return {
        "label": label,
        "structure": row.name,
        "noise_mm": [round(noise, 4) for noise in agreed.noise_mm],
        "bridges": in_world(agreed.repaired.bridges, file.grid, file.affine),
        "findings": in_world(agreed.findings, file.grid, file.affine),
    }
