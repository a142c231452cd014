"""What of a label is evidence, and which parts of it are seen together.

Specks are no evidence of a vessel, and a network that was shown them would imagine one between them. What is far apart
has nothing to say about each other and is seen apart, so that a stray voxel changes nothing elsewhere. The field of
view ends where the array ends: what touches a face goes on beyond it, and beyond everything else there is background.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from near_monai.geometry.boxes import Box
from near_monai.geometry.components import Components, around
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.region_frames import rounded
from near_monai.geometry.specks import LONG_MM, small_volume

#: A component of fewer voxels, and of less volume in mm^3, is a speck.
SPECK_VOXELS, SPECK_MM3 = 10, 3.0
#: A label is nothing but noise if less than this share of it is evidence.
LEAST_SHARE = 0.1
#: Parts of a label whose boxes are further apart than this many mm are seen apart: an encoder sees 18 mm.
APART_MM = 20.0
#: F was trained on voxels of 0.3 to 0.8 mm. Smaller ones are averaged to at least this size before it sees them.
FINE_MM = 0.3


@dataclass(frozen=True, eq=False)
class Evidence:
    """The components of a label, judged by nothing but the label.

    A speck is no evidence. Neither is a piece that is small and short where all else within reach is, too: nothing can
    be joined to it. Where nothing is large, pieces that are no specks count.

    Attributes:
        found: the components.
        loose: per component whether it is no evidence.
        regions: boxes around the parts that are seen apart, see :func:`regions_of`; none of a label of specks.
    """

    found: Components
    loose: NDArray[np.bool_]
    regions: tuple[Box, ...]

    @classmethod
    def of(cls, found: Components, spacing: tuple[float, float, float]) -> Evidence:
        """Judge the components of a label with voxels of ``spacing`` mm, in the scale of its structure."""
        size = [rounded(s) for s in spacing]
        sides = np.array([box.shape for box in found.boxes]).reshape(-1, 3) * size
        short = np.linalg.norm(sides, axis=1) < LONG_MM
        volume = found.sizes * math.prod(sorted(size))
        small = short & (volume < small_volume(float(volume.sum())))
        speck = (found.sizes < SPECK_VOXELS) & (volume < SPECK_MM3)
        numbers = np.flatnonzero(~speck)
        regions, part = regions_of([found.boxes[number] for number in numbers], spacing)
        large = np.isin(np.arange(len(regions)), part[~small[numbers]])
        large |= not large.any()
        loose = speck.copy()
        loose[numbers] = ~large[part]
        return cls(found, loose, tuple(region for region, kept in zip(regions, large, strict=True) if kept))

    @property
    def is_enough(self) -> bool:
        """Whether what counts is a fair share of the label; all else is noise that no repair can know anything of."""
        total = int(self.found.sizes.sum())
        return int(self.found.sizes[~self.loose].sum()) >= LEAST_SHARE * total

    @property
    def parts(self) -> tuple[Box, ...]:
        """:attr:`regions`, or what there is of a label of specks."""
        return self.regions or (around(self.found.voxels),)

    @property
    def box(self) -> Box:
        """Around all that counts, or all there is."""
        low, high = (np.array([getattr(part, side) for part in self.parts]) for side in ("start", "stop"))
        (a, b, c), (x, y, z) = low.min(0).tolist(), high.max(0).tolist()
        return Box((a, b, c), (x, y, z))

    def shown(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """What counts of the label; ``mask`` itself if that is all of it."""
        if not self.loose.any():
            return mask
        shown = mask.copy()
        self.found.put(shown, self.loose, False)
        return shown

    def aside(self, boxes: Sequence[Box]) -> Components:
        """What does not count and lies outside all ``boxes``."""
        voxels = self.found.voxels
        chosen = self.loose[self.found.owner]
        for box in boxes:
            chosen = chosen & ~np.all((voxels >= box.start) & (voxels < box.stop), axis=1)
        owner = np.unique(self.found.owner[chosen], return_inverse=True)[1].astype(np.int32)
        return Components(self.found.shape, voxels[chosen], owner)


def regions_of(boxes: Sequence[Box], spacing: tuple[float, float, float]) -> tuple[list[Box], NDArray[np.intp]]:
    """Boxes around the parts of a label, of which ``boxes`` hold the components, that are seen apart.

    Every one is the smallest around its components; any two are further apart than :data:`APART_MM` along some axis.

    Returns:
        The boxes, and for every component the number of its part.
    """
    reach = APART_MM / np.array([rounded(s) for s in spacing])
    low, high = np.zeros((0, 3)), np.zeros((0, 3))
    members: list[list[int]] = []
    for number, box in enumerate(boxes):
        start, stop, own = np.array(box.start), np.array(box.stop), [number]
        while (near := np.all((low - reach < stop) & (start < high + reach), axis=1)).any():
            start, stop = np.minimum(start, low[near].min(0)), np.maximum(stop, high[near].max(0))
            own += [one for part in np.flatnonzero(near) for one in members[part]]
            members = [members[part] for part in np.flatnonzero(~near)]
            low, high = low[~near], high[~near]
        low, high, members = np.vstack([low, start]), np.vstack([high, stop]), [*members, own]
    part = np.zeros(len(boxes), int)
    for index, own in enumerate(members):
        part[own] = index
    corners = zip(low.astype(int).tolist(), high.astype(int).tolist(), strict=True)
    return [Box((a, b, c), (x, y, z)) for (a, b, c), (x, y, z) in corners], part


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
