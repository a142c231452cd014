"""What a class of a label map is taken for, one rule for the command, for Python and for codes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import HEART, VESSEL, Anatomy, Structure
from near_monai.data.class_selection import FOREGROUND, OneClass, alone, refuse_strangers, structure_in
from near_monai.errors import NearError
from near_monai.networks.model_description import Description
from near_monai.networks.network import NearNetwork


def meaning_of(
    array: NDArray[np.integer],
    label: OneClass,
    anatomy: Anatomy | None = None,
    structure: str | None = None,
    weights: Description | None = None,
    where: str = "label map",
) -> Structure:
    """What class ``label`` of a map is taken for.

    In a map of several classes it is the table's row of that number. Alone in its map it may have any number: it is the
    row of a table that was given, else what weights of one structure are for, else (without a table) a coronary tree.
    What weights of one's own say of a structure counts, unless a table is given as well.

    Args:
        array: the map.
        label: the class.
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
    label: OneClass,
    anatomy: Anatomy | None,
    structure: str | None,
    weights: Description | None,
    where: str,
) -> Structure:
    table = anatomy or HEART
    if structure is not None:
        return named(structure, anatomy, weights)
    row = structure_in(label, table)
    several = not alone(array, label)
    if several and anatomy is None:
        refuse_strangers(array, HEART, where)
    if row is not None and (several or anatomy is not None):
        return row
    if weights is not None and len(weights.structures) == 1 and not several:
        return weights.structures[0]
    if label is not FOREGROUND and (several or anatomy is not None):
        raise NearError(
            f"{where}: label {label} is not in the anatomy table; say what it is with --structure, or give a table"
        )
    return VESSEL


def named(structure: str, anatomy: Anatomy | None = None, weights: Description | None = None) -> Structure:
    """The structure of a name: that of the weights' own, unless a table is given, or the table's.

    Raises:
        NearError: there is none.
    """
    known = weights.structure(structure) if weights is not None and anatomy is None else None
    return known or (anatomy or HEART).by_name(structure)


def as_trained(row: Structure, weights: Description | None) -> Structure:
    """``row`` as the weights were trained for it: how it is scaled, how far F is trusted, from where a point is in."""
    known = None if weights is None else weights.structure(row.name)
    if known is None:
        return row
    return replace(row, scale=known.scale, tubular=known.tubular, trust=known.trust, threshold=known.threshold)


def doubts_of(network: NearNetwork, row: Structure) -> list[str]:
    """Why a network may not suit ``row``, see :meth:`near_monai.networks.model_description.Description.doubts`."""
    return [] if network.description is None else network.description.doubts(row)
