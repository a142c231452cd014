"""What was done to a label map, or should be looked at: one record per place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from near_monai.coords import Grid


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
        voxels = np.argwhere(where)
        x, y, z = (float(c) for c in grid.to_mm(voxels.mean(0)))
        return cls(rule, label, action, (x, y, z), len(voxels) * grid.voxel_volume, detail)
