"""Building blocks of a random coronary tree: the surface of the heart, and the course and calibre of one vessel.

The heart is a bumpy ellipsoid. In its own frame +z points to the base and -z to the apex; *latitude* 0 is the equator,
*longitude* 0 the anterior interventricular groove, +90 the left lateral wall, 180 the crux (posterior), -90 the right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.distance import cdist

from near_monai.geometry.coordinates import FloatArray

STEP = 0.7  # mm between the points of a centreline
_SMALLEST = 0.5  # mm: annotations stop at about this radius


@dataclass(frozen=True)
class Heart:
    """Bumpy ellipsoid: semi-axes ``(3,)`` mm, bumps = rows of (amplitude, phase, wave vector (3,))."""

    axes: FloatArray
    bumps: FloatArray

    def project(self, points: FloatArray) -> FloatArray:
        """Move ``points (..., 3)`` mm radially onto the surface."""
        unit = points / self.axes
        unit = unit / np.linalg.norm(unit, axis=-1, keepdims=True)
        waves = np.sin(unit @ self.bumps[:, 2:].T + self.bumps[:, 1]) @ self.bumps[:, 0]
        projected: FloatArray = unit * self.axes * (1 + waves[..., None])
        return projected

    def normal(self, points: FloatArray) -> FloatArray:
        """Outward unit normals ``(..., 3)`` of the ellipsoid through ``points`` (bumps neglected)."""
        outward = points / self.axes**2
        normals: FloatArray = outward / np.linalg.norm(outward, axis=-1, keepdims=True)
        return normals

    def at(self, latitude: float, longitude: float) -> FloatArray:
        """Surface point ``(3,)`` mm at angles in degrees."""
        lat, lon = np.deg2rad([latitude, longitude])
        return self.project(self.axes * [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


@dataclass(frozen=True)
class Branch:
    """Centreline ``points (N, 3)`` and ``radius (N,)`` in mm, from root to tip; side 0 is left, 1 right."""

    points: FloatArray
    radius: FloatArray
    side: int

    def cut(self, count: int) -> Branch:
        """The first ``count`` points."""
        return Branch(self.points[:count], self.radius[:count], self.side)


def random_heart(rng: Generator) -> Heart:
    """A heart of random size and shape."""
    axes = rng.normal(1.0, 0.07) * np.array([46.0, 50.0, 61.0]) * rng.normal(1.0, 0.04, 3)
    bumps = np.column_stack([rng.normal(0, 0.02, 6), rng.uniform(0, 2 * np.pi, 6), rng.normal(0, 2.0, (6, 3))])
    return Heart(axes, bumps)


def gaps(one: Branch, two: Branch) -> FloatArray:
    """Distance in mm between the walls at every pair of points, ``(N, M)``; negative where they overlap."""
    gaps: FloatArray = cdist(one.points, two.points) - one.radius[:, None] - two.radius
    return gaps


def unit_vector(vector: FloatArray) -> FloatArray:
    """``vector (3,)`` scaled to length 1."""
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def resample(points: FloatArray) -> FloatArray:
    """Smooth curve through ``points (K, 3)`` in equal steps of about ``STEP`` mm."""
    for _ in range(2):  # the second pass evens out the speed of the first
        chord = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        count = max(round(chord[-1] / STEP), 3)
        points = CubicSpline(chord, points)(np.linspace(0, chord[-1], count + 1))
    return points


def wander(rng: Generator, line: FloatArray, normal: FloatArray, level: float) -> FloatArray:
    """Add waves of 7-45 mm to a centreline, across it in the surface and, weaker, out of the surface.

    The amplitude grows with the square of the wavelength, up to 2.5 mm, which bounds the curvature; it starts from
    zero at the root. ``level`` 0 leaves the line as it is, 1 makes it very tortuous.
    """
    arc = np.arange(len(line))[:, None] * STEP
    wavelength = np.exp(rng.uniform(np.log(7), np.log(45), (2, 5)))
    amplitude = level * np.minimum(0.007 * wavelength**2, 2.5) * rng.normal(0, 0.6, (2, 5))
    phase = rng.uniform(0, 2 * np.pi, (2, 5))
    waves = (amplitude * np.sin(2 * np.pi * arc[:, None] / wavelength + phase)).sum(-1) * (1 - np.exp(-arc / 5))
    along = np.gradient(line, axis=0)
    lateral = np.cross(normal, along)
    lateral /= np.maximum(np.linalg.norm(lateral, axis=1, keepdims=True), 1e-9)
    moved: FloatArray = line + waves[:, :1] * lateral + 0.4 * waves[:, 1:] * normal
    return moved


def calibre(rng: Generator, count: int, first: float, last: float) -> FloatArray:
    """Radius in mm at up to ``count`` points: taper, flare at the root, natural variation, sometimes disease.

    Shorter than ``count`` where the vessel becomes thinner than annotators follow.
    """
    arc = np.arange(count) * STEP
    taper = first + (last - first) * np.linspace(0, 1, count) ** rng.uniform(0.8, 1.4)
    noise = gaussian_filter1d(rng.normal(size=count + 80), 5 / STEP / np.sqrt(2))[40:-40]
    noise *= np.sqrt(2 * np.sqrt(np.pi) * 5 / STEP / np.sqrt(2))  # back to variance 1
    radius = taper * np.exp(0.06 * noise) * (1 + 0.15 * np.exp(-arc / 2.5))
    thin = np.flatnonzero(radius < _SMALLEST)
    radius, arc = (x[: thin[0]] if len(thin) else x for x in (radius, arc))
    for chance, low, high in ((0.15, -0.7, -0.3), (0.04, 0.25, 0.6)):  # stenosis, ectasia
        if rng.random() < chance and len(arc):
            width = rng.uniform(3, 10)
            bump = np.exp(-(((arc - rng.uniform(0, arc[-1])) / (width / 2)) ** 2) * np.log(2))
            radius = radius * (1 + rng.uniform(low, high) * bump)
    floored: FloatArray = np.maximum(radius, 0.4)
    return floored
