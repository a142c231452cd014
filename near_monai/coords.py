"""Axis order and units: the only place that converts between coordinate frames.

Vocabulary, used everywhere in the package:

- *voxel* coordinates ``(i, j, k)`` index an array as stored in the file; whole numbers are voxel centres.
- *mm* coordinates run along the same axes: ``mm = origin + voxel * spacing``. They are the frame of one case; the
  affine of the file (which may flip, rotate or shear) is applied only when a position is shown to a person.
- *normalised* coordinates span a grid from the outer face of its first voxel (-1) to the outer face of its last voxel
  (+1), per axis, in the order ``(i, j, k)``. ``torch.nn.functional.grid_sample`` wants the reverse order and
  ``align_corners=False``: :func:`sample` does that and nothing else in the package calls it.

Points are always the last axis, ``(..., 3)``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.floating]

#: Largest difference between the affines of one grid.
AFFINE_TOLERANCE_MM = 1e-3


@dataclass(frozen=True)
class Grid:
    """A regular grid: ``shape`` voxels, ``spacing`` in mm, ``origin`` = mm position of the centre of voxel 0."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @classmethod
    def of(cls, shape: Iterable[float], spacing: Iterable[float], origin: Iterable[float] = (0.0, 0.0, 0.0)) -> Grid:
        """A grid from any three-item sequences."""
        (a, b, c), (i, j, k), (x, y, z) = (tuple(float(v) for v in values) for values in (shape, spacing, origin))
        return cls((int(a), int(b), int(c)), (i, j, k), (x, y, z))

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm^3."""
        return float(np.prod(self.spacing))

    def to_mm(self, voxel: ArrayLike) -> FloatArray:
        """Voxel coordinates ``(..., 3)`` to mm."""
        return np.asarray(voxel, np.float64) * self.spacing + self.origin

    def to_voxel(self, mm: ArrayLike) -> FloatArray:
        """Mm positions ``(..., 3)`` to voxel coordinates (not rounded)."""
        return (np.asarray(mm, np.float64) - self.origin) / self.spacing

    def normalise(self, mm: ArrayLike) -> FloatArray:
        """Mm positions ``(..., 3)`` to normalised coordinates; [-1, 1] is inside the grid."""
        return (2.0 * self.to_voxel(mm) + 1.0) / self.shape - 1.0

    def denormalise(self, normalised: ArrayLike) -> FloatArray:
        """Normalised coordinates ``(..., 3)`` to mm."""
        return self.to_mm(((np.asarray(normalised, np.float64) + 1.0) * self.shape - 1.0) / 2.0)

    def axes_mm(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mm positions of the voxel centres along each of the three axes."""
        i, j, k = (o + np.arange(n) * s for n, s, o in zip(self.shape, self.spacing, self.origin, strict=True))
        return i, j, k

    def axes_in(self, other: Grid) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normalised coordinates, in the frame of ``other``, of this grid's voxel centres along each axis."""
        lines = [
            torch.as_tensor((2.0 * (mm - o) / s + 1.0) / n - 1.0)
            for mm, o, s, n in zip(self.axes_mm(), other.origin, other.spacing, other.shape, strict=True)
        ]
        return lines[0], lines[1], lines[2]

    def scaled(self, factor: float) -> Grid:
        """This grid with every length multiplied by ``factor``."""
        return Grid.of(self.shape, np.multiply(self.spacing, factor), np.multiply(self.origin, factor))

    def crop(self, start: ArrayLike, shape: tuple[int, int, int]) -> Grid:
        """The sub-grid of ``shape`` voxels that begins at voxel ``start``."""
        return Grid.of(shape, self.spacing, self.to_mm(start))

    def isotropic(self, spacing: float) -> Grid:
        """The isotropic grid of ``spacing`` mm that covers the same field of view, outer face to outer face.

        The extent is rounded up to whole voxels, so the last voxel may stick out by less than one voxel.
        """
        extent = np.asarray(self.shape) * self.spacing
        shape = np.maximum(np.ceil(extent / spacing - 1e-6), 1)
        return Grid.of(shape, [spacing] * 3, np.asarray(self.origin) + (spacing - np.asarray(self.spacing)) / 2.0)

    def cube(self, resolution: int) -> Grid:
        """The grid of ``resolution`` voxels per axis that spans this one from outer face to outer face."""
        spacing = np.asarray(self.shape) * self.spacing / resolution
        return Grid.of([resolution] * 3, spacing, self.to_mm((spacing / self.spacing - 1.0) / 2.0))

    def affine_from(self, affine: ArrayLike, reference: Grid) -> FloatArray:
        """World affine of this grid, given the ``affine`` of the ``reference`` grid in the same mm frame."""
        local = np.eye(4)
        local[:3, :3] = np.diag(np.asarray(self.spacing) / reference.spacing)
        local[:3, 3] = reference.to_voxel(self.origin)
        return np.asarray(affine, np.float64) @ local


def same_affine(first: ArrayLike, second: ArrayLike) -> bool:
    """Whether two 4 x 4 world affines put voxels at the same place, to :data:`AFFINE_TOLERANCE_MM`."""
    return np.allclose(first, second, rtol=0, atol=AFFINE_TOLERANCE_MM)


def spacing_of(affine: ArrayLike) -> tuple[float, float, float]:
    """Voxel spacing in mm of a 4 x 4 world affine (lengths of its columns)."""
    i, j, k = (float(x) for x in np.linalg.norm(np.asarray(affine, np.float64)[:3, :3], axis=0))
    return i, j, k


def sample(volume: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Trilinear lookup of ``volume`` at normalised ``points``; outside, the border value is repeated.

    Args:
        volume: ``(B, C, D, H, W)``.
        points: ``(B, N, 3)``, normalised, in array order ``(i, j, k)``.

    Returns:
        ``(B, C, N)``.
    """
    grid = points.flip(-1)[:, :, None, None]
    found = torch.nn.functional.grid_sample(volume, grid, padding_mode="border", align_corners=False)
    return found[..., 0, 0]


def sample_axes(volume: torch.Tensor, axes: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """:func:`sample` on a regular grid, one axis at a time: equal to it, but matrix products instead of lookups.

    Args:
        volume: ``(B, C, D, H, W)``.
        axes: normalised coordinates of the grid lines along each axis, ``(I,)``, ``(J,)`` and ``(K,)``.

    Returns:
        ``(B, C, I, J, K)``.
    """
    i, j, k = (_linear_weights(axis, n).to(volume) for axis, n in zip(axes, volume.shape[2:], strict=True))
    volume = torch.matmul(volume, k.T)
    volume = torch.matmul(j, volume)
    return torch.einsum("ix,bcxyz->bciyz", i, volume)


def _linear_weights(axis: torch.Tensor, n: int) -> torch.Tensor:
    """Interpolation matrix ``(len(axis), n)``: row q has the weights of the two cells beside ``axis[q]``."""
    voxel = (((axis.double() + 1.0) * n - 1.0) / 2.0).clamp(0, n - 1)
    lower = voxel.floor().long().clamp(max=max(n - 2, 0))
    upper = (lower + 1).clamp(max=n - 1)
    share = (voxel - lower)[:, None]
    weights = torch.zeros(len(axis), n, dtype=torch.float64, device=axis.device)
    weights.scatter_add_(1, lower[:, None], 1.0 - share)
    return weights.scatter_add_(1, upper[:, None], share)
