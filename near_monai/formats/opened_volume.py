"""What a file says of its volume, whatever the format, and the voxels, which come in parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

#: Header of NIfTI; metadata (keys and values) of NRRD and MetaImage.
Header = nib.Nifti1Header | dict[str, str]


class UnsupportedError(ValueError):
    """A file is sound, but does what near_monai does not read; the message says what, and what to do."""


@dataclass(frozen=True)
class Stored:
    """A volume in an open file.

    Attributes:
        shape: voxels of the file, along every axis that it has.
        ones: those of its axes, of length 1, that are none of the three of space.
        affine: voxel to RAS world, mm.
        header: what else it says.
        parts: the numbers of the voxels, the first axis fastest; they can be taken once.
        step: the stored numbers are multiples of it, if they were whole numbers before.
    """

    shape: tuple[int, ...]
    ones: tuple[int, ...]
    affine: NDArray[np.float64]
    header: Header
    parts: Iterator[NDArray[Any]]
    step: float = 0.0


def axes_of_one(shape: tuple[int, ...], spatial: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of ``shape`` beside those of space; the last axes of length 1 count as none of space.

    Raises:
        UnsupportedError: what is left is no volume (X, Y, Z).
    """
    inner = list(spatial)
    while len(inner) > 3 and shape[inner[-1]] == 1:
        inner.pop()
    others = tuple(axis for axis in range(len(shape)) if axis not in inner)
    if len(inner) != 3 or min(shape) < 1 or any(shape[axis] != 1 for axis in others):
        raise UnsupportedError(f"{len(shape)}-D image of shape {shape}; expected one 3-D volume (X, Y, Z)")
    return others
