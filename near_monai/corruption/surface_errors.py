"""Errors of the whole surface of a label: wrong calibre, rough walls, shifted slices, staircases, specks.

A *field* is a float32 array ``(X, Y, Z)`` in mm, negative inside: a (truncated) signed distance, or anything that
behaves like one near its zero level. Every corruption maps a field to a new field of the same shape; sizes are in mm,
so that the same numbers hold on every grid. Random numbers come from ``self.R`` (``set_random_state``), as in MONAI.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeAlias

import numpy as np
import torch
from monai.transforms import Randomizable
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

Field: TypeAlias = NDArray[np.float32]
Range: TypeAlias = tuple[float, float]


class Corruption(Randomizable):
    """A random change of a field."""

    @abstractmethod
    def __call__(self, field: Field, spacing: ArrayLike) -> Field:
        """Corrupted copy of ``field`` ``(X, Y, Z)``, whose voxels measure ``spacing`` ``(3,)`` mm."""


def smooth_noise(
    rng: np.random.RandomState, shape: tuple[int, ...], spacing: ArrayLike, correlation: float
) -> NDArray[np.float32]:
    """Gaussian field with mean 0, standard deviation 1 and autocorrelation ``exp(-(d / correlation)^2 / 2)``.

    White noise is filtered on a lattice of at most a third of the correlation length and interpolated linearly, so that
    the cost of a long correlation is small.

    Args:
        rng: source of the noise.
        shape: ``(X, Y, Z)``.
        spacing: ``(3,)`` voxel size in mm.
        correlation: correlation length in mm.
    """
    extent = (np.asarray(shape) - 1) * np.asarray(spacing, np.float64)
    lattice = np.minimum(np.ceil(3.0 * extent / correlation).astype(int) + 1, shape)
    step = np.maximum(extent, 1e-6) / np.maximum(lattice - 1, 1)
    sigma = correlation / np.sqrt(2.0) / step
    reach = np.where(lattice > 1, np.ceil(2.5 * sigma), 0).astype(int)
    noise = rng.standard_normal(tuple(lattice + 2 * reach)).astype(np.float32)
    for axis in range(3):
        kernel = np.exp(-0.5 * (np.arange(-reach[axis], reach[axis] + 1) / sigma[axis]) ** 2)
        kernel /= np.sqrt(np.sum(kernel**2))
        noise = ndimage.correlate1d(noise, kernel, axis=axis)
        noise = noise[(slice(None),) * axis + (slice(reach[axis], reach[axis] + lattice[axis]),)]
    if tuple(lattice) == tuple(shape):
        return noise
    batch = torch.from_numpy(np.ascontiguousarray(noise))[None, None]
    fine = torch.nn.functional.interpolate(batch, size=tuple(shape), mode="trilinear", align_corners=True)
    return np.asarray(fine[0, 0].numpy(), np.float32)


def local_radius(field: Field, spacing: ArrayLike, window: float = 10.0) -> NDArray[np.float32]:
    """Vessel radius in mm around every voxel: twice the volume over the surface area within a cube of ``window`` mm.

    Unlike the largest depth of the voxel centres nearby it is right below the resolution of the grid, and a large
    vessel does not impose its radius on the side branches. Only meaningful near vessels; 0 away from them.
    """
    step = np.asarray(spacing, np.float64)
    size = np.maximum(np.round(window / step / 2).astype(int) * 2 + 1, 1).tolist()
    inside, wall = _volume_and_surface(field, float(step.mean()))
    volume = ndimage.uniform_filter(inside, size, mode="nearest")
    area = ndimage.uniform_filter(wall, size, mode="nearest")
    # A hundredth of a voxel face keeps the ratio finite where a window holds no surface.
    radius = 2 * volume / np.maximum(area, 0.01 / (float(step.mean()) * np.prod(size)))
    return np.asarray(np.minimum(radius, window / 2), np.float32)


def vessel_length(field: Field, spacing: ArrayLike) -> float:
    """Approximate centreline length in mm: the tube with the volume V and the surface A of the label, A^2 / 4 pi V."""
    step = np.asarray(spacing, np.float64)
    band = float(step.mean())
    inside, wall = _volume_and_surface(field[field < band], band)
    volume, area = float(inside.sum(dtype=np.float64)), float(wall.sum(dtype=np.float64))
    return float(area**2 / (4 * np.pi * volume) * np.prod(step)) if volume > 0 else 0.0


def _volume_and_surface(field: Field, band: float) -> tuple[Field, Field]:
    """Share of each voxel that is inside, and its wall area per voxel volume (1/mm), from slopes ``band`` mm wide."""
    scaled = field / np.float32(band)
    inside = np.clip(0.5 - scaled, 0, 1)
    wall = np.clip(1 - np.abs(scaled), 0, 1) / band
    return np.asarray(inside, np.float32), np.asarray(wall, np.float32)


class CalibreBias(Corruption):
    """Wrong calibre: the radius is multiplied by ``exp(sigma * g)``, g = a constant of the case + a smooth field.

    Args:
        sigma: standard deviation of the log radius.
        share: share of its variance that is constant over the case.
        correlation: correlation length of the rest, mm.
    """

    def __init__(self, sigma: float = 0.2, share: float = 0.5, correlation: float = 9.0) -> None:
        self.sigma, self.share, self.correlation = sigma, share, correlation

    def __call__(self, field: Field, spacing: ArrayLike) -> Field:
        """See :class:`Corruption`."""
        g = np.sqrt(1 - self.share) * smooth_noise(self.R, field.shape, spacing, self.correlation)
        g += np.sqrt(self.share) * self.R.standard_normal()
        growth = np.expm1(self.sigma * np.clip(g, -2.5, 2.5))
        return np.asarray(field - growth * local_radius(field, spacing), np.float32)


class BoundaryJitter(Corruption):
    """Rough wall: smooth Gaussian noise of ``sd`` mm is added to the field.

    Noise adds more voxels outside a thin tube than it removes inside. A network that only ever sees the result learns
    to shrink every vessel; one that never sees it leaves vessels too thick that were annotated so.

    Args:
        sd: standard deviation in mm.
        correlation: range of the correlation length in mm, drawn anew for every call.
        kept: how much of the added volume is taken away again, 0 (none) to 1 (all: their number stays).
    """

    def __init__(self, sd: float = 0.3, correlation: Range = (0.7, 1.5), kept: float = 1.0) -> None:
        self.sd, self.correlation, self.kept = sd, correlation, kept

    def __call__(self, field: Field, spacing: ArrayLike) -> Field:
        """See :class:`Corruption`."""
        noise = smooth_noise(self.R, field.shape, spacing, self.R.uniform(*self.correlation))
        rough = field + np.float32(self.sd) * noise
        before, after = np.count_nonzero(field < 0), np.count_nonzero(rough < 0)
        return keep_volume(rough, round(after + self.kept * (before - after)))


def keep_volume(field: Field, count: int) -> Field:
    """Add a constant to ``field`` such that exactly ``count`` voxels are negative (ties aside)."""
    if not 0 < count < field.size:
        return field
    values = field[field < 1.0]  # nearly always enough, and few
    values = values if values.size > count else field.ravel()
    below, above = np.partition(values, (count - 1, count))[count - 1 : count + 1]
    return np.asarray(field - (below + above) / 2, np.float32)


class SliceShift(Corruption):
    """Motion: runs of neighbouring slices are shifted in-plane by one voxel.

    Args:
        fraction: share of the slices that are hit.
        run: range of the number of slices in a run.
        axis: slice axis; None draws one for every call.
    """

    def __init__(self, fraction: float = 0.1, run: tuple[int, int] = (1, 3), axis: int | None = 2) -> None:
        self.fraction, self.run, self.axis = fraction, run, axis

    def __call__(self, field: Field, spacing: ArrayLike) -> Field:
        """See :class:`Corruption`."""
        axis = self.R.randint(3) if self.axis is None else self.axis
        out = field.copy()
        slices, source = np.moveaxis(out, axis, 0), np.moveaxis(field, axis, 0)
        runs = self.R.poisson(self.fraction * len(slices) / np.mean(self.run))
        for _ in range(runs):
            start = self.R.randint(len(slices))
            stop = start + self.R.randint(self.run[0], self.run[1] + 1)
            plane, way = self.R.randint(1, 3), self.R.choice((-1, 1))
            index = np.clip(np.arange(source.shape[plane]) - way, 0, source.shape[plane] - 1)
            slices[start:stop] = np.take(source[start:stop], index, axis=plane)
        return out


class Staircase(Corruption):
    """Nearest-neighbour resampling to a coarser grid, of another step per axis and a random phase, and back.

    Args:
        step: range of the coarse voxel size in mm, drawn per axis; axes that are as coarse already stay as they are.
    """

    def __init__(self, step: Range = (0.7, 1.3)) -> None:
        self.step = step

    def __call__(self, field: Field, spacing: ArrayLike) -> Field:
        """See :class:`Corruption`. The mask ``result < 0`` is the resampled mask ``field < 0``."""
        index = []
        for n, size in zip(field.shape, np.asarray(spacing, np.float64), strict=True):
            ratio = max(self.R.uniform(*self.step) / size, 1.0)
            phase = self.R.uniform(0, 1)
            coarse = np.floor((np.arange(n) + 0.5) / ratio - phase) + phase + 0.5
            index.append(np.clip(np.floor(coarse * ratio), 0, n - 1).astype(int) if ratio > 1 else np.arange(n))
        return np.asarray(field[np.ix_(*index)])


class HoleAndSpeck(Corruption):
    """Single wrong voxels at the wall: those within half a voxel of it change sides at random.

    Args:
        fraction: share of the voxels next to the surface.
    """

    def __init__(self, fraction: float = 0.02) -> None:
        self.fraction = fraction

    def __call__(self, field: Field, spacing: ArrayLike) -> Field:
        """See :class:`Corruption`."""
        out = field.copy()
        wall = np.flatnonzero(np.abs(field) < np.mean(np.asarray(spacing)) / 2)
        hit = wall[self.R.random_sample(wall.size) < self.fraction]
        out.flat[hit] = -field.flat[hit]
        return out
