"""Which class of a label map is meant, and where it is."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import HEART, LARGEST, VESSEL, Anatomy, Structure
from near_monai.errors import NearError, some
from near_monai.formats.voxel_values import values_in

HOW_TO_CHOOSE = "choose one with --label"
#: What every door says of an empty map.
EMPTY = "the label map is empty, and so is the result"


class Selection(StrEnum):
    """What stands for a class where its number is not given."""

    #: The only class there is, else that of the structure in question, which is coronary if nothing else is said.
    AUTO = "auto"
    #: Everything above 0, as one structure.
    FOREGROUND = "fg"
    #: Every class of the anatomy table, each by itself.
    ALL = "all"


AUTO: Final = Selection.AUTO
FOREGROUND: Final = Selection.FOREGROUND
ALL: Final = Selection.ALL
#: What is refined, scored or drawn by itself: a class by its number, or everything above 0.
OneClass = int | Literal[Selection.FOREGROUND]
#: How a person says which class that is.
Wanted = OneClass | Literal[Selection.AUTO]


def parse_class(given: int | str) -> Wanted:
    """What a command, a configuration or a call in Python gives as the class to work on.

    Args:
        given: a number from 1, or the text of one; ``"auto"``; ``"fg"``.

    Raises:
        NearError: it is none of these.
    """
    text = str(given)
    if text == AUTO:
        return AUTO
    if text == FOREGROUND:
        return FOREGROUND
    if text.isdecimal() and 1 <= int(text) <= LARGEST:
        return int(text)
    raise NearError(f"label {text!r}; expected a whole number from 1 to {LARGEST}, fg or auto")


def choose_label(
    array: NDArray[np.integer],
    label: int | Selection,
    where: str = "label map",
    anatomy: Anatomy = HEART,
    structure: str | None = None,
) -> OneClass:
    """Which class of a label map is meant.

    Args:
        array: the label map.
        label: what was selected, of one class.
        where: name for the error message.
        anatomy: the table that says which class that is.
        structure: name of the structure that is meant; ``None`` for the coronary arteries.

    Returns:
        The class.

    Raises:
        NearError: the map is empty or does not hold the class.
    """
    present = [value for value in values_in(array) if value]
    if not present:
        raise NearError(f"{where}: the label map is empty (all 0); expected at least one labelled voxel")
    if label is FOREGROUND:
        return label
    if label is AUTO:
        label = present[0] if len(present) == 1 else _class_of(structure, anatomy, where)
    if label not in present:
        found = ", ".join(map(str, present))
        raise NearError(f"{where}: no voxel has label {label}; labels present: {found}; {HOW_TO_CHOOSE}")
    return int(label)


def _class_of(name: str | None, anatomy: Anatomy, where: str) -> int:
    for structure in anatomy.structures:
        if structure.name == (name or VESSEL.name):
            return structure.index
    raise NearError(f"{where}: holds several classes, and its table no {name or 'coronary arteries'}; {HOW_TO_CHOOSE}")


def mask_of(array: NDArray[np.integer], label: OneClass) -> NDArray[np.bool_]:
    """Voxels of class ``label``."""
    return array > 0 if label is FOREGROUND else array == label


def alone(array: NDArray[np.integer], label: OneClass) -> bool:
    """Whether a label map holds nothing but class ``label``."""
    return label is FOREGROUND or set(values_in(array)) <= {0, label}


def recorded_class(label: int | str) -> OneClass:
    """The class that a row of ``run.json`` names."""
    return FOREGROUND if label == FOREGROUND else int(label)


def structure_in(label: OneClass, anatomy: Anatomy) -> Structure | None:
    """The row of a table that has the number of a class."""
    return None if label is FOREGROUND else anatomy.by_index(label)


def structures_in(array: NDArray[np.integer], anatomy: Anatomy) -> list[Structure]:
    """The rows of a table whose classes a label map holds, in its order."""
    there = values_in(array)
    return [structure for structure in anatomy.structures if structure.index in there]


def refuse_strangers(array: NDArray[np.integer], anatomy: Anatomy, where: str) -> None:
    """Refuse a map with classes that a table does not have: where nobody said so, its numbers may mean something else.

    Raises:
        NearError: there are such classes.
    """
    strangers = [str(value) for value in values_in(array) if value and anatomy.by_index(value) is None]
    if strangers:
        raise NearError(
            f"{where}: holds classes that the heart's table does not have ({some(strangers)}), so that its other "
            "numbers may mean something else, too; say what is what with --label and --structure, or with --table"
        )


def check_structure(array: NDArray[np.integer], label: OneClass, structure: str, where: str) -> None:
    """Refuse a class that stands for another structure of the heart's table. Alone in its map it may be anything.

    Raises:
        NearError: it does, or the map has classes that the table does not have.
    """
    if alone(array, label):
        return
    refuse_strangers(array, HEART, where)
    row = structure_in(label, HEART)
    if row is not None and row.name != structure:
        raise NearError(
            f"{where}: label {label} is {row.name}, and these weights are for {structure} alone; near-monai refine has "
            "others, and train --config organs makes some"
        )
