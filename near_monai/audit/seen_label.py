"""A label beside what F and the repair make of it: all that an audit knows of one structure of one case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import Structure
from near_monai.audit.label_centreline import Centreline
from near_monai.geometry.boxes import Box, box_of, widen
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid
from near_monai.inferers.evidence import Evidence
from near_monai.metrics.mask_metrics import MARGIN, Pair
from near_monai.refinement.one_structure import CONTEXT_MM, Refined, RefinedPart, reasons


@dataclass(frozen=True, eq=False)
class Seen:
    """A label and its own refined result, on one grid in the scale of the structure.

    Attributes:
        label: ``(X, Y, Z)`` the label, as far as it lies in the box of what counts.
        repaired: same shape, what the repair makes of it.
        probability: float32, same shape, F.
        grid: their grid, in the scale of the structure: lengths are those of a coronary artery.
        noise_mm: estimated noise, in that scale.
        bridges: number of gaps that the repair closed.
        proposals: probabilities of joints that it only proposes.
        bridged: ``(X, Y, Z)`` voxels of the bridges.
        aside: volumes in mm^3, in that scale, of pieces that F was not asked about.
        beyond: why the label is beyond what F was trained on; empty if it is not.
    """

    label: NDArray[np.bool_]
    repaired: NDArray[np.bool_]
    probability: NDArray[np.float32]
    grid: Grid
    noise_mm: float
    bridges: int
    proposals: tuple[float, ...]
    bridged: NDArray[np.bool_]
    aside: tuple[float, ...] = ()
    beyond: str = ""

    @cached_property
    def pair(self) -> Pair:
        """The label as prediction and its refined result as truth."""
        return Pair(self.label, self.repaired, self.grid.spacing)

    @cached_property
    def line(self) -> Centreline:
        """The centreline of the label, in its frame."""
        start = np.subtract(box_of(self.label | self.repaired).start, MARGIN)  # Pair cuts and pads so
        shape = self.pair.pred
        return Centreline.of(shape, Grid.of(shape.mask.shape, self.grid.spacing, self.grid.to_mm(start)))

    @classmethod
    def of_parts(cls, native: Grid, evidence: Evidence, parts: Sequence[RefinedPart], structure: Structure) -> Seen:
        """From the refined parts of a case, which lie in boxes of its ``native`` grid."""
        box = widen(evidence.box, native.spacing, structure.size.mm(CONTEXT_MM), native.shape)
        masks = [_pasted(box, [(part.box, part.refined.label) for part in parts], bool)]
        masks.append(_pasted(box, [(part.box, part.refined.repaired.mask) for part in parts], bool))
        masks.append(_pasted(box, [(part.box, part.refined.repaired.bridge_mask) for part in parts], bool))
        probability = _pasted(box, [(part.box, part.refined.probability) for part in parts], np.float32)
        size = [float(np.count_nonzero(part.refined.label)) for part in parts]
        noise = float(np.average([part.refined.repaired.noise_mm for part in parts], weights=size))
        small = structure.size.shrunk(box.grid(native))
        aside: Components = evidence.aside([part.box for part in parts if part.box])
        return cls(
            masks[0],
            masks[1],
            probability,
            small,
            noise / structure.scale,
            sum(len(part.refined.repaired.bridges) for part in parts),
            tuple(p.probability for part in parts for p in part.refined.repaired.proposals),
            masks[2],
            tuple((aside.sizes * small.voxel_volume).tolist()) if len(aside) else (),
            reasons(parts),
        )

    @classmethod
    def of_one(cls, refined: Refined, structure: Structure) -> Seen:
        """From a label that was refined as a whole, with what is around it."""
        repaired, small = refined.repaired, structure.size.shrunk(refined.grid)
        noise = repaired.noise_mm / structure.scale if math.isfinite(repaired.noise_mm) else 0.0
        sure = tuple(proposal.probability for proposal in repaired.proposals)
        return cls(
            refined.label,
            repaired.mask,
            refined.probability,
            small,
            noise,
            len(repaired.bridges),
            sure,
            repaired.bridge_mask,
            beyond=repaired.beyond,
        )


def _pasted(box: Box, parts: Sequence[tuple[Box | None, NDArray[Any]]], kind: type) -> Any:
    """``parts`` at their places in ``box``, 0 elsewhere."""
    out: NDArray[Any] = np.zeros(box.shape, kind)
    for place, part in parts:
        if place is not None:
            there = place.overlap(box)
            target = out[there.within(box).slices()]
            np.maximum(target, part[there.within(place).slices()], out=target)
    return out
