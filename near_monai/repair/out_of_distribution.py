"""Does a label look like what the shipped weights were trained on? If not, a person is told why."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import VESSEL, Structure
from near_monai.geometry.boxes import box_of
from near_monai.geometry.coordinates import Grid
from near_monai.inferers.evidence import Evidence
from near_monai.repair.mask_repair import wall_area

#: Mean radius of a coronary tree in mm, 2 V / A. Real labels and generated trees have 1.0 to 2.2, an aorta 10.
RADIUS_MM = (0.7, 3.0)
#: Longest side of the box around a tree in mm. Real labels have 80 to 150; more is a graft, less a part of a tree.
EXTENT_MM = (50.0, 200.0)
#: Largest change of the volume that is still a repair.
VOLUME_CHANGE = 0.3
#: A component with more than this share of the volume leaves nothing for the other tree.
ONE_TREE = 0.97


def remarks(
    label: Sequence[tuple[NDArray[np.bool_], Grid]],
    pieces_mm3: NDArray[np.floating],
    beyond: str,
    structure: Structure,
    evidence: Evidence,
) -> list[str]:
    """What is unusual about a label of ``structure``; only of coronary arteries is it known what is usual.

    Args:
        label: as for :func:`warnings_for`.
        pieces_mm3: as for :func:`warnings_for`, but there may be none.
        beyond: why the label was left as it was, if it was.
        structure: what it is.
        evidence: all components of the label, in its volume.
    """
    if not len(pieces_mm3):
        return ["nothing is left of the label"]
    unusual = warnings_for(label, pieces_mm3, is_cut(evidence)) if structure.name == VESSEL.name else []
    return [beyond] * bool(beyond) + unusual


def is_cut(evidence: Evidence) -> bool:
    """Whether more than a speck of a label lies at a face of its volume."""
    boxes = itertools.compress(evidence.found.boxes, ~evidence.loose)
    return any(0 in box.start or any(map(operator.eq, box.stop, evidence.found.shape)) for box in boxes)


def warnings_for(
    label: Sequence[tuple[NDArray[np.bool_], Grid]], pieces_mm3: NDArray[np.floating], cut: bool
) -> list[str]:
    """One line for everything unusual about a label; an empty list if nothing is.

    Args:
        label: parts of the label, far apart, in one mm frame: masks ``(X, Y, Z)``, at least one voxel set, and their
            grids.
        pieces_mm3: volumes of the components of what became of it; there are some.
        cut: see :func:`is_cut`.
    """
    boxes = [box_of(mask) for mask, _ in label]
    volume = sum(np.count_nonzero(mask) * grid.voxel_volume for mask, grid in label)
    radius = 2 * volume / sum(wall_area(mask, grid) for mask, grid in label)
    corners = [grid.to_mm(np.array([box.start, box.stop]) - 0.5) for box, (_, grid) in zip(boxes, label, strict=True)]
    extent = float(np.ptp(np.concatenate(corners), axis=0).max())
    change = pieces_mm3.sum() / volume - 1
    largest = pieces_mm3.max() / pieces_mm3.sum()
    rules = (
        (not RADIUS_MM[0] <= radius <= RADIUS_MM[1], f"mean radius {radius:.1f} mm: is it the right class?"),
        (extent > EXTENT_MM[1], f"{extent:.0f} mm long: does it hold a graft, or more than the coronary arteries?"),
        (extent < EXTENT_MM[0], f"only {extent:.0f} mm long: a part of a tree"),
        (
            largest > ONE_TREE,
            "a single tree: one of left and right is missing, or they are joined",
        ),
        (cut, "cut by the border: the label goes on where its volume ends"),
        (abs(change) > VOLUME_CHANGE, f"volume changed by {change:+.0%}: look at it before you use it"),
    )
    return [text for unusual, text in rules if unusual]
