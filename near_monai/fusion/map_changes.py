"""What was done to a label map, or should be looked at: one record per place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from near_monai.geometry.boxes import voxels_of
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid

#: Smaller places share one record.
LEAST_MM3 = 2.0


@dataclass(frozen=True)
class Change:
    """One change, or one place that breaks a rule.

    Attributes:
        rule: what was looked at: ``"overlap"``, ``"slit"``, ``"pieces"``, ``"touches"`` or ``"holes"``.
        label: class concerned.
        action: ``"resolved"``, ``"filled"``, ``"removed"`` or, where nothing was changed, ``"flagged"``.
        place: centre ``(x, y, z)`` in mm, in the frame of the grid.
        volume_mm3: volume concerned.
        detail: in words.
    """

    rule: str
    label: int
    action: str
    place: tuple[float, float, float]
    volume_mm3: float
    detail: str

    @classmethod
    def of(cls, rule: str, label: int, action: str, where: NDArray[np.bool_], grid: Grid, detail: str) -> Change:
        """A change of the voxels ``where`` ``(X, Y, Z)``, of which there are some, on ``grid``."""
        voxels = voxels_of(where)
        x, y, z = (float(c) for c in grid.to_mm(voxels.mean(0)))
        return cls(rule, label, action, (x, y, z), len(voxels) * grid.voxel_volume, detail)

    @classmethod
    def each(
        cls, rule: str, label: int, action: str, voxels: NDArray[np.intp], grid: Grid, detail: str
    ) -> list[Change]:
        """One record per 26-connected place of ``voxels`` ``(N, 3)`` of ``grid``, in the order of its array.

        Those below :data:`LEAST_MM3` share one, at the first of them.
        """
        found: list[Change] = []
        small: list[Change] = []
        for part in Components.at(voxels, grid.shape).parts:
            x, y, z = grid.to_mm(part.mean(0)).tolist()
            change = cls(rule, label, action, (x, y, z), len(part) * grid.voxel_volume, detail)
            (found if change.volume_mm3 >= LEAST_MM3 else small).append(change)
        if small:
            total = sum(change.volume_mm3 for change in small)
            more = f"{detail}; {len(small)} places of less than {LEAST_MM3:g} mm^3 in all"
            found.append(cls(rule, label, action, small[0].place, total, more))
        return found
