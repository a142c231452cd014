"""Which class of a label map is meant, and where it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import HEART, Anatomy
from near_monai.errors import NearError, some
from near_monai.formats.voxel_values import values_in

#: Everything above 0, as one structure.
FOREGROUND = "fg"
#: The only class there is, else that of the structure in question, which is coronary if nothing else is said.
AUTO = "auto"
HOW_TO_CHOOSE = "choose one with --label"
#: Every class of the anatomy table.
ALL = "all"
#: What every door says of an empty map.
EMPTY = "the label map is empty, and so is the result"


def choose_label(
    array: NDArray[np.integer],
    label: int | str,
    where: str = "label map",
    anatomy: Anatomy = HEART,
    structure: str | None = None,
) -> int | str:
    """Which class of a label map is meant.

    Args:
        array: the label map.
        label: a class index; ``"fg"`` for everything above 0; ``"auto"`` for the only class there is, else that of
            ``structure``.
        where: name for the error message.
        anatomy: the table that says which class that is.
        structure: name of the structure that is meant; ``None`` for the coronary arteries.

    Returns:
        The class index, or ``"fg"``.

    Raises:
        NearError: the map is empty or does not hold the class.
    """
    present = [value for value in values_in(array) if value]
    if not present:
        raise NearError(f"{where}: the label map is empty (all 0); expected at least one labelled voxel")
    if label == AUTO:
        label = present[0] if len(present) == 1 else _class_of(structure, anatomy, where)
    if label != FOREGROUND and not isinstance(label, int | np.integer):
        raise NearError(f"{where}: label {label!r}; expected a whole number, 'fg' or 'auto'")
    if label != FOREGROUND and label not in present:
        found = ", ".join(map(str, present))
        raise NearError(f"{where}: no voxel has label {label}; labels present: {found}; {HOW_TO_CHOOSE}")
    return label if label == FOREGROUND else int(label)


def _class_of(name: str | None, anatomy: Anatomy, where: str) -> int:
    for structure in anatomy.structures:
        if structure.name == (name or "coronary"):
            return structure.index
    raise NearError(f"{where}: holds several classes, and its table no {name or 'coronary arteries'}; {HOW_TO_CHOOSE}")


def mask_of(array: NDArray[np.integer], label: int | str) -> NDArray[np.bool_]:
    """Voxels of class ``label``, or all above 0 for ``"fg"``."""
    return array > 0 if label == FOREGROUND else array == label


def alone(array: NDArray[np.integer], label: int | str) -> bool:
    """Whether a label map holds nothing but class ``label``."""
    return label == FOREGROUND or set(values_in(array)) <= {0, label}


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
