"""The figures of a refined case: its row in ``run.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import Structure
from near_monai.formats.label_maps import LabelMap
from near_monai.geometry.components import Components
from near_monai.geometry.world_places import in_world
from near_monai.inferers.evidence import Evidence
from near_monai.refinement.one_structure import RefinedPart, places_of, reasons
from near_monai.repair.findings_to_check import set_aside
from near_monai.repair.out_of_distribution import remarks


def figures_of(
    file: LabelMap,
    structure: Structure,
    evidence: Evidence,
    parts: Sequence[RefinedPart],
    aside: Components,
    gone: bool,
) -> dict[str, Any]:
    """Figures, places and warnings of one class of a file.

    Args:
        file: the label map.
        structure: what the class is.
        evidence: all components of the label.
        parts: what was refined of it.
        aside: pieces outside all parts, which F was not asked about.
        gone: they were removed; else they stay.
    """
    beyond, aside_mm3 = reasons(parts), aside.sizes * file.grid.voxel_volume
    after = [Components.of(part.after).sizes * part.refined.grid.voxel_volume for part in parts]
    pieces_mm3 = np.concatenate(after if gone else [*after, aside_mm3])
    places = places_of(structure, parts)
    if gone:
        places += set_aside(aside, file.grid, structure.size)
    figures = {
        "volume_before_mm3": int(evidence.found.sizes.sum()) * file.grid.voxel_volume,
        "volume_after_mm3": float(pieces_mm3.sum()),
        "added_mm3": sum(_volume(part, part.repaired.mask & ~part.refined.label) for part in parts),
        "removed_mm3": sum(_volume(part, part.refined.label & ~part.repaired.mask) for part in parts)
        + float(aside_mm3.sum()) * gone,
    }
    return {
        "components_before": len(evidence.found),
        "components_after": len(pieces_mm3),
        **{name: round(value, 3) for name, value in figures.items()},
        "noise_mm": round(_mean([part.repaired.noise_mm for part in parts], parts), 4),
        "caution": round(_mean([part.repaired.caution for part in parts], parts), 6),
        "bridges": in_world([b for part in parts for b in part.repaired.bridges], file.grid, file.affine),
        "findings": in_world(places, file.grid, file.affine),
        "structure": structure.name,
        "scale": structure.scale,
        "left_as_it_was": bool(beyond),
        "warnings": remarks(
            [(part.refined.label, part.refined.grid) for part in parts], pieces_mm3, beyond, structure, evidence
        ),
    }


def _mean(values: Sequence[float], parts: Sequence[RefinedPart]) -> float:
    """Mean over the parts, weighted by the label in each."""
    weights = [float(np.count_nonzero(part.refined.label)) for part in parts]
    return float(np.average(values, weights=weights)) if sum(weights) else values[0]


def _volume(part: RefinedPart, mask: NDArray[np.bool_]) -> float:
    return float(np.count_nonzero(mask)) * part.refined.grid.voxel_volume
