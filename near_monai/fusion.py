"""Putting a refined mask back into the label map that it came from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import HEART, Anatomy
from near_monai.boxes import voxels_of
from near_monai.coords import Grid
from near_monai.transforms import FOREGROUND


def put_back(
    original: NDArray[np.uint8],
    native: Grid,
    refined: NDArray[np.bool_],
    target: Grid,
    label: int | str,
    anatomy: Anatomy = HEART,
) -> NDArray[np.uint8]:
    """A refined mask as a label map.

    Args:
        original: the label map on ``native``.
        native: its grid.
        refined: the refined mask on ``target``.
        target: grid of the result, in the same mm frame.
        label: the class that was refined, or ``"fg"``.
        anatomy: table of the fusion priority.

    Returns:
        uint8 on ``target``. On the original grid the class replaces its old self in ``original``; on another grid the
        map holds the refined structure alone.
    """
    if label == FOREGROUND:
        return spread_labels(original, native, refined, target)
    if target == native:
        return replace_class(original, refined, int(label), anatomy)
    return refined.astype(np.uint8) * np.uint8(label)


def replace_class(
    original: NDArray[np.uint8], refined: NDArray[np.bool_], label: int, anatomy: Anatomy = HEART
) -> NDArray[np.uint8]:
    """Class ``label`` of ``original`` becomes ``refined``; other classes change only where they lose a voxel to it.

    Removed voxels become background. An added voxel that belongs to another class is taken over if ``label`` comes
    before that class in the fusion priority; classes that the table does not know are never touched.
    """
    fused = original.copy()
    fused[(original == label) & ~refined] = 0
    others = [s.index for s in anatomy.structures if s.rank > anatomy.rank(label)]
    yields = np.zeros(256, bool)
    yields[[0, label, *others]] = True
    fused[refined & yields[original]] = label
    return fused


def spread_labels(
    original: NDArray[np.uint8], native: Grid, refined: NDArray[np.bool_], target: Grid
) -> NDArray[np.uint8]:
    """``refined``, one tree on ``target``, labelled as the nearest labelled voxel of ``original`` on ``native`` is."""
    from scipy.spatial import cKDTree  # the bundle's inference of one class does without

    fused = np.zeros(target.shape, np.uint8)
    old, new = voxels_of(original), voxels_of(refined)
    if len(old) and len(new):
        nearest = cKDTree(native.to_mm(old)).query(target.to_mm(new))[1]
        fused[refined] = original[original > 0][nearest]
    return fused
