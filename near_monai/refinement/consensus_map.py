"""Several label maps of one case to one: of two readers, three networks, several time points."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from near_monai.anatomy import Anatomy, Structure, table_of
from near_monai.data.class_selection import (
    ALL,
    AUTO,
    FOREGROUND,
    OneClass,
    Selection,
    Wanted,
    mask_of,
    parse_class,
    refuse_strangers,
    structures_in,
)
from near_monai.errors import NearError, NearWarning
from near_monai.formats.given_images import label_map
from near_monai.formats.label_maps import LabelMap
from near_monai.formats.voxel_values import Labels, values_in
from near_monai.fusion.class_replacement import put_back
from near_monai.fusion.consistent_map import compose
from near_monai.fusion.overlaps import Claim
from near_monai.geometry.boxes import Box, crop_box
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.units import check_units
from near_monai.geometry.world_places import in_world
from near_monai.metrics.mask_metrics import Pair, dice
from near_monai.networks.weight_files import load_network, shipped
from near_monai.refinement.agreed_mask import Agreed, agree
from near_monai.refinement.all_structures import Networks
from near_monai.refinement.class_meaning import meaning_of
from near_monai.refinement.class_of_each import class_of_each, name_of
from near_monai.refinement.one_array import words_of_python
from near_monai.refinement.one_structure import CONTEXT_MM


@dataclass(frozen=True, eq=False)
class Consensus:
    """What :func:`consensus` gives with ``return_details``; places are in world mm.

    Attributes:
        label: the label map that all maps agree on, in the shape of the first one.
        agreement: float32, same shape: the share of the maps that have the label of the result at a voxel.
        structures: per structure its ``label`` and name, of every map its ``noise_mm`` and its ``dice`` with the
            result, ``bridges`` that no map drew, and ``findings``: places that some maps have and others lack, ``kept``
            or ``left out``, and joints that are only ``proposed``.
        warnings: what a person should know of the maps, as it was warned of.

    Example:
        >>> import near_monai
        >>> found = near_monai.consensus(["case_1.nii.gz", "refined/case_1.nii.gz"], return_details=True)
        >>> found.agreement.shape == found.label.shape, float(found.agreement.max())
        (True, 1.0)
    """

    label: Labels
    agreement: NDArray[np.float32]
    structures: list[dict[str, Any]]
    warnings: list[str]


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
        which: class, ``"fg"``, ``"auto"`` (see :func:`near_monai.refinement.class_of_each.class_of_each`), or ``"all"``
            for every class of the table.
        structure: what the class is, by its name in the table.
        table: anatomy table; ``None`` for the heart's.
        device: ``"auto"``, ``"cpu"`` or a CUDA device.
        return_details: also say where the maps disagree.

    Returns:
        The map; classes that are not meant, and the number of the one that is, are those of the first map that is not
        empty. With ``return_details`` a :class:`Consensus`.

    Raises:
        NearError: fewer than two maps, maps on different grids, or what :func:`near_monai.refine` refuses.

    Warns:
        NearWarning: a map lacks the class or is unusual, or all of them are empty.

    Example:
        >>> import near_monai
        >>> agreed = near_monai.consensus(["case_1.nii.gz", "refined/case_1.nii.gz"])
        >>> agreed.shape
        (64, 52, 40)
    """
    with words_of_python():
        files = [label_map(label, spacing) for label in labels]
        anatomy = table_of(table)
        wanted = ALL if which == ALL else parse_class(which)
        found = consensus_of(files, wanted, structure, partial(kept_network, device=device), anatomy, table is not None)
    for text in found.warnings:
        warnings.warn(text, NearWarning, stacklevel=2)
    label, agreement = np.expand_dims(found.label, files[0].ones), np.expand_dims(found.agreement, files[0].ones)
    return replace(found, label=label, agreement=agreement) if return_details else label


kept_network = cache(load_network)
ALL_EMPTY = "all label maps are empty, and so is the result"


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
    said = [f"{name_of(number, file)}: {text}" for number, file in enumerate(files, 1) for text in file.warnings]
    if not any(file.array.any() for file in files):
        return Consensus(first.array, np.ones(first.array.shape, np.float32), [], [*said, ALL_EMPTY])
    if which is ALL:
        found = _of_all(files, networks, anatomy, table_given)
    else:
        found = _of_one(files, which, structure, networks, anatomy, table_given)
    return replace(found, warnings=said + found.warnings)


def _of_one(
    files: Sequence[LabelMap],
    which: Wanted,
    structure: str | None,
    networks: Networks,
    anatomy: Anatomy,
    table_given: bool,
) -> Consensus:
    """One class: what is not of it is that of the first map."""
    own, lacking = class_of_each(files, which, structure, anatomy)
    # what a class is, a map of several classes says best
    told = max(range(len(files)), key=lambda number: len(values_in(files[number].array)))
    row = meaning_of(files[told].array, own[told], anatomy if table_given else None, structure)
    first = files[0]
    masks = [mask_of(file.array, label) for file, label in zip(files, own, strict=True)]
    box, agreed = _agreed(masks, first.grid, row, networks)
    part = box.grid(first.grid)
    out = first.array.astype(np.result_type(first.array, 0 if own[0] is FOREGROUND else np.min_scalar_type(own[0])))
    mask = agreed.repaired.mask
    out[box.slices()] = put_back(np.ascontiguousarray(out[box.slices()]), part, mask, part, own[0], anatomy)
    there = mask_of(out, own[0])
    share = _share([mask == there for mask in masks])
    return Consensus(out, share, [_row(own[0], row, agreed, first, masks, there)], lacking)


def _of_all(files: Sequence[LabelMap], networks: Networks, anatomy: Anatomy, table_given: bool) -> Consensus:
    """Every class of the table that some map has, made one map again."""
    first = files[0]
    if not table_given:
        for file in files:
            refuse_strangers(file.array, anatomy, str(file.path or "label map"))
    held = {row.index for file in files for row in structures_in(file.array, anatomy)}
    present = [row for row in anatomy.structures if row.index in held]
    if not present:
        raise NearError("no class of the anatomy table is in any of the label maps; give another table")
    claims, found = [], []
    for row in present:
        box, agreed = _agreed([file.array == row.index for file in files], first.grid, row, networks)
        if agreed.repaired.mask.any():
            claims.append(Claim(row.index, box, agreed.repaired.mask, agreed.probability))
        found.append((row, agreed))
    # what any map labels can become a slit; classes that the table does not have are those of the first
    others = np.maximum.reduce([np.where(anatomy.knows(file.array), file.array, 0) for file in files])
    before = np.where((first.array > 0) & ~anatomy.knows(first.array), first.array, others)
    out = compose(claims, before, first.grid, anatomy).array
    rows = [
        _row(row.index, row, agreed, first, [file.array == row.index for file in files], out == row.index)
        for row, agreed in found
    ]
    return Consensus(out, _share([file.array == out for file in files]), rows, [])


def _share(agrees: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """Share of the maps that agree, voxel by voxel; nothing larger than a map is made."""
    total = np.zeros(agrees[0].shape, np.float32)
    for one in agrees:
        total += one
    return total / np.float32(len(agrees))


def _agreed(masks: Sequence[NDArray[np.bool_]], grid: Grid, row: Structure, networks: Networks) -> tuple[Box, Agreed]:
    """What the ``masks`` of the maps on ``grid`` agree on, and the box where."""
    box = crop_box(np.logical_or.reduce(masks), grid.spacing, row.size.mm(CONTEXT_MM))
    check_units(box, grid.spacing, row.scale, "label maps")
    network, space = networks(shipped(row.weights))
    cropped = [np.ascontiguousarray(mask[box.slices()]) for mask in masks]
    return box, agree(cropped, box.grid(grid), network, space, row)


def _row(
    label: OneClass,
    row: Structure,
    agreed: Agreed,
    file: LabelMap,
    masks: Sequence[NDArray[np.bool_]],
    result: NDArray[np.bool_],
) -> dict[str, Any]:
    """What is said of a structure, whose ``masks`` are those of the maps, and ``result`` what they became."""
    return {
        "label": label,
        "structure": row.name,
        "noise_mm": [round(noise, 4) for noise in agreed.noise_mm],
        "dice": [round(dice(Pair(mask, result, file.grid.spacing)), 4) for mask in masks],
        "bridges": in_world(agreed.repaired.bridges, file.grid, file.affine),
        "findings": in_world(agreed.findings, file.grid, file.affine),
    }
