"""The main job: a noisy label in, a clean one out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import VESSEL, Anatomy, Structure
from near_monai.data.class_selection import OneClass, mask_of
from near_monai.errors import NearError
from near_monai.fusion.class_replacement import put_back
from near_monai.geometry.boxes import Box, widen
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.distance import resample_mask, signed_distance
from near_monai.geometry.working_space import WorkingSpace
from near_monai.inferers.case_code import CaseCode
from near_monai.inferers.decoding import decode
from near_monai.inferers.evidence import Evidence
from near_monai.inferers.occupancy import occupancy
from near_monai.networks.network import NearNetwork
from near_monai.repair.findings_to_check import Finding, find
from near_monai.repair.judge import Bounds, judge_of
from near_monai.repair.mask_repair import LEFT, PART_LEFT, Noise, Repaired, noise_of, repair

#: mm of background kept around a structure of scale 1: F is asked up to 3 mm from it, tubes need 5.
CONTEXT_MM = 5.0


@dataclass(frozen=True)
class Refined:
    """What refinement gives for one label.

    Attributes:
        repaired: the refined mask on ``grid``, and what was done to it.
        label: the label on ``grid``.
        probability: float32, same shape: F on ``grid``.
        codes: z of the case, per region, in the scale of its structure; with F they redraw the probability at any
            resolution.
        grid: the grid of the masks, in the mm frame of the label.
    """

    repaired: Repaired
    label: NDArray[np.bool_]
    probability: NDArray[np.float32]
    codes: tuple[CaseCode, ...]
    grid: Grid


def refine_mask(
    mask: NDArray[np.bool_],
    native: Grid,
    network: NearNetwork,
    space: WorkingSpace,
    target: Grid | None = None,
    clean: bool | Bounds = True,
    structure: Structure = VESSEL,
) -> Refined:
    """Refine one mask.

    Args:
        mask: ``(X, Y, Z)``, at least one voxel set.
        native: its grid.
        network: trained network with an encoder.
        space: the working space that it was trained in.
        target: grid of the result, in the mm frame of ``native``; ``None`` for ``native`` itself.
        clean: also reconnect torn-off pieces and drop small ones that could not be joined; see
            :func:`near_monai.repair.mask_repair.repair`.
        structure: what it is: its scale, and whether it is a vessel.

    Raises:
        NearError: ``target`` is too coarse for the label, F is not a number somewhere, or it knows several structures.
    """
    if network.field.heads != 1:
        heads = network.field.heads
        raise NearError(f"the weights are one function of {heads} structures; near-monai refine --all-labels uses them")
    small = structure.size.shrunk(native)
    evidence = Evidence.of(Components.of(mask), small.spacing)
    asked = occupancy(mask[None], small, network, space, evidence=evidence)
    probability = asked.probability[0]
    if target is None or target == native:
        repaired = repair_scaled(mask, probability, native, structure, None, clean, evidence, network)
        return Refined(repaired, mask, probability, asked.codes, native)
    shown = evidence.shown(mask)
    noise = noise_of(shown, probability, small, evidence.found)  # of the label itself, whatever the grid of the result
    seen = resample_mask(shown, native, target)
    if not seen.any():
        raise NearError(f"nothing of the label is left on a grid of {target.shape} voxels: ask for more")
    cube = structure.size.shrunk(target)
    probability = np.maximum.reduce([decode(code, network.field, cube) for code in asked.codes])
    probability[signed_distance(seen, cube.spacing, space.truncate) >= space.truncate] = 0
    repaired = repair_scaled(seen, probability, target, structure, noise, clean, network=network)
    return Refined(repaired, seen, probability, asked.codes, target)


def repair_scaled(
    mask: NDArray[np.bool_],
    probability: NDArray[np.float32],
    grid: Grid,
    structure: Structure,
    noise: Noise | None = None,
    clean: bool | Bounds = True,
    evidence: Evidence | None = None,
    network: NearNetwork | None = None,
) -> Repaired:
    """Repair in the scale of ``structure``; ``noise`` is in that scale, too, and what comes back is in mm.

    Joints are judged as the ``network``'s weights learned it, if they did.
    """
    small, judge = structure.size.shrunk(grid), judge_of(network)
    return structure.size.grown(repair(mask, probability, small, noise, clean, structure, evidence, judge))


@dataclass(frozen=True)
class RefinedPart:
    """A part of a case that was refined by itself.

    Attributes:
        box: its place in the volume; ``None`` on a grid of its own.
        refined: what refinement gave for it.
        fused: the refined label map there.
        repaired: what was done to the label, without what another class of higher priority kept.
        after: what became of the label.
    """

    box: Box | None
    refined: Refined
    fused: NDArray[Any]
    repaired: Repaired
    after: NDArray[np.bool_]

    @classmethod
    def of(
        cls, refined: Refined, array: NDArray[Any], grid: Grid, label: OneClass, anatomy: Anatomy, box: Box | None
    ) -> RefinedPart:
        """The refined mask put back into the part ``array`` on ``grid`` that it came from."""
        fused = put_back(array, grid, refined.repaired.mask, refined.grid, label, anatomy)
        after = mask_of(fused, label)
        return cls(box, refined, fused, refined.repaired.within(after, refined.grid), after)


def reasons(parts: Sequence[RefinedPart]) -> str:
    """Why parts of a label were left as they were; empty if all were repaired."""
    said = [part.repaired.beyond for part in parts if part.repaired.beyond]
    if len(said) < len(parts):  # the other parts were repaired
        said = [text.replace(LEFT, PART_LEFT) for text in said]
    return "; ".join(dict.fromkeys(said))


def refine_parts(
    array: NDArray[Any],
    native: Grid,
    label: OneClass,
    evidence: Evidence,
    network: NearNetwork,
    space: WorkingSpace,
    clean: bool | Bounds,
    structure: Structure,
    anatomy: Anatomy,
) -> Iterator[RefinedPart]:
    """Refine a class of a label map, part by part: what lies far apart is never in memory at once.

    Args:
        array: ``(X, Y, Z)`` the map.
        native: its grid.
        label: the class.
        evidence: what counts of it, on the whole grid.
        network: see :func:`refine_mask`.
        space: see :func:`refine_mask`.
        clean: see :func:`refine_mask`.
        structure: what the class is.
        anatomy: the table.
    """
    for region in evidence.parts:
        box = widen(region, native.spacing, structure.size.mm(CONTEXT_MM), native.shape)
        part, grid = np.ascontiguousarray(array[box.slices()]), box.grid(native)
        result = refine_mask(mask_of(part, label), grid, network, space, clean=clean, structure=structure)
        yield RefinedPart.of(result, part, grid, label, anatomy, box)


def places_of(structure: Structure, parts: Sequence[RefinedPart]) -> list[Finding]:
    """Findings of all parts."""
    return [
        place
        for part in parts
        for place in find(
            part.refined.label, part.repaired, part.refined.probability, part.refined.grid, structure.size
        )
    ]
