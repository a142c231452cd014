"""Label maps in memory, under the rules that hold for files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.utils.type_conversion import convert_to_numpy
from numpy.typing import NDArray

from near_monai.errors import NearError
from near_monai.formats.opened_volume import UnsupportedError, axes_of_one
from near_monai.formats.voxel_values import labels_of

WHERE = "label"


def label_array(label: Any) -> tuple[NDArray[np.uint8 | np.uint16], tuple[int, ...]]:
    """A label map as an array of its own, and the axes that it has beside the three of space.

    Args:
        label: an array, a tensor on any device, or nested lists: whole numbers in 0..65535, ``(X, Y, Z)`` with any
            number of axes of length 1 before them (a batch, a channel) or behind them.

    Returns:
        ``(X, Y, Z)`` uint8, uint16 if it holds values above 255; and the axes of length 1, for ``np.expand_dims``.

    Raises:
        NearError: it is no array, no volume, or no label map.
    """
    array = _numpy(label)
    lead = 0
    while array.ndim - lead > 3 and array.shape[lead] == 1:
        lead += 1
    try:
        ones = axes_of_one(array.shape, tuple(range(lead, array.ndim)))
    except UnsupportedError as error:
        raise NearError(f"{WHERE} has shape {array.shape}; expected three axes (X, Y, Z)") from error
    order: Any = "F" if array.flags.f_contiguous else "C"
    whole = labels_of([array.ravel(order)], WHERE)
    return whole.reshape(array.shape, order=order).squeeze(ones), ones


def _numpy(label: Any) -> NDArray[Any]:
    try:
        if isinstance(label, torch.Tensor):  # NumPy has no bfloat16
            return np.asarray(convert_to_numpy(label.float() if label.dtype == torch.bfloat16 else label))
        # nothing else that can be indexed: NumPy would ask an image of SimpleITK for one voxel at a time
        if isinstance(label, list | tuple) or hasattr(label, "__array__"):
            return np.asarray(label)
    except (TypeError, ValueError):  # rows of different lengths, an image of nibabel, a sparse tensor
        pass
    kind = f"{type(label).__module__}.{type(label).__qualname__}"
    raise NearError(f"{WHERE} is a {kind}; expected an array (X, Y, Z), an image or a path")
