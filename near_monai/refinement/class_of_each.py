"""Which class of each of several maps of one case is the structure in question: readers number it as they like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from near_monai.anatomy import Anatomy
from near_monai.data.class_selection import AUTO, FOREGROUND, OneClass, Wanted, choose_label
from near_monai.formats.label_maps import LabelMap
from near_monai.formats.voxel_values import values_in


def class_of_each(
    files: Sequence[LabelMap], wanted: Wanted, structure: str | None, anatomy: Anatomy
) -> tuple[list[OneClass], list[str]]:
    """The class of every map that stands for one structure.

    A number that was given is meant in all maps. With ``"auto"`` it is that of the structure in maps of several
    classes; a map of one class may have any number, such as 1 or 255, unless it is that of another class of these.

    Args:
        files: the maps, not all of them empty.
        wanted: what was selected.
        structure: name of the structure that is meant; ``None`` for the coronary arteries.
        anatomy: the table that says which class that is.

    Returns:
        The class of every map, in an empty one that of the first that is not; and what to say of maps that hold other
        classes only. The order of the maps changes neither.

    Raises:
        NearError: no map holds the class, or the table lacks the structure.
    """
    if wanted is FOREGROUND:
        return [FOREGROUND] * len(files), []
    present = [set(values_in(file.array)) - {0} for file in files]
    several = set[int]().union(*(values for values in present if len(values) > 1))
    if wanted is AUTO and not several:
        first = next(iter(next(values for values in present if values)))
        return [next(iter(values), first) for values in present], []
    known = several if wanted is AUTO else set[int]().union(*present)
    label = choose_label(np.array(sorted(known)), wanted, "label maps", anatomy, structure)
    own: list[OneClass] = []
    for values in present:
        foreign = wanted is AUTO and len(values) == 1 and not values <= several
        own.append(next(iter(values)) if foreign else label)
    lacking = [
        f"{name_of(number, file)}: no voxel has label {label}; labels present: {', '.join(map(str, sorted(values)))}; "
        "it counts as a map that draws nothing there"
        for number, (file, values) in enumerate(zip(files, present, strict=True), 1)
        if values and not values & {label, own[number - 1]}
    ]
    return own, lacking


def name_of(number: int, file: LabelMap) -> str:
    """What the map of a ``number`` from 1 is called in messages."""
    return str(file.path or f"label map {number}")
