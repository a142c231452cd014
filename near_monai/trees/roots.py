"""Where trees have their roots: at the aorta, or else at the end that looks like one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from near_monai.trees.vessel_paths import Lumen

#: An end that lies so near to the aorta, in mm, comes out of it.
AORTA_MM = 3.0
#: The left and the right coronary artery leave the aorta about 25 mm apart (anatomy, and generated trees): ends of the
#: two largest trees that are further apart than this are less probable together ...
APART_MM = 45.0
#: ... by as much as a quarter of all that makes an end look like a root.
TOGETHER = 0.5


@dataclass(frozen=True, eq=False)
class Roots:
    """The ends of one component.

    Attributes:
        lumen: its voxels.
        aorta: those of the aorta, if the map has one.
    """

    lumen: Lumen
    aorta: cKDTree | None

    @cached_property
    def ends(self) -> dict[int, float]:
        """Those at the aorta, or all if none is, and how much each looks like a root."""
        ends = self.lumen.ends()
        return {end: looks for end, looks in ends.items() if self._touches(end)} or ends

    @cached_property
    def at_aorta(self) -> bool:
        """Whether its root is there."""
        return self._touches(next(iter(self.ends)))

    def best(self) -> int:
        """The end that looks most like a root."""
        return max(self.ends, key=self.ends.__getitem__)

    def _touches(self, end: int) -> bool:
        return self.aorta is not None and bool(self.aorta.query(self.lumen.mm[end])[0] <= AORTA_MM)


def chosen(found: Sequence[Roots]) -> list[int]:
    """The root of each component; those of the two largest are chosen together, as of the coronary trees."""
    roots = [component.best() for component in found]
    if len(found) < 2:
        return roots
    first, second = sorted(range(len(found)), key=lambda n: -len(found[n].lumen.mm))[:2]
    one, other = (list(found[n].ends) for n in (first, second))
    apart = np.linalg.norm(found[first].lumen.mm[one][:, None] - found[second].lumen.mm[other], axis=2)
    looks = np.add.outer([*found[first].ends.values()], [*found[second].ends.values()]) + TOGETHER * (apart <= APART_MM)
    best = np.unravel_index(int(looks.argmax()), looks.shape)
    roots[first], roots[second] = one[int(best[0])], other[int(best[1])]
    return roots
