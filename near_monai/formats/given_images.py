"""Label maps as Python gives them: arrays and tensors, images of nibabel and SimpleITK, files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from nibabel.spatialimages import SpatialImage
from numpy.typing import ArrayLike, NDArray

from near_monai.errors import NearError
from near_monai.formats.arrays_in_memory import label_array
from near_monai.formats.label_maps import LabelMap, read_label
from near_monai.geometry.coordinates import spacing_of

#: SimpleITK counts right and front as negative, NIfTI as positive.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: Spacings of an image and of its caller are the same if they differ by less than this share.
SAME_SPACING = 1e-3


def label_map(label: Any, spacing: ArrayLike | None = None) -> LabelMap:
    """A label map of an array of its own, whatever holds it.

    Args:
        label: see :func:`near_monai.formats.arrays_in_memory.label_array`; an image of nibabel or SimpleITK (whose
            array has its axes the other way round, as that of ``GetArrayFromImage``); or the path of a file.
        spacing: ``(3,)`` voxel size in mm along the axes of the array; ``None`` for that of an image, a file or a
            MetaTensor.

    Raises:
        NearError: it is no label map, an array comes without a spacing, or that is none, or not that of the image.
    """
    steps = None if spacing is None else _checked(spacing)
    if isinstance(label, str | Path):
        return _agreeing(read_label(label), steps, str(label))
    image, affine = _with_affine(label)
    array, ones = label_array(image)
    if affine is None or (steps is not None and isinstance(label, MetaTensor)):
        if steps is None:
            raise NearError(
                "the label is an array without a spacing; give spacing=(x, y, z), the size of its voxels in mm"
            )
        return LabelMap.from_array(array, np.diag([*steps, 1.0]), ones=ones)
    return _agreeing(LabelMap.from_array(array, affine, ones=ones), steps, "the image")


def _with_affine(label: Any) -> tuple[Any, NDArray[np.float64] | None]:
    """The array of an image, and its affine (RAS, mm); no affine of what says nothing of it."""
    if isinstance(label, MetaTensor):
        return label, label.affine.cpu().numpy()
    if isinstance(label, SpatialImage):
        return label.dataobj, label.affine
    sitk = sys.modules.get("SimpleITK")  # who has an image of it has loaded it
    if sitk is not None and isinstance(label, sitk.Image):
        if label.GetDimension() != 3:
            raise NearError(f"label is a SimpleITK image of {label.GetDimension()} dimensions; expected 3")
        return sitk.GetArrayViewFromImage(label), _affine_of(label)
    return label, None


def _affine_of(image: Any) -> NDArray[np.float64]:
    """The affine of the array of a SimpleITK image, RAS in mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return LPS_TO_RAS @ affine[:, [2, 1, 0, 3]]


def _checked(spacing: ArrayLike) -> tuple[float, ...]:
    steps = tuple(float(s) for s in np.asarray(spacing, np.float64).ravel())
    if len(steps) != 3 or not all(np.isfinite(s) and s > 0 for s in steps):
        raise NearError(f"spacing {steps}; expected three voxel sizes in mm, above 0")
    return steps


def _agreeing(file: LabelMap, steps: tuple[float, ...] | None, where: str) -> LabelMap:
    """``file``, whose own spacing is that which was given, if any was."""
    own = spacing_of(file.affine)
    if steps is not None and not np.allclose(steps, own, rtol=SAME_SPACING, atol=0):
        raise NearError(f"spacing {steps}, but {where} says {own} mm; leave spacing out")
    return file
