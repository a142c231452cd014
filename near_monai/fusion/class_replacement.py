"""Putting a refined mask back into the label map that it came from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from near_monai.anatomy import HEART, Anatomy
from near_monai.data.class_selection import FOREGROUND, OneClass
from near_monai.formats.voxel_values import Labels, values_in
from near_monai.geometry.boxes import voxels_of
from near_monai.geometry.coordinates import Grid


def put_back(
    original: Labels,
    native: Grid,
    refined: NDArray[np.bool_],
    target: Grid,
    label: OneClass,
    anatomy: Anatomy = HEART,
) -> Labels:
    """A refined mask as a label map.

    Args:
        original: the label map on ``native``.
        native: its grid.
        refined: the refined mask on ``target``.
        target: grid of the result, in the same mm frame.
        label: the class that was refined.
        anatomy: table of the fusion priority.

    Returns:
        Of the type of ``original``, on ``target``. On the original grid the class replaces its old self in
        ``original``; on another grid the map holds the refined structure alone.
    """
    if label is FOREGROUND:
        return spread_labels(original, native, refined, target)
    if target == native:
        return replace_class(original, refined, label, anatomy)
    return refined.astype(original.dtype) * original.dtype.type(label)


def replace_class(original: Labels, refined: NDArray[np.bool_], label: int, anatomy: Anatomy = HEART) -> Labels:
    """Class ``label`` of ``original`` becomes ``refined``; other classes change only where they lose a voxel to it.

    Removed voxels become background. An added voxel that belongs to another class is taken over if ``label`` comes
    before that class in the fusion priority; classes that the table does not know are never touched.
    """
    fused = original.copy()
    fused[(original == label) & ~refined] = 0
    others = [s.index for s in anatomy.structures if s.rank > anatomy.rank(label)]
    yields = np.zeros(np.iinfo(original.dtype).max + 1, bool)
    yields[[0, label, *others]] = True
    fused[refined & yields[original]] = label
    return fused


def spread_labels(original: Labels, native: Grid, refined: NDArray[np.bool_], target: Grid) -> Labels:
    """``refined``, one tree on ``target``, labelled as the nearest labelled voxel of ``original`` on ``native`` is."""
    labels = [value for value in values_in(original) if value]
    if len(labels) < 2:
        return refined * original.dtype.type(max(labels, default=0))
    fused = np.where(refined, original, 0) if target == native else np.zeros(target.shape, original.dtype)
    new = voxels_of(refined & (fused == 0))
    if len(new):
        fused[tuple(new.T)] = original[original > 0][_nearest(native.to_mm(voxels_of(original)), target.to_mm(new))]
    return fused


def _nearest(known: NDArray[np.floating], points: NDArray[np.floating]) -> NDArray[np.intp]:
    """Which of ``known`` ``(N, 3)`` is nearest to every one of ``points`` ``(M, 3)``."""
    return np.asarray(cKDTree(known).query(points)[1])
