"""All structures of a label map: refined each on its own, or by one function of all, then made one map again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import HEART, Anatomy, Structure
from near_monai.data.class_selection import structures_in
from near_monai.errors import NearError
from near_monai.fusion.anatomy_rules import violations
from near_monai.fusion.consistent_map import compose
from near_monai.fusion.map_changes import Change
from near_monai.fusion.overlaps import Claim
from near_monai.geometry.boxes import box_of, box_where, crop_box, widen
from near_monai.geometry.components import count_components
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.geometry.world_places import Place
from near_monai.inferers.case_code import CaseCode
from near_monai.inferers.occupancy import occupancy
from near_monai.inferers.shared_cores import shared_cores
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import shipped
from near_monai.refinement.one_structure import CONTEXT_MM, refine_mask, repair_scaled
from near_monai.repair.findings_to_check import find
from near_monai.repair.mask_repair import Repaired

#: Where a function of all says less than this, a structure claims nothing.
UNLIKELY = 0.01

#: Weights file of the table to network and working space.
Networks = Callable[[str | Path], tuple[NearNetwork, WorkingSpace]]


@dataclass(frozen=True)
class Whole:
    """What :func:`refine_all` gives.

    Attributes:
        array: the refined map, of the type that it had.
        changes: what was decided between structures and corrected.
        flagged: what still breaks a rule and should be looked at.
        rules_before: number of places that broke a rule before.
        rows: per structure: volume and components before and after, noise and caution.
        places: per row, its `bridges`, and as `findings` what was added, removed, bridged or left uncertain, in the
            frame of the grid.
        bridges: of the type of the map, the class whose bridge a voxel is.
        beyond: per row, why the label was left as it was, or nothing.
        codes: z of the case, per region, if one function of all structures refined it.
    """

    array: NDArray[np.uint8]
    changes: list[Change]
    flagged: list[Change]
    rules_before: int
    rows: list[dict[str, Any]]
    places: list[dict[str, Sequence[Place]]]
    bridges: NDArray[np.uint8]
    beyond: list[str]
    codes: tuple[CaseCode, ...]


def refine_all(
    array: NDArray[np.uint8], grid: Grid, networks: Networks, unified: str | None = None, anatomy: Anatomy = HEART
) -> Whole:
    """Refine every structure that the table knows.

    Args:
        array: label map ``(X, Y, Z)``; classes that the table does not have come back as they are.
        grid: its grid.
        networks: loads the network of a weights file.
        unified: weights of one function of all structures; ``None`` for one function per structure.
        anatomy: the table.

    Raises:
        NearError: no class of the table is present.
    """
    if not structures_in(array, anatomy):
        raise NearError("no class of the anatomy table is in the label map; give another table")
    margin = CONTEXT_MM * max(s.scale for s in anatomy.structures)
    box = widen(box_where(array, anatomy.knows), grid.spacing, margin, grid.shape)
    cut, sub = box.slices(), box.grid(grid)
    inner = np.ascontiguousarray(array[cut])  # what runs against the order of memory takes three times as long
    codes: tuple[CaseCode, ...] = ()
    if unified:
        codes, found = _by_one(inner, sub, networks(unified), anatomy)
    else:
        found = _by_each(inner, sub, networks, anatomy)
    composed = compose([claim for claim, _ in found], inner, sub, anatomy)

    out, bridges = array.copy(order="K"), np.zeros(array.shape, array.dtype)
    out[cut] = composed.array
    structures = {structure.index: structure for structure in anatomy.structures}

    def described(claim: Claim, repaired: Repaired) -> tuple[dict[str, Any], dict[str, Sequence[Place]]]:
        there, part, structure = claim.box.slices(), claim.box.grid(sub), structures[claim.index]
        old, new = inner[there] == claim.index, composed.array == claim.index
        kept = repaired.within(new[there], part)
        bridges[cut][there][kept.bridge_mask] = claim.index  # no two structures have a voxel in common
        findings = find(old, kept, claim.probability.astype(np.float32), part, structure.size)
        return _row(structure, old, new, sub, kept), {"bridges": kept.bridges, "findings": findings}

    with shared_cores() as pool:
        broken = pool.submit(violations, inner, sub, anatomy)
        rows, places = zip(*pool.map(described, *zip(*found, strict=True)), strict=True)
    return Whole(
        array=out,
        changes=composed.changes,
        flagged=composed.flagged,
        rules_before=len(broken.result()),
        rows=list(rows),
        places=list(places),
        bridges=bridges,
        beyond=[repaired.beyond for _, repaired in found],
        codes=codes,
    )


def _by_each(
    array: NDArray[np.uint8], grid: Grid, networks: Networks, anatomy: Anatomy
) -> list[tuple[Claim, Repaired]]:
    """Every structure by its own function, on the part of the map where it is."""

    def refined(structure: Structure) -> tuple[Claim, Repaired]:
        box = boxes[structure.index]
        mask = array[box.slices()] == structure.index
        result = refine_mask(mask, box.grid(grid), *networks(shipped(structure.weights)), structure=structure)
        probability = result.probability.astype(np.float16)
        return Claim(structure.index, box, result.repaired.mask, probability), result.repaired

    present = structures_in(array, anatomy)
    boxes = {s.index: crop_box(array == s.index, grid.spacing, s.size.mm(CONTEXT_MM)) for s in present}
    # the largest first: then no core waits for it in the end, and least is kept beside it
    order = sorted(present, key=lambda s: math.prod(boxes[s.index].shape), reverse=True)
    with shared_cores() as pool:
        found = dict(zip((s.index for s in order), pool.map(refined, order), strict=True))
    return [found[structure.index] for structure in present]


def _by_one(
    array: NDArray[np.uint8],
    grid: Grid,
    unified: tuple[NearNetwork, WorkingSpace],
    anatomy: Anatomy,
) -> tuple[tuple[CaseCode, ...], list[tuple[Claim, Repaired]]]:
    """All structures by one function: one code, one evaluation."""
    network, space = unified
    if network.field.heads != len(anatomy.structures) or network.field.heads == 1:
        raise NearError(f"the weights know {network.field.heads} structures; the table has {len(anatomy.structures)}")
    names = tuple(structure.name for structure in anatomy.structures)
    known = network.description.names if network.description else names
    if known != names:
        raise NearError(f"the weights are for {', '.join(known)}; the table has {', '.join(names)}")
    masks = np.stack([array == s.index for s in anatomy.structures])
    asked = occupancy(masks, grid, network, space, np.float16)
    return asked.codes, repair_structures(masks, asked.probability, grid, anatomy)


def repair_structures(
    masks: NDArray[np.bool_], probability: NDArray[np.floating], grid: Grid, anatomy: Anatomy = HEART
) -> list[tuple[Claim, Repaired]]:
    """Repair every structure that is present, given what one function of all says.

    Args:
        masks: ``(C, X, Y, Z)``, one channel per structure of the table, in its order.
        probability: same shape.
        grid: their grid.
        anatomy: the table.

    Returns:
        For every structure that is present what it claims, and what was done to it.
    """
    found = []
    for structure, mask, own in zip(anatomy.structures, masks, probability, strict=True):
        if not mask.any():
            continue
        box = box_of(np.asarray(mask | (own > UNLIKELY)))
        inner, p = mask[box.slices()], own[box.slices()]
        repaired = repair_scaled(inner, p.astype(np.float32), box.grid(grid), structure)
        found.append((Claim(structure.index, box, repaired.mask, p), repaired))
    return found


def _row(
    structure: Structure, old: NDArray[np.bool_], new: NDArray[np.bool_], grid: Grid, repaired: Repaired
) -> dict[str, Any]:
    return {
        "label": structure.index,
        "name": structure.name,
        "scale": structure.scale,
        "components_before": count_components(old),
        "components_after": count_components(new),
        "volume_before_mm3": round(np.count_nonzero(old) * grid.voxel_volume, 3),
        "volume_after_mm3": round(np.count_nonzero(new) * grid.voxel_volume, 3),
        "noise_mm": round(repaired.noise_mm, 4),
        "caution": round(repaired.caution, 6),
    }
