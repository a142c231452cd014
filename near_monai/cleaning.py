"""Components: drop what is small, and, if wanted, only what is far from the tree or not long.

"Keep the two largest" deletes true vessel wherever a label is torn; here a piece goes only if it is too small to
matter.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from near_monai.boxes import box_of, voxels_of

#: A component below this volume is small: about 13 mm of a vessel of 2 mm diameter.
SMALL_MM3 = 40.0
#: A small component is far when its nearest voxel is further than this from every larger one.
FAR_MM = 5.0
#: A small component looks like vessel if its box has a diagonal of this many mm: pieces of real vessel are long, specks
#: and islands are round (40 mm^3 as a ball: 7 mm).
LONG_MM = 9.0

#: 26-connectivity.
NEIGHBOURS = np.ones((3, 3, 3), bool)


#: Where less than this share of the voxels is set, it is faster to look at these alone; vessels fill a hundredth.
SPARSE = 0.02


def components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """26-connected components of ``mask``: their index per voxel (0 outside) and their number."""
    if not _sparse(mask):
        index, count = ndimage.label(mask, NEIGHBOURS)
        return index, int(count)
    index = np.zeros(mask.shape, np.int32)
    voxels = voxels_of(mask)
    index[tuple(voxels.T)] = _owners(voxels, mask.shape) + 1
    return index, int(index.max(initial=0))


def component_sizes(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Voxels of every 26-connected component."""
    if not mask.any():
        return np.zeros(0, np.intp)
    mask = mask[box_of(mask).slices()]
    if _sparse(mask):
        return np.bincount(_owners(voxels_of(mask), mask.shape))
    return np.bincount(components(mask)[0].ravel())[1:]


def count_components(mask: NDArray[np.bool_]) -> int:
    """Number of 26-connected components."""
    return len(component_sizes(mask))


def _sparse(mask: NDArray[np.bool_]) -> bool:
    return bool(np.count_nonzero(mask) <= SPARSE * mask.size)


def _owners(voxels: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Component, from 0, of every one of ``voxels`` ``(N, 3)`` in the order of the array."""
    wide = np.add(shape, 2)  # a rim, so that the last voxel of a row is no neighbour of the first of the next
    flat = np.asarray(np.ravel_multi_index(tuple(voxels.T), tuple(wide)))
    pairs = []
    for step in itertools.islice(itertools.product((-1, 0, 1), repeat=3), 14, None):  # the half that comes later
        target = flat + int(np.dot(step, [wide[1] * wide[2], wide[2], 1]))
        place = np.minimum(np.searchsorted(flat, target), len(flat) - 1)
        met = np.flatnonzero(flat[place] == target)
        pairs.append(np.stack([met, place[met]]))
    one, other = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(one.size, bool), (one, other)), (len(flat),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1])


def drop_specks(
    mask: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    small_mm3: float = SMALL_MM3,
    far_mm: float = FAR_MM,
    keep: int | None = None,
    long_mm: float = np.inf,
) -> NDArray[np.bool_]:
    """Remove components that are smaller than ``small_mm3`` and further than ``far_mm`` from all larger ones.

    The largest component always stays.

    Args:
        mask: ``(X, Y, Z)``.
        spacing: voxel size in mm.
        small_mm3: volume below which a component may go.
        far_mm: distance in mm from the components that are not small, beyond which a small one goes.
        keep: keep at most this many components (the largest; at least 1), however near; ``None``: no limit.
        long_mm: components whose box has a diagonal of this many mm are not small: they look like vessel.

    Returns:
        A new mask.
    """
    cleaned = mask.copy()
    if not mask.any():
        return cleaned
    box = box_of(mask).slices()
    index, count = components(mask[box])
    volume = np.bincount(index[mask[box]], minlength=count + 1)[1:] * float(np.prod(spacing))
    sides = [[part.stop - part.start for part in found] for found in ndimage.find_objects(index)]
    diagonal = np.linalg.norm(np.asarray(sides) * np.asarray(spacing), axis=1)
    small = (volume < min(small_mm3, volume.max())) & (diagonal < long_mm)
    doomed = small & _far(index, small, spacing, far_mm) if small.any() and far_mm > 0 else small
    if keep is not None:
        doomed[np.argsort(-volume, kind="stable")[max(keep, 1) :]] = True
    cleaned[box] &= ~np.concatenate([[False], doomed])[index]
    return cleaned


def _far(
    index: NDArray[np.int32], small: NDArray[np.bool_], spacing: tuple[float, float, float], far_mm: float
) -> NDArray[np.bool_]:
    """Per component of ``index``: is it further than ``far_mm`` from every one that is not ``small``?"""
    voxels = voxels_of(index)
    owner = index[tuple(voxels.T)] - 1
    millimetres = voxels * np.asarray(spacing)
    loose = small[owner]
    reach = cKDTree(millimetres[~loose]).query(millimetres[loose], distance_upper_bound=far_mm)[0]
    distance = np.full(len(small), np.inf)
    np.minimum.at(distance, owner[loose], reach)
    return distance > far_mm
