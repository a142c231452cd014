"""Where a label map lies and how large it is, in few numbers: what a case is compared with the rest of its set by."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from near_monai.data.class_selection import OneClass
from near_monai.formats.label_maps import LabelMap
from near_monai.formats.voxel_values import values_in
from near_monai.geometry.boxes import occupied
from near_monai.geometry.coordinates import FloatArray

#: Cells per side of the coarse picture of a case, how many root mean square radii it reaches, and its blur in cells.
CELLS, REACH, BLUR = 11, 2.2, 0.8
#: At most so many voxels of a class are looked at.
MOST_VOXELS = 40_000


def geometry_of(file: LabelMap, classes: Mapping[OneClass, NDArray[np.intp]]) -> dict[str, Any]:
    """Geometry of a label map, as JSON.

    Args:
        file: the map.
        classes: voxels ``(N, 3)`` of every class that counts, at least one of each.

    Returns:
        ``spacing`` and ``shape`` of the grid, ``axes`` (codes such as ``"RAS"``), ``content`` (a check number of the
        labelled part, whatever the axes), ``picture`` (see :func:`picture_of`), and per class under ``classes`` its
        ``volume_mm3``, ``extent_mm`` along the world axes (from the 2nd to the 98th percentile), ``centre_mm`` and
        whether it is ``cut`` by a face of the volume.
    """
    found = {str(label): voxels for label, voxels in classes.items()}
    whole = np.concatenate([apply_affine(file.affine, _few(voxels)) for voxels in found.values()])
    return {
        "spacing": [round(s, 4) for s in file.grid.spacing],
        "shape": list(file.array.shape),
        "axes": "".join(nib.aff2axcodes(file.affine)),
        "content": _content(file.array),
        "picture": _packed(picture_of(whole)),
        "classes": {name: _class(file, voxels) for name, voxels in found.items()},
    }


def _class(file: LabelMap, voxels: NDArray[np.intp]) -> dict[str, Any]:
    points = apply_affine(file.affine, _few(voxels))
    low, high = np.percentile(points, (2, 98), axis=0)
    return {
        "volume_mm3": round(len(voxels) * file.grid.voxel_volume, 2),
        "extent_mm": np.round(high - low, 2).tolist(),
        "centre_mm": np.round(points.mean(0), 2).tolist(),
        "cut": bool((voxels.min(0) == 0).any() or (voxels.max(0) == np.subtract(file.array.shape, 1)).any()),
    }


def _few(voxels: NDArray[np.intp]) -> NDArray[np.intp]:
    return voxels[:: max(1, len(voxels) // MOST_VOXELS)]


def picture_of(points: FloatArray) -> FloatArray:
    """How ``points`` ``(N, 3)`` in world mm are spread, whatever their place and size: ``CELLS^3``, of length 1.

    The frame is centred on their mean and as large as their root mean square radius says; its axes are the world's.
    """
    offset = points - points.mean(0)
    size = float(np.sqrt((offset**2).sum(1).mean())) or 1.0
    edges = [np.linspace(-REACH, REACH, CELLS + 1)] * 3
    count = np.histogramdd(np.clip(offset / size, -REACH, REACH), edges)[0]
    blurred = ndimage.gaussian_filter(np.sqrt(count), BLUR)
    return np.asarray(blurred / np.linalg.norm(blurred))


def _packed(picture: FloatArray) -> str:
    return base64.b64encode(np.round(picture / picture.max() * 255).astype(np.uint8).tobytes()).decode("ascii")


def unpacked(text: str) -> FloatArray:
    """The picture of a record."""
    cells = np.frombuffer(base64.b64decode(text), np.uint8).astype(np.float64).reshape((CELLS,) * 3)
    return np.asarray(cells / max(float(np.linalg.norm(cells)), 1e-9))


def _content(array: NDArray[Any]) -> str:
    """A check number of what is labelled, wherever it lies and in whatever order and direction the axes are stored.

    It is one of how many voxels every class has in the slices along every axis.
    """
    part = array[occupied(array).slices()]
    masks = [(value, part == value) for value in values_in(part) if value]
    ways = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        slices = np.stack([[value, *np.count_nonzero(mask, axis=others)] for value, mask in masks])
        ways.append(min(slices.tolist(), np.column_stack([slices[:, 0], slices[:, :0:-1]]).tolist()))
    return hashlib.blake2b(str(sorted(ways)).encode(), digest_size=12).hexdigest()
