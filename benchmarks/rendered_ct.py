"""CT-like volumes of generated hearts: contrast, blur and noise of a CT angiography, no artefacts; synthetic."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from near_monai.anatomy import CORONARY, HEART
from near_monai.geometry.boxes import crop_box
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.distance import signed_distance
from near_monai.phantoms.heart import structure_fields, whole_heart

#: HU of fat, lung, the wall of an artery and heart muscle.
FAT, LUNG, WALL, MUSCLE = -90.0, -820.0, 40.0, 110.0
#: Contrast in blood as a share of that in the aorta; what is not named here has all of it.
SHARES = {"right_ventricle": 0.5, "right_atrium": 0.5, "pulmonary_artery": 0.6}
#: mm of wall around the lumen, of fat around the heart, of blur (standard deviation), and around the arteries in all.
WALL_MM, FAT_MM, BLUR_MM, MARGIN_MM = 0.7, 8.0, 0.35, 6.0
#: Correlation of the noise in voxels (standard deviation).
GRAIN_VOXELS = 0.6


def rendered_ct(
    rng: Generator, spacing: tuple[float, float, float]
) -> tuple[NDArray[np.int16], NDArray[np.bool_], Grid]:
    """A random heart as a CT angiography would show it, cut to the box around its coronary arteries.

    Args:
        rng: source of all randomness.
        spacing: voxel size in mm.

    Returns:
        HU ``(X, Y, Z)``, the true lumen of the coronary arteries, and the grid of both.
    """
    heart = whole_heart(rng)
    grid = heart.grid(spacing, MARGIN_MM)
    box = crop_box(heart.signed_distance(grid, 1.0, CORONARY) < 0, spacing, MARGIN_MM)
    grid = box.grid(grid)
    fields = structure_fields(heart, grid, 3.0)
    blood = rng.normal(380, 40)
    volume = _surroundings(fields, grid)
    lumen = fields.pop(CORONARY)
    for index in reversed(HEART.priority(fields)):
        name = HEART.name(index)
        _paint(volume, fields[index], MUSCLE if name == "myocardium" else blood * SHARES.get(name, 1.0), spacing)
    _paint(volume, lumen - np.float32(WALL_MM), WALL, spacing)
    _paint(volume, lumen, blood * rng.uniform(0.85, 1.0), spacing)
    blurred = ndimage.gaussian_filter(volume, [BLUR_MM / step for step in spacing])
    return np.asarray(blurred + _noise(rng, grid), np.int16), lumen < 0, grid


def _surroundings(fields: dict[int, NDArray[np.float32]], grid: Grid) -> NDArray[np.float32]:
    """Fat around all structures, and lung beyond."""
    inside = np.logical_or.reduce([field < 0 for field in fields.values()])
    return np.where(signed_distance(inside, grid.spacing, FAT_MM + 1) < FAT_MM, np.float32(FAT), np.float32(LUNG))


def _paint(
    volume: NDArray[np.float32], field: NDArray[np.float32], value: float, spacing: tuple[float, float, float]
) -> None:
    """Put ``value`` where ``field`` is negative; voxels on the wall get their share."""
    share = np.clip(0.5 - field / np.float32(np.mean(spacing)), 0, 1)
    volume += share * (np.float32(value) - volume)


def _noise(rng: Generator, grid: Grid) -> NDArray[np.float32]:
    grain = ndimage.gaussian_filter(rng.normal(size=grid.shape).astype(np.float32), GRAIN_VOXELS)
    return grain * np.float32(rng.uniform(25, 45) / grain.std())
