"""The centreline of a label, its calibre at every point and on average around it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from near_monai.geometry.boxes import voxels_of
from near_monai.geometry.coordinates import FloatArray, Grid
from near_monai.geometry.distance import depth_at
from near_monai.metrics.mask_metrics import MeasuredMask

#: mm of centreline over which a calibre is averaged, and over which it is compared.
NEAR_MM, FAR_MM = 3.0, 10.0


@dataclass(frozen=True, eq=False)
class Centreline:
    """Centreline of a label.

    Attributes:
        mm: ``(N, 3)`` its points, in the frame of the label.
        radius: ``(N,)`` logarithm of the distance to the wall.
        end: ``(N,)`` whether a point is an end.
    """

    mm: FloatArray
    radius: FloatArray
    end: NDArray[np.bool_]

    @classmethod
    def of(cls, shape: MeasuredMask, grid: Grid) -> Centreline:
        """That of a ``shape`` on ``grid``."""
        voxels = voxels_of(shape.skeleton)
        radius = np.log(np.maximum(depth_at(shape.mask, grid, voxels), min(grid.spacing) / 2))
        beside = cKDTree(voxels).query_ball_point(voxels, 1.8, return_length=True)
        return cls(grid.to_mm(voxels), radius, np.asarray(beside) <= 2)

    def mean(self, values: FloatArray, reach_mm: float) -> FloatArray:
        """Means of ``values`` ``(N,)`` over all points within ``reach_mm`` of each."""
        one, other = cKDTree(self.mm).query_pairs(reach_mm, output_type="ndarray").T
        count, total = np.ones(len(self.mm)), values.astype(np.float64).copy()
        for here, there in ((one, other), (other, one)):
            count += np.bincount(here, minlength=len(count))
            total += np.bincount(here, values[there], len(count))
        return np.asarray(total / count)

    @cached_property
    def near(self) -> FloatArray:
        """Mean of the logarithm of the radius over :data:`NEAR_MM`."""
        return self.mean(self.radius, NEAR_MM)

    @cached_property
    def far(self) -> FloatArray:
        """Mean of the logarithm of the radius over :data:`FAR_MM`."""
        return self.mean(self.radius, FAR_MM)
