"""Centreline voxels of a mask, with a guard against a thinning that deletes whole vessels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

from near_monai.boxes import box_of
from near_monai.cleaning import components

#: Voxels around a component that is thinned on its own.
MARGIN = 2


def skeleton(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Centreline voxels (Lee, Kashyap and Chu, 1994): a subset of ``mask`` with at least one in every component.

    ``skimage.morphology.skeletonize`` deletes some components of even width altogether (scikit-image issue 3757);
    :func:`_rescue` makes up for it.

    Args:
        mask: ``(X, Y, Z)``.
    """
    line = np.zeros_like(mask)
    if not mask.any():
        return line
    region = box_of(mask).slices()
    found, index = line[region], components(mask[region])[0]
    for number, box in enumerate(ndimage.find_objects(index), 1):  # thinning scans its box again and again
        part = index[box] == number
        thinned = skeletonize(part).astype(bool)
        found[box] |= thinned if thinned.any() else _rescue(part)
    return line


def _rescue(part: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Skeleton of a component that ``skeletonize`` deletes: made one voxel wider first, since odd widths survive.

    If what survives lies outside the component, its deepest voxel stands for it.
    """
    padded = np.pad(part, MARGIN)
    kept = skeletonize(ndimage.binary_dilation(padded, np.ones((2, 2, 2)))).astype(bool) & padded
    if not kept.any():
        kept.flat[ndimage.distance_transform_edt(padded).argmax()] = True
    inner = slice(MARGIN, -MARGIN)
    return kept[inner, inner, inner]
