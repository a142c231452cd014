"""What a class of a label map is taken for, one rule for the command, for Python and for codes; and its size in mm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import HEART, Anatomy, Structure
from near_monai.boxes import Box
from near_monai.description import Description
from near_monai.errors import NearError
from near_monai.network import NearNetwork
from near_monai.repair import VESSEL
from near_monai.transforms import FOREGROUND, alone, refuse_strangers

#: Shorter side of a voxel in mm, per scale of the structure: an artery of 3 mm cannot be drawn with voxels of 3 mm.
COARSEST_MM = 2.0
#: The same: F needs 3 mm around a label, and a map of finer voxels would be thousands of them wide.
FINEST_MM = 0.02
#: Longest side of the box around a label in mm: per scale not less (a voxel may be all that there is), and in no scale
#: more than a person is wide. Metres taken for mm make a heart 0.1 long, micrometres 100,000.
SHORTEST_MM, LONGEST_MM = 0.2, 1000.0


def subject_of(
    array: NDArray[np.integer],
    label: int | str,
    anatomy: Anatomy | None = None,
    structure: str | None = None,
    weights: Description | None = None,
    where: str = "label map",
) -> Structure:
    """What class ``label`` of a map is taken for.

    In a map of several classes it is the table's row of that number. Alone in its map it may have any number: it is the
    row of a table that was given, else what weights of one structure are for, else a coronary tree. What weights of
    one's own say of a structure counts, unless a table is given as well.

    Args:
        array: the map.
        label: class index, or ``"fg"``.
        anatomy: a table that was given; ``None`` for the heart's.
        structure: name of the structure, if it was given.
        weights: what the weights are that were given; ``None`` for the table's.
        where: the map, for messages.

    Raises:
        NearError: nothing says what the class is.
    """
    row = _row(array, label, anatomy, structure, weights, where)
    return row if anatomy is not None else as_trained(row, weights)


def _row(
    array: NDArray[np.integer],
    label: int | str,
    anatomy: Anatomy | None,
    structure: str | None,
    weights: Description | None,
    where: str,
) -> Structure:
    table = anatomy or HEART
    if structure is not None:
        known = weights.structure(structure) if weights is not None and anatomy is None else None
        return known or table.by_name(structure)
    row = None if label == FOREGROUND else table.by_index(int(label))
    if not alone(array, label):
        if anatomy is None:
            refuse_strangers(array, HEART, where)
        if row is None:
            raise NearError(
                f"{where}: label {label} is not in the anatomy table; say what it is with --structure, or give a table"
            )
        return row
    if anatomy is not None and row is not None:
        return row
    return weights.structures[0] if weights is not None and len(weights.structures) == 1 else VESSEL


def as_trained(row: Structure, weights: Description | None) -> Structure:
    """``row`` as the weights were trained for it: how it is scaled, how far F is trusted, from where a point is in."""
    known = None if weights is None else weights.structure(row.name)
    if known is None:
        return row
    return replace(row, scale=known.scale, tubular=known.tubular, trust=known.trust, threshold=known.threshold)


def doubts_of(network: NearNetwork, row: Structure) -> list[str]:
    """Why a network may not suit ``row``, see :meth:`near_monai.description.Description.doubts`."""
    return [] if network.description is None else network.description.doubts(row)


def check_units(box: Box, spacing: Sequence[float], scale: float, where: str) -> None:
    """Refuse a label that can only be as large as it seems if its spacing is not in mm.

    Args:
        box: the box around it, in voxels.
        spacing: voxel size in mm.
        scale: of its structure.
        where: the map, for the message.

    Raises:
        NearError: it is too small, too large, or its voxels are too fine or too coarse.
    """
    sides = [n * step for n, step in zip(box.shape, spacing, strict=True)]
    fitting = FINEST_MM * scale <= min(spacing) <= COARSEST_MM * scale
    if not fitting or not SHORTEST_MM * scale <= max(sides) <= LONGEST_MM:
        extent, size = (" x ".join(f"{value:.4g}" for value in values) for values in (sides, spacing))
        finest, coarsest, shortest = (value * scale for value in (FINEST_MM, COARSEST_MM, SHORTEST_MM))
        raise NearError(
            f"{where}: the label would be {extent} mm large, with voxels of {size} mm; is the spacing in mm? "
            f"Expected voxels of {finest:g} to {coarsest:g} mm and a label of {shortest:g} to {LONGEST_MM:g} mm"
        )
