"""Voxels of a file, gathered part by part: memory follows the type that is kept, not the one that is stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import LARGEST
from near_monai.errors import NearError

#: A label stored through a scale comes back as 8.9999...
WHOLE_NUMBER_TOLERANCE = 1e-3
#: Label maps of more values than this are images.
MOST_VALUES = 256
#: Class numbers, in 8 bits where they fit.
Labels = NDArray[np.uint8 | np.uint16]
#: Voxels of which wide copies are made at once.
VOXELS_AT_ONCE = 1 << 22


def values_in(array: NDArray[np.integer]) -> list[int]:
    """The values that an array of whole numbers from 0 on holds, rising."""
    axis = int(np.argmax(array.strides))  # planes that lie together in memory
    seen: set[int] = set()
    for plane in np.moveaxis(array, axis, 0):
        if plane.any():
            seen.update(np.flatnonzero(np.bincount(plane.ravel(order="K"))).tolist())
        elif plane.size:
            seen.add(0)
    return sorted(seen)


def labels_of(parts: Iterable[NDArray[Any]], where: object, step: float = 0.0) -> Labels:
    """Class numbers of a label map, in 8 bits if they fit, else in 16.

    Args:
        parts: the numbers that are stored, ``(N,)`` each.
        where: name for the error message.
        step: they are multiples of it, in which whole numbers had to be put: each is a whole number to half a step.

    Raises:
        NearError: they are not whole numbers in 0..65535, or so many different ones that it must be an image.
    """
    tolerance = max(WHOLE_NUMBER_TOLERANCE, step / 2 * (1 + 1e-6)) if step < 1 else WHOLE_NUMBER_TOLERANCE
    kind: Any = np.uint8
    out, low, high = bytearray(), float(LARGEST), 0.0
    for part in filter(np.size, parts):
        whole, least, most = _whole(part, where, tolerance)
        low, high = min(low, least), max(high, most)
        if high > 255 and kind is np.uint8:
            kind, out = np.uint16, bytearray(np.frombuffer(out, np.uint8).astype(np.uint16).tobytes())
        if low >= 0 and high <= LARGEST:
            out += np.ascontiguousarray(whole.astype(kind, copy=False)).data
    if low < 0 or high > LARGEST:
        raise NearError(f"{where}: labels from {low:g} to {high:g}; expected 0..{LARGEST}")
    array: Labels = np.frombuffer(out, kind)
    if array.dtype == np.uint16:
        _check_count(array, where)
    return array


def volume_of(parts: Iterable[NDArray[Any]], where: object) -> NDArray[np.float32]:
    """Intensities ``(N,)``; arguments and errors as for :func:`labels_of`."""
    out = bytearray()
    for part in parts:
        out += np.ascontiguousarray(_numbers(part, where).astype(np.float32, copy=False)).data.cast("B")
    return np.frombuffer(out, np.float32)


def _whole(part: NDArray[Any], where: object, tolerance: float) -> tuple[NDArray[Any], float, float]:
    """Numbers of a part rounded to whole ones, the lowest and the highest of them."""
    low, high = float(_numbers(part, where).min()), float(part.max())
    if not np.isfinite([low, high]).all():  # both NaN if any is
        raise NearError(f"{where}: holds NaN or infinite values; expected whole numbers 0..{LARGEST}")
    if part.dtype.kind != "f":
        return part, low, high
    whole = np.rint(part)
    off = np.abs(part - whole) > tolerance
    if off.any():
        value = part[int(np.argmax(off))]
        raise NearError(f"{where}: holds {value:g}, not a whole number; expected a label map (0..{LARGEST})")
    return whole, float(np.rint(low)), float(np.rint(high))


def _numbers(part: NDArray[Any], where: object) -> NDArray[Any]:
    if part.dtype.kind not in "buif":
        raise NearError(f"{where}: pixel type {part.dtype}; expected one number per voxel")
    return part


def _check_count(array: NDArray[np.integer], where: object) -> None:
    seen: set[int] = set()
    for start in range(0, len(array), VOXELS_AT_ONCE):
        seen.update(np.flatnonzero(np.bincount(array[start : start + VOXELS_AT_ONCE])).tolist())
    if len(seen) > MOST_VALUES:
        raise NearError(f"{where}: holds {len(seen)} different values; expected a label map: is it an image?")
