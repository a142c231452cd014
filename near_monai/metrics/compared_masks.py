"""What is compared in one case: a class of a prediction, and what stands for it in the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from near_monai.anatomy import CORONARY
from near_monai.data.class_selection import AUTO, FOREGROUND, OneClass, Wanted, alone, choose_label, mask_of
from near_monai.formats.label_maps import read_label
from near_monai.formats.voxel_values import values_in


@dataclass(frozen=True, eq=False)
class CaseMasks:
    """Masks ``(X, Y, Z)`` on one grid; ``spacing`` as in :class:`near_monai.metrics.mask_metrics.Pair`."""

    name: str
    pred: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    spacing: ArrayLike
    baseline: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Chosen:
    """What is compared.

    Attributes:
        label: class of the truth; ``None`` if the truth is empty.
        alone: the truth holds no other class.
    """

    label: OneClass | None
    alone: bool


def compare(name: str, pred: Path, truth: Path, baseline: Path | None, label: Wanted) -> tuple[CaseMasks, Chosen]:
    """Read the files of a case, and choose what is compared.

    The class is chosen in the truth, see :func:`near_monai.data.class_selection.choose_label`. With ``"auto"`` it may
    be another number in the other maps: two maps of one class each pair whatever their values, such as 1 and 255.

    Raises:
        NearError: a file cannot be read, the truth lacks the class, or the grids differ.
    """
    target = read_label(truth)
    empty = not target.array.any()
    chosen = None if empty else choose_label(target.array, label, str(truth))
    masks = []
    for path in (pred, baseline):
        if path is not None:
            found = read_label(path)
            found.check_grid_of(target)
            masks.append(mask_of(found.array, _partner(found.array, target.array, chosen, label)))
    true = np.zeros(target.array.shape, bool) if chosen is None else mask_of(target.array, chosen)
    chose = Chosen(chosen, chosen is None or alone(target.array, chosen))
    return CaseMasks(name, masks[0], true, target.affine[:3, :3], *masks[1:]), chose


def _partner(
    array: NDArray[np.integer], truth: NDArray[np.integer], chosen: OneClass | None, label: Wanted
) -> OneClass:
    """The class of ``array`` that stands for class ``chosen`` of ``truth``."""
    if label is not AUTO:
        return label
    there, true = set(values_in(array)) - {0}, set(values_in(truth)) - {0}
    if chosen in there:
        return chosen
    if len(there) == 1 and not there <= true:
        return there.pop()
    if len(true) < 2 and CORONARY in there:  # a binary truth, and one class of several
        return CORONARY
    return FOREGROUND if chosen is None else chosen
