"""Errors of single places of a label: gaps, false islands, leaks.

Terms are those of :mod:`near_monai.corruption.surface_errors`. All of them work on small boxes around the place, so
their cost does not depend on the size of the volume.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from near_monai.corruption.surface_errors import Corruption, Field, Range, keep_volume, smooth_noise
from near_monai.geometry.boxes import voxels_of

Points = NDArray[np.float64]
# Voxels this far (mm) outside a removed piece are cleared too, or later noise would bring back a shell of it.
CLEARANCE = 1.2


class LocalCorruption(Corruption):
    """Changes ``count`` places of a field; subclasses say where (candidates) and how (one place, in place)."""

    count: int

    def __call__(self, field: Field, spacing: ArrayLike) -> Field:
        """See :class:`Corruption`. Without a vessel the field comes back unchanged."""
        out, step = field.copy(), np.asarray(spacing, np.float64)
        if self.count:
            places = self.candidates(field)
            for _ in range(self.count if len(places) else 0):
                self.change(out, step, places[self.R.randint(len(places))])
        return out

    @abstractmethod
    def candidates(self, field: Field) -> NDArray[np.int_]:
        """Voxels ``(N, 3)`` at which a change may happen."""

    @abstractmethod
    def change(self, field: Field, spacing: Points, voxel: NDArray[np.int_]) -> None:
        """Change ``field`` around ``voxel``, in place."""


class Gap(LocalCorruption):
    """An interruption: everything within a cylinder along the vessel is removed.

    Args:
        length: range of the removed length in mm.
        count: number of gaps.
    """

    def __init__(self, length: Range = (1.0, 8.0), count: int = 1) -> None:
        self.length, self.count = length, count

    def candidates(self, field: Field) -> NDArray[np.int_]:
        """Centreline voxels, so that thin and thick vessels are hit equally often per mm."""
        return ridge(field)

    def change(self, field: Field, spacing: Points, voxel: NDArray[np.int_]) -> None:
        """Cut the vessel through ``voxel``."""
        half = self.R.uniform(*self.length) / 2
        # The ridge voxel can lie half a voxel diagonal off the axis.
        radius = max(-float(field[tuple(voxel)]), 0.0) + 0.5 * float(np.linalg.norm(spacing)) + CLEARANCE
        axis = vessel_axis(field, spacing, voxel, reach=2.0 * radius)
        box, grid = _box(voxel * spacing, np.hypot(half, radius), spacing, field.shape)
        if axis is None:
            return
        along = sum(a * g for a, g in zip(axis, grid, strict=True))
        across = sum(g * g for g in grid) - along**2
        field[box] = np.where(across < radius**2, np.maximum(field[box], half - np.abs(along)), field[box])


class FalseIsland(LocalCorruption):
    """A disconnected blob or short tube with a rough surface.

    Args:
        volume: range of the volume in mm^3 (log-uniform).
        distance: range of the distance to the vessel's surface in mm. The lower end is checked against the field and
            has to be below its truncation.
        count: number of islands. One that finds no room in ten tries is left out.
    """

    def __init__(self, volume: Range = (8.0, 150.0), distance: Range = (2.0, 20.0), count: int = 1) -> None:
        self.volume, self.distance, self.count = volume, distance, count

    def candidates(self, field: Field) -> NDArray[np.int_]:
        """Vessel voxels."""
        return voxels_of(field < 0)

    def change(self, field: Field, spacing: Points, voxel: NDArray[np.int_]) -> None:
        """Put one island near ``voxel``."""
        volume = float(np.exp(self.R.uniform(*np.log(self.volume))))
        aspect = self.R.uniform(0.0, 10.0)
        radius = (volume / (np.pi * (4.0 / 3.0 + aspect))) ** (1.0 / 3.0)
        count = max(round(volume / float(np.prod(spacing))), 1)
        for _ in range(10):
            away = self.R.uniform(*self.distance) + radius
            start = voxel * spacing + away * unit(self.R.standard_normal(3))
            curve = bent_curve(self.R, start, unit(self.R.standard_normal(3)), aspect * radius, radius)
            if self._place(field, spacing, curve, radius, count):
                return

    def _place(self, field: Field, spacing: Points, curve: Points, radius: float, count: int) -> bool:
        voxels = np.round(curve / spacing).astype(int)
        seen = np.all((voxels >= 0) & (voxels < field.shape), axis=1)
        # The curve alone tells most misses, before the wall is made; the middle has to lie in the array.
        if not seen[len(curve) // 2] or field[tuple(voxels[seen].T)].min() < self.distance[0]:
            return False
        box, shape = rough_tube(self.R, curve, radius, spacing, roughness=0.3)
        there, here = _overlap(box, field.shape)
        piece = keep_volume(shape, count)[here]
        if field[there][piece < 0].min(initial=np.inf) < self.distance[0]:
            return False
        field[there] = np.minimum(field[there], piece)
        return True


class Leakage(LocalCorruption):
    """A false outgrowth of the wall: a bulge, or a short tube that leaves the vessel ("vein").

    Args:
        radius: range of the bulge's radius in mm.
        length: range of the vein's length in mm; its radius is 0.6-1.2 mm.
        vein: probability of a vein instead of a bulge.
        count: number of outgrowths.
    """

    def __init__(
        self, radius: Range = (1.0, 3.0), length: Range = (3.0, 12.0), vein: float = 0.3, count: int = 1
    ) -> None:
        self.radius, self.length, self.vein, self.count = radius, length, vein, count

    def candidates(self, field: Field) -> NDArray[np.int_]:
        """Vessel voxels at the wall."""
        inside = field < 0
        return voxels_of(inside & ~ndimage.binary_erosion(inside, border_value=1))

    def change(self, field: Field, spacing: Points, voxel: NDArray[np.int_]) -> None:
        """Attach one outgrowth at ``voxel``."""
        wall, normal = voxel * spacing, _normal(field, spacing, voxel)
        if self.R.random_sample() < self.vein:
            radius = self.R.uniform(0.6, 1.2)
            towards = unit(normal + 1.5 * np.cross(normal, unit(self.R.standard_normal(3))))
            curve = bent_curve(self.R, wall, towards, self.R.uniform(*self.length), radius)
        else:
            radius = self.R.uniform(*self.radius)
            curve = (wall + normal * radius * self.R.uniform(0.0, 0.6))[None]
        box, shape = rough_tube(self.R, curve, radius, spacing, roughness=0.1)
        there, here = _overlap(box, field.shape)
        field[there] = np.minimum(field[there], shape[here])


def ridge(field: Field) -> NDArray[np.int_]:
    """Inside voxels ``(N, 3)`` that are no shallower than their 26 neighbours: a crude centreline, at a small cost."""
    voxels = voxels_of(field < 0)
    depth, last = field[tuple(voxels.T)], np.asarray(field.shape) - 1
    deepest = np.ones(len(voxels), bool)
    for offset in product((-1, 0, 1), repeat=3):
        deepest &= depth <= field[tuple(np.clip(voxels + offset, 0, last).T)]
    return voxels[deepest]


def vessel_axis(field: Field, spacing: Points, voxel: NDArray[np.int_], reach: float) -> Points | None:
    """Unit direction ``(3,)`` of the vessel through ``voxel``: the principal axis of its piece within ``reach`` mm.

    None where ``voxel`` is no longer inside.
    """
    box, grid = _box(voxel * spacing, reach, spacing, field.shape)
    label, _ = ndimage.label((field[box] < 0) & (sum(g * g for g in grid) < reach**2), np.ones((3, 3, 3)))
    name = label[tuple(v - s.start for v, s in zip(voxel, box, strict=True))]
    if not name:
        return None
    positions = np.argwhere(label == name) * spacing
    positions -= positions.mean(axis=0)
    return np.asarray(np.linalg.eigh(positions.T @ positions)[1][:, -1])


def bent_curve(rng: np.random.RandomState, start: Points, direction: Points, length: float, radius: float) -> Points:
    """Points ``(N, 3)`` in mm, at most half a ``radius`` apart, on a bent curve about ``length`` mm long."""
    t = np.linspace(0, 1, int(np.ceil(2.0 * length / radius)) + 1)[:, None]
    sideways = 0.35 * length * np.cross(direction, unit(rng.standard_normal(3)))
    return np.asarray(start + t * length * direction + 4 * t * (1 - t) * sideways * 0.5 + t**2 * sideways * 0.5)


def rough_tube(
    rng: np.random.RandomState, curve: Points, radius: float, spacing: Points, roughness: float
) -> tuple[tuple[slice, ...], Field]:
    """Field of a tube around ``curve`` with noise of ``roughness * radius`` mm on its wall.

    Returns:
        Box of the field in voxels, which may exceed the array (also below 0), and the field.
    """
    reach = radius * (1.0 + 3.0 * roughness) + spacing
    low = np.floor((curve.min(axis=0) - reach) / spacing).astype(int)
    high = np.ceil((curve.max(axis=0) + reach) / spacing).astype(int) + 1
    axes = [np.arange(a, b, dtype=np.float32) * np.float32(s) for a, b, s in zip(low, high, spacing, strict=True)]
    nearest = np.full(tuple(high - low), np.inf, np.float32)
    for point in curve.astype(np.float32):
        x, y, z = ((a - p) ** 2 for a, p in zip(axes, point, strict=True))
        np.minimum(nearest, x[:, None, None] + y[:, None] + z, out=nearest)
    noise = smooth_noise(rng, nearest.shape, spacing, correlation=max(radius, 0.7))
    shape = np.sqrt(nearest) - np.float32(radius) + np.float32(roughness * radius) * noise
    return tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True)), shape


def unit(vector: Points) -> Points:
    """``vector`` scaled to length 1 (0 stays 0)."""
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9))


def _box(
    centre: Points, reach: float, spacing: Points, shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], list[Points]]:
    """Voxel box within ``reach`` mm of ``centre``, and the mm positions of its voxels relative to the centre."""
    low = np.maximum(np.floor((centre - reach) / spacing).astype(int), 0).tolist()
    high = np.minimum(np.ceil((centre + reach) / spacing).astype(int) + 1, shape).tolist()
    axes = [np.arange(a, b) * s - c for a, b, s, c in zip(low, high, spacing, centre, strict=True)]
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True)), list(np.ix_(*axes))


def _overlap(box: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The part of ``box`` inside an array of ``shape``: as slices of the array, and of the box."""
    there = tuple(slice(max(b.start, 0), max(min(b.stop, n), 0)) for b, n in zip(box, shape, strict=True))
    here = tuple(slice(t.start - b.start, max(t.stop - b.start, 0)) for t, b in zip(there, box, strict=True))
    return there, here


def _normal(field: Field, spacing: Points, voxel: NDArray[np.int_]) -> Points:
    """Unit outward normal in mm at ``voxel``, by central differences (one-sided at the border)."""
    last = np.asarray(field.shape) - 1
    slope = [
        field[tuple(np.minimum(voxel + e, last))] - field[tuple(np.maximum(voxel - e, 0))] for e in np.eye(3, dtype=int)
    ]
    return unit(np.asarray(slope) / spacing)
