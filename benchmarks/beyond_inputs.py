"""Labels beyond what F was trained on, with their truth: vessels with specks, salt, holes, blocks and lost slices.

An input is known by its kind and its seed. The vessels are generated trees and single bent tubes, in voxels of 0.1 to
1 mm, cut to a given number of voxels per axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from near_monai.datasets.coronary_cases import phantom_pair
from near_monai.geometry.boxes import voxels_of
from near_monai.geometry.components import Components

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]
#: Different trees; the errors upon them differ with every seed.
TREES = 1000
#: mm of a tube, and across it; shorter where the cube is smaller.
LENGTH_MM, ACROSS_MM = (25.0, 80.0), (14.0, 30.0)


@dataclass(eq=False)
class Input:
    """One label, its truth, and how it was made.

    Attributes:
        kind: one of :data:`KINDS`.
        seed: with the kind and the size of the cube it gives the same label again.
        spacing: voxel size in mm.
        noisy: ``(X, Y, Z)`` the label.
        truth: same shape, the vessel.
        parameters: what was drawn.
    """

    kind: str
    seed: int
    spacing: Spacing
    noisy: Mask
    truth: Mask
    parameters: dict[str, Any] = field(default_factory=dict)


Change = Callable[[Input, np.random.Generator], None]


def make(kind: str, seed: int, side: int = 200) -> Input:
    """Input ``seed`` of ``kind``, of at most ``side`` voxels per axis."""
    rng = np.random.default_rng((seed, *kind.encode()))
    tree = kind not in ("rough", "fine") and rng.random() < 0.5
    made = _tree(kind, seed, side, rng) if tree else _tube(kind, seed, side, rng)
    for change in KINDS[kind]:
        change(made, rng)
    if kind == "mixture":
        for name in rng.choice(list(PARTS), int(rng.integers(2, 4)), replace=False):
            PARTS[name](made, rng)
    return made


def _log(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between ``low`` and ``high``, every order of magnitude as likely as another."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _spacing(rng: np.random.Generator, low: float, high: float) -> Spacing:
    """Isotropic voxels, thicker slices along one axis, or three sizes, each as often."""
    a, b, c = (_log(rng, low, high) for _ in range(3))
    sizes = [(a, a, a), (min(a, b), min(a, b), max(a, b)), (a, b, c)][int(rng.integers(3))]
    x, y, z = rng.permutation(sizes).round(3).tolist()
    return x, y, z


def _tree(kind: str, seed: int, side: int, rng: np.random.Generator) -> Input:
    """A generated tree, clean or with the errors that F was trained on, cut around one of its voxels."""
    level = float(rng.choice([0.0, 1 / 3, 2 / 3]))
    spacing = _spacing(rng, max(0.45, 45 / side), 1.0)
    noisy, truth, grid = phantom_pair(0, int(rng.integers(TREES)), level, spacing)
    vessel = voxels_of(noisy & truth)
    start = np.clip(vessel[rng.integers(len(vessel))] - side // 2, 0, np.maximum(np.subtract(grid.shape, side), 0))
    cut = tuple(slice(first, first + side) for first in start.tolist())
    parameters = {"shape": "tree", "level": round(level, 2)}
    return Input(kind, seed, spacing, noisy[cut].copy(), truth[cut].copy(), parameters)


def _tube(kind: str, seed: int, side: int, rng: np.random.Generator) -> Input:
    """A bent tube with a rough wall, with a gap or without; the truth is smooth and has none."""
    spacing = _spacing(rng, *{"rough": (0.25, 1.0), "fine": (0.1, 0.25)}.get(kind, (0.3, 0.8)))
    radius = float(rng.uniform(0.8, 2.5))
    rough = float(rng.uniform(0.05, 0.4) if kind in ("rough", "fine") else rng.uniform(0, 0.15))
    gap = float(rng.uniform(1.5, 3.5)) if rng.random() < 0.5 else 0.0
    extent = [rng.uniform(*LENGTH_MM), rng.uniform(*ACROSS_MM), rng.uniform(*ACROSS_MM)]
    shape = np.clip(np.divide(extent, spacing).astype(int), 20, side)
    i, j, k = (index * step for index, step in zip(np.indices(shape), spacing, strict=True))
    length, wide, high = (shape * spacing).tolist()
    bent = np.hypot(j - wide / 2 - 0.12 * wide * np.sin(i / 4), k - high / 2 - 0.1 * high * np.cos(i / 7))
    between = abs(i - length / 2) < 0.44 * length
    noisy = (bent + rng.normal(0, rough, shape) < radius) & between & (abs(i - length / 2) >= gap / 2)
    turn = rng.permutation(3).tolist()
    a, b, c = (spacing[axis] for axis in turn)
    parameters = {"shape": "tube", "radius_mm": radius, "rough_mm": rough, "gap_mm": gap}
    truth = (bent < radius) & between
    return Input(kind, seed, (a, b, c), noisy.transpose(turn).copy(), truth.transpose(turn).copy(), parameters)


def specks(made: Input, rng: np.random.Generator) -> None:
    """Random voxels of the whole volume are set."""
    made.parameters["specks"] = share = _log(rng, 1e-5, 1e-2)
    made.noisy |= rng.random(made.noisy.shape) < share


def salt(made: Input, rng: np.random.Generator) -> None:
    """Random voxels near the vessel are set."""
    made.parameters["salt"] = share = _log(rng, 1e-3, 5e-2)
    made.parameters["salt_within_mm"] = reach = float(rng.uniform(2, 8))
    near = ndimage.distance_transform_edt(~made.truth, made.spacing) < reach
    made.noisy |= near & (rng.random(near.shape) < share)


def pepper(made: Input, rng: np.random.Generator) -> None:
    """Random voxels of the label are cleared."""
    made.parameters["pepper"] = share = _log(rng, 3e-3, 0.3)
    made.noisy &= rng.random(made.noisy.shape) >= share


def blocks(made: Input, rng: np.random.Generator) -> None:
    """Solid boxes of 2 to 8 mm are set anywhere or near the vessel, or cleared out of it."""
    vessel = voxels_of(made.truth)
    made.parameters["blocks"] = done = []
    for _ in range(int(rng.integers(1, 7))):
        what = str(rng.choice(["set", "set near", "clear"]))
        size = np.maximum(np.divide(rng.uniform(2, 8, 3), made.spacing).round().astype(int), 1)
        centre = rng.integers(made.noisy.shape) if what == "set" else vessel[rng.integers(len(vessel))]
        if what == "set near":
            centre = centre + np.divide(rng.uniform(-8, 8, 3), made.spacing).astype(int)
        start = np.clip(centre - size // 2, 0, np.maximum(np.subtract(made.noisy.shape, size), 0))
        there = tuple(slice(int(a), int(a + n)) for a, n in zip(start, size, strict=True))
        made.noisy[there] = what != "clear"
        done.append(what)


def slices(made: Input, rng: np.random.Generator) -> None:
    """One to six slices of an axis are empty, together or apart, or every n-th is."""
    axis = int(rng.integers(3))
    along = np.flatnonzero(made.truth.any(axis=tuple({0, 1, 2} - {axis})))
    count, how = int(rng.integers(1, 7)), str(rng.choice(["together", "apart", "every n-th"]))
    lost = along[:: int(rng.integers(3, 12))]
    if how != "every n-th":
        first = int(rng.integers(max(len(along) - count, 1)))
        lost = along[first : first + count] if how == "together" else rng.choice(along, min(count, len(along)), False)
    made.noisy[(slice(None),) * axis + (lost,)] = False
    made.parameters |= {"lost_slices": f"{len(lost)} {how}", "axis": axis}


def strays(made: Input, rng: np.random.Generator) -> None:
    """A regular grid of single voxels."""
    step_mm, count = float(rng.uniform(3, 8)), int(rng.integers(2, 5))
    step = np.maximum(np.divide(step_mm, made.spacing).round().astype(int), 2)
    first = rng.integers(np.maximum(np.subtract(made.noisy.shape, step * (count - 1)), 1))
    a, b, c = (slice(int(f), int(f + s * (count - 1) + 1), int(s)) for f, s in zip(first, step, strict=True))
    made.noisy[a, b, c] = True
    made.parameters |= {"strays": count, "strays_mm": step_mm}


PARTS: dict[str, Change] = {
    "specks": specks,
    "salt": salt,
    "pepper": pepper,
    "blocks": blocks,
    "slices": slices,
    "strays": strays,
}
#: What is done to a vessel. Walls of ``rough`` and ``fine`` tubes are rougher; a ``mixture`` draws two or three parts.
KINDS: dict[str, tuple[Change, ...]] = {
    **{name: (change,) for name, change in PARTS.items()},
    "rough": (),
    "fine": (),
    "mixture": (),
}


def far_volume(added: Mask, mask: Mask, spacing: Spacing, reach_mm: float) -> float:
    """Volume in mm^3 of the voxels of ``added`` that are further than ``reach_mm`` from every one of ``mask``."""
    if not added.any():
        return 0.0
    far = ndimage.distance_transform_edt(~mask, spacing) > reach_mm
    return float(np.count_nonzero(added & far) * np.prod(spacing))


def largest(mask: Mask) -> Mask:
    """The largest component of ``mask``."""
    found = Components.of(mask)
    out = np.zeros_like(mask)
    out[tuple(found.parts[int(found.sizes.argmax())].T)] = True
    return out
