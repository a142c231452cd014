"""What of a label is evidence, and which parts of it are seen together.

Specks are no evidence of a vessel, and a network that was shown them would imagine one between them. What is far apart
has nothing to say about each other and is seen apart, so that a stray voxel changes nothing elsewhere. The field of
view ends where the array ends: what touches a face goes on beyond it, and beyond everything else there is background.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from near_monai.boxes import Box
from near_monai.components import Components
from near_monai.coords import Grid
from near_monai.frames import rounded

#: A component of fewer voxels is a speck.
SPECK_VOXELS = 10
#: Parts of a label whose boxes are further apart than this many mm are seen apart: an encoder sees 18 mm.
APART_MM = 20.0
#: F was trained on voxels of 0.3 to 0.8 mm. Smaller ones are averaged to at least this size before it sees them.
FINE_MM = 0.3


def specks(found: Components) -> NDArray[np.bool_]:
    """Per component of a label whether it is too small to be evidence of anything; none is if all are."""
    small = found.sizes < SPECK_VOXELS
    return small & ~small.all()


def without_specks(mask: NDArray[np.bool_], found: Components) -> NDArray[np.bool_]:
    """``mask`` without its specks, given its components; itself if there are none."""
    loose = specks(found)
    if not loose.any():
        return mask
    shown = mask.copy()
    shown[tuple(found.voxels[loose[found.owner]].T)] = False
    return shown


def regions_of(boxes: Sequence[Box], spacing: tuple[float, float, float]) -> list[Box]:
    """Boxes around the parts of a label, of which ``boxes`` hold the components, that are seen apart.

    Every one is the smallest around its components; any two are further apart than :data:`APART_MM` along some axis.
    """
    low, high = (np.array([getattr(box, side) for box in boxes]) for side in ("start", "stop"))
    reach = APART_MM / np.array([rounded(s) for s in spacing])
    while True:
        near = np.all((low[:, None] - reach < high) & (low < high[:, None] + reach), axis=-1)
        count, part = connected_components(near, directed=False)
        if count == len(low):
            break
        low = np.array([low[part == number].min(0) for number in range(count)])
        high = np.array([high[part == number].max(0) for number in range(count)])
    return [Box((a, b, c), (x, y, z)) for (a, b, c), (x, y, z) in zip(low.tolist(), high.tolist(), strict=True)]


def averaged(masks: NDArray[np.bool_], grid: Grid) -> tuple[NDArray[np.bool_], Grid]:
    """Masks ``(C, X, Y, Z)`` on voxels of at least :data:`FINE_MM`: the majority of the voxels in each."""
    factors = [max(1, int(FINE_MM / s + 0.01)) for s in grid.spacing]
    if factors == [1, 1, 1]:
        return masks, grid
    wide = np.pad(masks, [(0, 0), *((0, -n % f) for n, f in zip(grid.shape, factors, strict=True))], "edge")
    shape = [n // f for n, f in zip(wide.shape[1:], factors, strict=True)]
    cells = wide.reshape(len(masks), *itertools.chain(*zip(shape, factors, strict=True)))
    share = cells.mean((2, 4, 6), np.float32)
    spacing = np.multiply(grid.spacing, factors)
    found = share >= 0.5
    return found if found.any() else share > 0, Grid.of(shape, spacing, (spacing - grid.spacing) / 2 + grid.origin)


def with_rim(region: Box, reach: Sequence[int]) -> tuple[Box, Box]:
    """``region`` in the voxels of itself with ``reach`` voxels more on every side, and that box."""
    low, high = np.subtract(region.start, reach), np.add(region.stop, reach)
    (a, b, c), (x, y, z) = low.tolist(), high.tolist()
    around = Box((a, b, c), (x, y, z))
    return region.within(around), around


def cut_with_edges(masks: NDArray[np.bool_], box: Box) -> NDArray[np.bool_]:
    """``box`` of ``masks`` ``(C, X, Y, Z)``; beyond the array its outermost voxels go on."""
    inside = box.overlap(Box((0, 0, 0), masks.shape[1:]))
    beyond = [(a - lo, hi - b) for a, b, lo, hi in zip(inside.start, inside.stop, box.start, box.stop, strict=True)]
    return np.pad(masks[:, *inside.slices()], [(0, 0), *beyond], "edge")
