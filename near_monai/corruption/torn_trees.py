"""Labels torn as networks tear them: for training and testing what joins their pieces again.

A network loses a vessel where it is thin and its contrast is poor, for some mm at a time, and what is left tapers
towards the gap. Now and then it also finds pieces of vessels that are none of the tree, veins above all, which run
beside arteries. Both are imitated on any label map of a tree, generated or not; which joints are right is known then.

The lengths of gaps, sizes of pieces and their numbers are set to those of forty outputs of a network on the ASOCA scans
(``python -m benchmarks.torn LABELS`` prints both).
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from near_monai.geometry.boxes import voxels_of
from near_monai.geometry.centrelines import Centrelines, tube_around
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import FloatArray, Grid

#: mm along which the contrast of a vessel changes, the long and the short waves.
WAVES_MM = (20.0, 7.0)
#: Share of the centreline that the contrast alone makes a network lose.
LOST = (0.01, 0.12)
#: mm around it that are lost, too, on average, and how fast the contrast rises from there, per mm.
WIDER_MM, SLOPE = 1.5, 0.3
#: Random waves that a field is the sum of.
WAVES = 64
#: Stray pieces per label, on average, and which share of them are blobs.
STRAYS, BLOBS = 1.5, 0.4
#: mm that a stray piece lies beside the tree, half of its length, and the radius of a blob.
ASIDE_MM, HALF_MM, BLOB_MM = (1.5, 30.0), (1.0, 12.0), (0.6, 2.5)
#: It is no closer than this to the tree, in mm.
APART_MM = 1.0


def tear(mask: NDArray[np.bool_], grid: Grid, rng: Generator) -> NDArray[np.bool_]:
    """``mask`` ``(X, Y, Z)`` of a tree as a network would have found it: torn, and with stray pieces of others.

    Args:
        mask: the tree.
        grid: its grid.
        rng: source of all randomness; every call draws its own strength.
    """
    if not mask.any():
        return mask.copy()
    found = Components.of(mask)
    line = Centrelines.of(found, found.index(), grid)
    voxels = voxels_of(mask)
    contrast = _contrast(line.mm, line.radius, rng)
    contrast -= np.quantile(contrast, rng.uniform(*LOST))
    contrast = np.minimum(contrast, _widened(line.mm, contrast < 0, rng))
    torn = np.zeros_like(mask)
    torn[tuple(voxels[_seen(grid.to_mm(voxels), line, contrast)].T)] = True
    for _ in range(rng.poisson(STRAYS)):
        torn |= _stray(line, mask, grid, rng)
    return torn


def _contrast(points: FloatArray, radius: FloatArray, rng: Generator) -> FloatArray:
    """How well a vessel is seen at ``points`` ``(N, 3)`` mm: smooth noise, better where the ``radius`` is large."""
    thick = np.log(radius + 0.2)
    thick = (thick - thick.mean()) / max(float(thick.std()), 0.1)
    share = rng.uniform(0.3, 0.9)
    long, short = (_waves(points, wave, rng) for wave in WAVES_MM)
    return rng.uniform(0.3, 1.5) * thick + share * long + (1 - share) * short


def _widened(points: FloatArray, lost: NDArray[np.bool_], rng: Generator) -> FloatArray:
    """Contrast around what is ``lost``: a network also misses what lies within some mm, more here and less there."""
    wide = rng.exponential(WIDER_MM) * np.exp(0.5 * _waves(points[lost], WAVES_MM[1], rng))
    distance, nearest = cKDTree(points[lost]).query(points)
    return (distance - wide[nearest]) * SLOPE


def _waves(points: FloatArray, wave_mm: float, rng: Generator) -> FloatArray:
    """A smooth random field of mean 0 and variance 1 (random Fourier features, Rahimi and Recht, 2007)."""
    frequency = rng.normal(size=(WAVES, 3)) / wave_mm
    phase = rng.uniform(0, 2 * np.pi, WAVES)
    return np.sqrt(2 / WAVES) * np.cos(points @ frequency.T + phase).sum(1)


def _seen(points: FloatArray, line: Centrelines, contrast: FloatArray) -> NDArray[np.bool_]:
    """Which of ``points`` ``(M, 3)`` mm, all inside, are seen: none where ``contrast`` is below 0, few just above."""
    distance, nearest = line.tree.query(points)
    share = np.clip(0.45 + 2.0 * contrast[nearest], 0, None)
    return np.asarray((contrast[nearest] > 0) & (distance <= share * np.maximum(line.radius[nearest], 0.3)))


def _stray(line: Centrelines, mask: NDArray[np.bool_], grid: Grid, rng: Generator) -> NDArray[np.bool_]:
    """What is none of the tree: a stretch of it, turned a little and moved aside, as a vein runs; or a blob."""
    stray = np.zeros_like(mask)
    centre = line.mm[rng.integers(len(line.mm))]
    aside = rng.normal(size=3)
    aside *= float(np.exp(rng.uniform(*np.log(ASIDE_MM)))) / np.linalg.norm(aside)
    if rng.random() < BLOBS:
        points, radius = (centre + aside)[None], np.exp([rng.uniform(*np.log(BLOB_MM))])
    else:
        stretch = np.flatnonzero(np.linalg.norm(line.mm - centre, axis=1) <= np.exp(rng.uniform(*np.log(HALF_MM))))
        stretch = stretch[line.owner[stretch] == line.owner[stretch[0]]]
        turn = Rotation.from_rotvec(rng.normal(0, rng.uniform(0.1, 1.0), 3))
        points = turn.apply(line.mm[stretch] - centre) + centre + aside
        radius = np.maximum(rng.uniform(0.5, 1.2) * line.radius[stretch], 0.6 * max(grid.spacing))
    there, tube = tube_around(points, radius, grid)
    voxels = voxels_of(tube) + there.start
    if len(voxels) and cKDTree(grid.to_mm(voxels_of(mask))).query(grid.to_mm(voxels))[0].min() >= APART_MM:
        stray[tuple(voxels.T)] = True
    return stray
