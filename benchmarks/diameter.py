"""Dice by vessel diameter: thin vessels are few voxels and vanish in the Dice of the tree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from near_monai.geometry.components import Components
from near_monai.geometry.distance import signed_distance
from near_monai.geometry.skeleton import skeleton

#: Diameters in mm between the bins.
EDGES_MM = (1.5, 2.5, 3.5)
NAMES = ("< 1.5 mm", "1.5-2.5 mm", "2.5-3.5 mm", "> 3.5 mm")
#: Half the width of the widest vessel that can be told, in mm.
WIDEST_MM = 12.0


def diameter_bins(
    truth: NDArray[np.bool_], where: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> NDArray[np.intp]:
    """Per voxel ``(X, Y, Z)`` the bin of the true diameter at the nearest voxel of the true centreline.

    Args:
        truth: true mask, not empty.
        where: voxels that are asked for; the others get bin 0.
        spacing: ``(3,)`` voxel size in mm.
    """
    centre = np.argwhere(skeleton(Components.of(truth)))
    diameter = 2 * _radius(truth, spacing)[tuple(centre.T)]
    nearest = cKDTree(centre * np.asarray(spacing)).query(np.argwhere(where) * np.asarray(spacing))[1]
    bins = np.zeros(truth.shape, np.intp)
    bins[where] = np.digitize(diameter, EDGES_MM)[nearest]
    return bins


def dice_by_diameter(mask: NDArray[np.bool_], truth: NDArray[np.bool_], bins: NDArray[np.intp]) -> dict[str, float]:
    """Dice in each of :data:`NAMES`; NaN where the truth has no vessel of that diameter."""
    common, found, true = (np.bincount(bins[m], minlength=len(NAMES)) for m in (mask & truth, mask, truth))
    return {
        name: float(2 * c / (f + t)) if t else float("nan")
        for name, c, f, t in zip(NAMES, common, found, true, strict=True)
    }


def _radius(mask: NDArray[np.bool_], spacing: tuple[float, float, float]) -> NDArray[np.float32]:
    """Radius in mm of the vessel around a centreline voxel, ``(X, Y, Z)``.

    A thinned centreline runs up to a voxel beside the middle, so the deepest neighbour counts; and its distance is that
    to the nearest background *centre*, which undoes the half voxel of ``signed_distance``. On straight tubes of 1.2 to
    4.5 mm in any direction the mean diameter is right to 0.2 mm; without the two it is 0.6 mm short.
    """
    return min(spacing) / 2 - ndimage.minimum_filter(signed_distance(mask, spacing, WIDEST_MM), 3)
