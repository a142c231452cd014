"""Places in a case, as records that a person can go to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, ClassVar, Protocol

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import ArrayLike

from near_monai.geometry.coordinates import FloatArray, Grid


class Place(Protocol):
    """A dataclass that says where something is and how large."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def place(self) -> tuple[float, float, float]:
        """Its centre in mm, in the frame of a grid."""

    @property
    def volume_mm3(self) -> float:
        """Its volume."""


def in_world(places: Iterable[Place], grid: Grid, affine: ArrayLike) -> list[dict[str, Any]]:
    """Plain records, largest first, their places in world mm (NIfTI's RAS+ frame), all numbers rounded, without arrays.

    Args:
        places: in the frame of ``grid``.
        grid: that grid.
        affine: its 4 x 4 world affine.
    """
    records = []
    for found in sorted(places, key=lambda place: -place.volume_mm3):
        record = asdict(found) | {"place": world_mm(found.place, grid, affine)}
        kept = {k: v for k, v in record.items() if not isinstance(v, np.ndarray)}
        records.append({k: round(v, 3) if isinstance(v, float) else v for k, v in kept.items()})
    return records


def local_mm(place: ArrayLike, grid: Grid, affine: ArrayLike) -> FloatArray:
    """The other way: places ``(..., 3)`` in world mm, in mm in the frame of ``grid``, whose world affine is given."""
    return grid.to_mm(apply_affine(np.linalg.inv(np.asarray(affine, np.float64)), np.asarray(place, np.float64)))


def world_mm(place: ArrayLike, grid: Grid, affine: ArrayLike) -> list[float]:
    """A ``place`` in mm, in the frame of ``grid``, in world mm, rounded to a tenth; ``affine`` is that of ``grid``."""
    return [round(float(x), 1) for x in apply_affine(np.asarray(affine, np.float64), grid.to_voxel(place))]
