"""Dropping components that are small and, if wanted, only those that are far from the tree or not long.

"Keep the two largest" deletes true vessel wherever a label is torn; here a piece goes only if it is too small to
matter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from near_monai.geometry.components import Components

#: A component below this volume is small: about 13 mm of a vessel of 2 mm diameter ...
SMALL_MM3 = 40.0
#: ... and below this share of the whole label: of a label that is small itself, such a piece is no speck.
SMALL_SHARE = 0.03
#: A small component is far when its nearest voxel is further than this from every larger one.
FAR_MM = 5.0
#: A small component looks like vessel if its box has a diagonal of this many mm: pieces of real vessel are long, specks
#: and islands are round (40 mm^3 as a ball: 7 mm).
LONG_MM = 9.0


def small_volume(label_mm3: float) -> float:
    """Volume in mm^3 below which a component of a label of ``label_mm3`` is small."""
    return min(SMALL_MM3, SMALL_SHARE * label_mm3)


def drop_specks(
    mask: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    small_mm3: float = SMALL_MM3,
    far_mm: float = FAR_MM,
    keep: int | None = None,
    long_mm: float = np.inf,
    counted: NDArray[np.bool_] | None = None,
    one_mm: float = 0.0,
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
        one_mm: components with voxels at most this many mm apart count as one: a lost slice does not make specks.
        counted: only these voxels count for the volume: what a label said, whatever became of it. ``None``: all. A
            component that holds none of them goes.

    Returns:
        A new mask.
    """
    cleaned = mask.copy()
    found = Components.of(mask)
    if not len(found):
        return cleaned
    own = found.sizes if counted is None else found.sums(counted)
    group = _groups(found, spacing, one_mm, found.sizes * float(np.prod(spacing)) < small_mm3)
    volume = np.bincount(group, own)[group] * float(np.prod(spacing))
    corners = np.array([[box.start, np.negative(box.stop)] for box in found.boxes])
    low, high = np.stack([corners[group == number].min(0) for number in range(group.max() + 1)], 1)
    diagonal = np.linalg.norm((-high - low) * spacing, axis=1)[group]
    small = (volume < min(small_mm3, volume.max())) & (diagonal < long_mm)
    doomed = small & _far(found, small, spacing, far_mm) if small.any() and far_mm > 0 else small
    doomed |= own == 0
    if keep is not None:
        doomed[np.argsort(-volume, kind="stable")[max(keep, 1) :]] = True
    found.put(cleaned, doomed, False)
    return cleaned


def _groups(
    found: Components, spacing: tuple[float, float, float], one_mm: float, small: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Per component the number of the group of those that count as one with it; only ``small`` ones look for others."""
    if not one_mm or len(found) < 2 or not small.any():
        return np.arange(len(found))
    near = found.near(small, int(np.ceil(one_mm / min(spacing))))
    millimetres, looking = near.voxels * np.asarray(spacing), small[near.owner]
    met = cKDTree(millimetres).query_ball_point(millimetres[looking], one_mm)
    one = np.repeat(near.owner[looking], [len(neighbours) for neighbours in met])
    other = near.owner[np.concatenate(met).astype(int)]
    graph = coo_array((np.ones(len(one), bool), (one, other)), (len(found),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1])


def _far(
    found: Components, small: NDArray[np.bool_], spacing: tuple[float, float, float], far_mm: float
) -> NDArray[np.bool_]:
    """Per component: is it further than ``far_mm`` from every one that is not ``small``?"""
    millimetres = found.voxels * np.asarray(spacing)
    loose = small[found.owner]
    reach = cKDTree(millimetres[~loose]).query(millimetres[loose], distance_upper_bound=far_mm)[0]
    distance = np.full(len(small), np.inf)
    np.minimum.at(distance, found.owner[loose], reach)
    return distance > far_mm
