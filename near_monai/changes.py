"""What was done to a label map, or should be looked at: one record per place."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import ArrayLike, NDArray

from near_monai.coords import Grid


@dataclass(frozen=True)
class Change:
    """One change, or one place that breaks a rule.

    Attributes:
        rule: what was looked at: ``"overlap"``, ``"slit"``, ``"pieces"``, ``"touches"`` or ``"holes"``.
        label: class concerned.
        action: ``"resolved"``, ``"filled"``, ``"removed"`` or, where nothing was changed, ``"flagged"``.
        place: centre ``(x, y, z)`` in mm: of the grid's frame, or of the world after :func:`in_world`.
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


def in_world(changes: list[Change], grid: Grid, affine: ArrayLike) -> list[dict[str, Any]]:
    """Changes as plain records, largest first, their places in world mm (NIfTI's RAS+ frame) and all numbers rounded.

    Args:
        changes: changes in the frame of ``grid``.
        grid: that grid.
        affine: its 4 x 4 world affine.
    """
    records = []
    for change in sorted(changes, key=lambda change: -change.volume_mm3):
        place = apply_affine(np.asarray(affine, np.float64), grid.to_voxel(change.place))
        rounded = {"place": [round(float(x), 1) for x in place], "volume_mm3": round(change.volume_mm3, 3)}
        records.append(asdict(change) | rounded)
    return records
