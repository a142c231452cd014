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

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from near_monai.errors import NearError

FloatArray = NDArray[np.floating]

#: Two grids are one if no corner of the volume lies further apart than this many voxels.
SAME_GRID_VOXELS = 0.1


@dataclass(frozen=True)
class Grid:
    """A regular grid.

    Attributes:
        shape: voxels along each axis.
        spacing: distance of their centres along each axis, mm.
        origin: mm position of the centre of voxel 0.
        upright: volume of a voxel over the product of its edges: 1 where the axes of the world affine are at right
            angles, less where they are not (a tilted gantry). Lengths in mm are along the axes all the same.

    Example:
        >>> import near_monai
        >>> grid = near_monai.Grid((64, 64, 32), (0.4, 0.4, 0.8))
        >>> grid.to_mm([10, 0, 5]).tolist()
        [4.0, 0.0, 4.0]
        >>> grid.isotropic(0.8).shape
        (32, 32, 32)
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    upright: float = 1.0

    @classmethod
    def of(
        cls,
        shape: Iterable[float],
        spacing: Iterable[float],
        origin: Iterable[float] = (0.0, 0.0, 0.0),
        upright: float = 1.0,
    ) -> Grid:
        """A grid from any three-item sequences."""
        (a, b, c), (i, j, k), (x, y, z) = (tuple(float(v) for v in values) for values in (shape, spacing, origin))
        return cls((int(a), int(b), int(c)), (i, j, k), (x, y, z), upright)

    @classmethod
    def under(cls, affine: ArrayLike, shape: Iterable[float]) -> Grid:
        """The grid, with origin 0, of a volume of ``shape`` voxels that a 4 x 4 world ``affine`` places."""
        spacing = spacing_of(affine)
        volume = abs(np.linalg.det(np.asarray(affine, np.float64)[:3, :3]))
        return cls.of(shape, spacing, upright=min(round(float(volume / np.prod(spacing)), 6), 1.0))

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm^3."""
        return math.prod(sorted(self.spacing)) * self.upright  # the same, to the last bit, in any order of the axes

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
        return Grid.of(self.shape, np.multiply(self.spacing, factor), np.multiply(self.origin, factor), self.upright)

    def crop(self, start: ArrayLike, shape: tuple[int, int, int]) -> Grid:
        """The sub-grid of ``shape`` voxels that begins at voxel ``start``."""
        return Grid.of(shape, self.spacing, self.to_mm(start), self.upright)

    def finer(self, factor: int) -> Grid:
        """The grid with ``factor`` voxels along every axis in the place of one."""
        spacing = np.asarray(self.spacing) / factor
        origin = np.asarray(self.origin) - (factor - 1) / 2 * spacing
        return Grid.of(np.multiply(self.shape, factor), spacing, origin, self.upright)

    def isotropic(self, spacing: float) -> Grid:
        """The isotropic grid of ``spacing`` mm that covers the same field of view, outer face to outer face.

        The extent is rounded up to whole voxels, so the last voxel may stick out by less than one voxel.
        """
        extent = np.asarray(self.shape) * self.spacing
        shape = np.maximum(np.ceil(extent / spacing - 1e-6), 1)
        origin = np.asarray(self.origin) + (spacing - np.asarray(self.spacing)) / 2.0
        return Grid.of(shape, [spacing] * 3, origin, self.upright)

    def cube(self, resolution: int) -> Grid:
        """The grid of ``resolution`` voxels per axis that spans this one from outer face to outer face."""
        spacing = np.asarray(self.shape) * self.spacing / resolution
        return Grid.of([resolution] * 3, spacing, self.to_mm((spacing / self.spacing - 1.0) / 2.0), self.upright)

    def affine_from(self, affine: ArrayLike, reference: Grid) -> FloatArray:
        """World affine of this grid, given the ``affine`` of the ``reference`` grid in the same mm frame."""
        local = np.eye(4)
        local[:3, :3] = np.diag(np.asarray(self.spacing) / reference.spacing)
        local[:3, 3] = reference.to_voxel(self.origin)
        return np.asarray(affine, np.float64) @ local


class Placed(NamedTuple):
    """Where a volume lies: ``shape`` ``(X, Y, Z)``, 4 x 4 world ``affine`` in mm, and the ``name`` of its file."""

    shape: tuple[int, ...]
    affine: ArrayLike
    name: str


def grid_distance(shape: Iterable[float], first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
    """How far two 4 x 4 world affines put the eight outer corners of a volume of ``shape`` apart, at most.

    Returns:
        The distance in mm, and in voxels of ``second``.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    corners = np.array([(*corner, 1) for corner in np.ndindex(2, 2, 2)]) * (*shape, 1) - (0.5, 0.5, 0.5, 0)
    apart = (corners @ (one - other).T)[:, :3]
    voxels = np.linalg.solve(other[:3, :3], apart.T)
    return float(np.linalg.norm(apart, axis=1).max()), float(np.linalg.norm(voxels, axis=0).max())


def same_grid(found: Placed, expected: Placed) -> bool:
    """Whether two volumes have the same shape and lie at the same place, to :data:`SAME_GRID_VOXELS`."""
    return (
        tuple(found.shape) == tuple(expected.shape)
        and grid_distance(found.shape, found.affine, expected.affine)[1] <= SAME_GRID_VOXELS
    )


def check_same_grid(found: Placed, expected: Placed) -> None:
    """Refuse two volumes that are not on one grid, see :func:`same_grid`.

    Raises:
        NearError: they are not; it says by how much.
    """
    if same_grid(found, expected):
        return
    if tuple(found.shape) != tuple(expected.shape):
        how = f"shape {tuple(found.shape)}; expected {tuple(expected.shape)}"
    else:
        mm, voxels = grid_distance(found.shape, found.affine, expected.affine)
        how = f"up to {mm:.3g} mm ({voxels:.3g} voxels) apart, both of shape {tuple(found.shape)}"
    raise NearError(
        f"{found.name}: is not on the grid of {expected.name}: {how}; expected the same grid, to "
        f"{SAME_GRID_VOXELS:g} voxels: resample one"
    )


def tilt(affine: ArrayLike) -> float:
    """By how many degrees the voxel axes, columns of a world ``affine`` (4 x 4 or 3 x 3), are off right angles."""
    axes = np.asarray(affine, np.float64)[:3, :3] / spacing_of(affine)
    cosines = np.abs((axes.T @ axes)[np.triu_indices(3, 1)])
    return float(np.degrees(np.arcsin(np.clip(cosines, 0, 1))).max())


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
    grid = points.flip([-1])[:, :, None, None]
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
    i = _linear_weights(axes[0], volume.shape[2]).to(volume)
    j = _linear_weights(axes[1], volume.shape[3]).to(volume)
    k = _linear_weights(axes[2], volume.shape[4]).to(volume)
    volume = torch.matmul(volume, k.t())
    volume = torch.matmul(j, volume)
    return torch.einsum("ix,bcxyz->bciyz", i, volume)


def _linear_weights(axis: torch.Tensor, n: int) -> torch.Tensor:
    """Interpolation matrix ``(len(axis), n)``: row q has the weights of the two cells beside ``axis[q]``."""
    voxel = (((axis.double() + 1.0) * n - 1.0) / 2.0).clamp(0, n - 1)
    lower = voxel.floor().long().clamp(max=max(n - 2, 0))
    upper = (lower + 1).clamp(max=n - 1)
    share = (voxel - lower)[:, None]
    weights = torch.zeros([len(axis), n], dtype=torch.float64, device=axis.device)
    weights.scatter_add_(1, lower[:, None], 1.0 - share)
    return weights.scatter_add_(1, upper[:, None], share)
