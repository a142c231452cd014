"""Which part of a case needs work: boxes of the working grid near the label, so that cost follows the vessel.

The working grid is cut into cubes of :data:`BLOCK` voxels; a block is *active* when label lies within a margin of it.
Coarse layers run on *windows*, fine ones on *tiles* and F on *patches*: boxes of blocks, trimmed to the active ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from near_monai.geometry.boxes import Box
from near_monai.geometry.coordinates import Grid

#: Voxels per side of a block; a multiple of the coarsest code cell (4 voxels).
BLOCK = 8
#: Blocks per side of a window (256 voxels): most cases are one window, which needs no halo.
WINDOW = 32
#: Blocks per side of a tile (64 voxels): smaller ones follow the vessel more closely, but have more halo.
TILE = 8
#: Blocks per side of a patch (16 voxels), in which F is evaluated at once: smaller ones follow the wall, but overlap.
PATCH = 2


@dataclass(frozen=True)
class Tile:
    """One box of a tiling; all are voxels of the working grid.

    Attributes:
        core: its own voxels, which no other box has.
        right: where what is computed of it is right: the core and a rim.
        wide: what has to be computed for that.
    """

    core: Box
    right: Box
    wide: Box


@dataclass(frozen=True)
class Tiling:
    """A way to visit the active blocks of a grid, box by box.

    Attributes:
        size: blocks per side of a box.
        halo: voxels around a box that are computed along with it, so that its edge leaves no trace.
        rim: voxels around it for which the result is right, too.
    """

    size: int
    halo: int
    rim: int = 0

    def over(self, blocks: NDArray[np.bool_], within: Box | None = None) -> Iterator[Tile]:
        """The boxes, see :func:`windows`."""
        a, b, c = (n * BLOCK for n in blocks.shape)
        for core in windows(blocks, self.size, within):
            yield Tile(core, core.grow(self.rim, (a, b, c)), core.grow(self.halo, (a, b, c)))


def part_of(array: Any, box: Box, whole: Box) -> Any:
    """A view of the part in ``box`` of an array ``(..., D, H, W)`` that spans ``whole``, in cells of any size."""
    return array[..., *box.within(whole).slices(whole.shape[0] // array.shape[-3])]


def working_grid(mask_box: Box, native: Grid, spacing: float, margin: float) -> Grid:
    """Isotropic grid of ``spacing`` mm around ``mask_box`` plus ``margin`` mm, in whole blocks."""
    low = native.to_mm(np.asarray(mask_box.start) - 0.5) - margin
    high = native.to_mm(np.asarray(mask_box.stop) - 0.5) + margin
    return Grid.of(np.ceil((high - low) / (BLOCK * spacing)) * BLOCK, [spacing] * 3, low + spacing / 2)


def active_blocks(mask: NDArray[np.bool_], native: Grid, working: Grid, margin: float) -> NDArray[np.bool_]:
    """Blocks of ``working`` with a voxel centre of ``mask``, on the grid ``native``, within ``margin`` mm per axis."""
    for axis in range(3):
        voxel = (native.axes_mm()[axis] - working.origin[axis]) / working.spacing[axis] + 0.5
        first = np.arange(working.shape[axis] // BLOCK) * BLOCK
        reach = margin / working.spacing[axis]
        low, high = np.searchsorted(voxel, first - reach), np.searchsorted(voxel, first + BLOCK + reach)
        near = [mask[(slice(None),) * axis + (slice(a, b),)].any(axis) for a, b in zip(low, high, strict=True)]
        mask = np.stack(near, axis)
    return mask


def windows(blocks: NDArray[np.bool_], size: int, within: Box | None = None) -> Iterator[Box]:
    """Boxes of up to ``size`` blocks per side over the active ``blocks``, each trimmed to those it holds.

    Args:
        blocks: active blocks.
        size: blocks per side; cuts lie at multiples of it, so that small boxes nest in larger ones.
        within: only the blocks in this box (voxels).
    """
    first = np.zeros(3, int)
    if within is not None:
        region = within.slices(BLOCK)
        first = np.array([r.start for r in region])
        blocks = blocks[region]
    for cut in itertools.product(*(_cuts(a, n, size) for a, n in zip(first, blocks.shape, strict=True))):
        found = np.argwhere(blocks[cut])
        if len(found):
            low = first + [c.start for c in cut]
            (a, b, c), (x, y, z) = ((low + found.min(0)) * BLOCK).tolist(), ((low + found.max(0) + 1) * BLOCK).tolist()
            yield Box((a, b, c), (x, y, z))


def _cuts(first: int, count: int, size: int) -> list[slice]:
    """Slices of ``count`` blocks, the first of which is block ``first``, cut at multiples of ``size``."""
    edges = [0, *range(size - first % size, count, size), count]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]
