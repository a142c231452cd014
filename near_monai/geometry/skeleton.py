"""Centreline voxels of a mask, with a guard against a thinning that deletes whole vessels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

from near_monai.geometry.components import Components

#: Voxels around a component that is thinned on its own.
MARGIN = 2


def skeleton(components: Components) -> NDArray[np.bool_]:
    """Centreline voxels (Lee, Kashyap and Chu, 1994): a subset of a mask with at least one in every component.

    ``skimage.morphology.skeletonize`` deletes some components of even width altogether (scikit-image issue 3757);
    :func:`_rescue` makes up for it.

    Args:
        components: those of the mask.

    Returns:
        A mask of the same shape.
    """
    line = np.zeros(components.shape, bool)
    for number, box in enumerate(components.boxes):  # thinning scans its box again and again
        part = components.mask(number)
        thinned = skeletonize(part).astype(bool)
        line[box.slices()] |= thinned if thinned.any() else _rescue(part)
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
