"""What shape alone says of a label: figures of one structure, from its label and its own refined result.

Lengths are in mm in the scale of the structure. A figure that is a share or a count is given as a logarithm, because
what matters is by how much it is larger than usual. Where nothing is left to compare, a figure has its worst value.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from near_monai.audit.seen_label import Seen
from near_monai.geometry.boxes import voxels_of
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import FloatArray
from near_monai.metrics.mask_metrics import cldice, surface_dice
from near_monai.repair.mask_repair import wall_area

#: F says nothing of a voxel below this probability.
UNLIKELY = 0.01
#: Added to shares before their logarithm is taken: less is as good as nothing.
LEAST = 1e-3
#: mm of centreline over which a calibre is averaged, and over which it is compared.
NEAR_MM, FAR_MM = 3.0, 10.0
#: Components up to so many voxels are specks.
SPECK_VOXELS = 3


def shape_figures(seen: Seen) -> dict[str, float]:
    """All figures of a label that is not empty, by name, finite."""
    return _agreement(seen) | _surface(seen) | _pieces(seen) | _calibre(seen)


def _log(share: float) -> float:
    return math.log(max(share, 0.0) + LEAST)


def _dice_loss(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    total = float(one.sum(dtype=np.float64)) + float(other.sum(dtype=np.float64))
    return 1 - 2 * float((one * other).sum(dtype=np.float64)) / total if total else 1.0


def _agreement(seen: Seen) -> dict[str, float]:
    """How far F and the repair agree with the label, voxel by voxel."""
    near = np.flatnonzero(seen.label | seen.repaired | (seen.probability > UNLIKELY))
    label, mask = (array.ravel()[near].astype(np.float32) for array in (seen.label, seen.repaired))
    p = np.clip(seen.probability.ravel()[near], 1e-4, 1 - 1e-4)
    hard = (p > 0.5).astype(np.float32)
    volume, vox = float(label.sum()), seen.grid.voxel_volume
    area = wall_area(seen.label, seen.grid)
    radius = 2 * volume * vox / area
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    added, removed = float((hard * (1 - label)).sum()) / volume, float((label * (1 - hard)).sum()) / volume
    return {
        "noise": math.log(seen.noise_mm + 0.003),
        "doubt": math.log(float(np.abs(p - label).sum()) * vox / area + 0.01),
        "entropy": math.log(float(entropy.sum()) * vox / area + 0.01),
        "soft": _log(_dice_loss(label, p)),
        "hard": _log(_dice_loss(label, hard)),
        "repaired": _log(_dice_loss(label, mask)),
        "added": _log(added),
        "removed": _log(removed),
        "grown": float(np.log((float(p.sum()) + 1) / (volume + 1))),
        "aside": _log(sum(seen.aside) / (volume * vox)),
        "radius": math.log(radius),
        "voxels": math.log(radius / vox ** (1 / 3)),
        "beyond": float(bool(seen.beyond)),
        "cldice": _log(1 - cldice(seen.pair)),
    }


def _surface(seen: Seen) -> dict[str, float]:
    """How rough the wall is, and what is regular about it."""
    pair = seen.pair
    distance = np.concatenate(pair.distances) if pair.truth.volume else np.array([np.inf])
    wall = wall_area(seen.label, seen.grid)
    smooth = wall_area(seen.probability > 0.5, seen.grid) if (seen.probability > 0.5).any() else wall
    length = wall**2 / (4 * math.pi * pair.pred.volume * seen.grid.voxel_volume)
    return {
        "half_mm": _log(1 - surface_dice(pair, 0.5)) if pair.truth.volume else 0.0,
        "one_mm": _log(1 - surface_dice(pair, 1.0)) if pair.truth.volume else 0.0,
        "far": math.log(min(float(np.mean(np.minimum(distance, 20.0))), 20.0) + 0.01),
        "rough": math.log(wall / smooth),
        "equal": max(_equal_slices(pair.pred.mask, axis) for axis in range(3)),
        "length": math.log(length + 1),
    }


def _equal_slices(mask: NDArray[np.bool_], axis: int) -> float:
    """Share of the label that lies in slices equal to the one before: nearest-neighbour resampling leaves them."""
    slices = np.moveaxis(mask, axis, 0)
    size = slices.sum((1, 2), dtype=np.int64)
    changed = (slices[1:] != slices[:-1]).any((1, 2))
    return float(size[1:][~changed].sum() / size.sum())


def _pieces(seen: Seen) -> dict[str, float]:
    """Pieces and what the repair does with them."""
    before, after = seen.pair.pred.components, seen.pair.truth.components
    sizes = np.concatenate([before.sizes * seen.grid.voxel_volume, np.asarray(seen.aside, float)])
    excess = max(len(sizes) - len(after), 0)
    return {
        "pieces": math.log(len(sizes)),
        "excess": math.log1p(excess),
        "specks": math.log1p(int((before.sizes <= SPECK_VOXELS).sum()) + len(seen.aside)),
        "left": math.log(max(len(after), 1)),
        "small": _log(float(np.sort(sizes)[::-1][2:].sum() / sizes.sum())),
        "bridges": math.log1p(seen.bridges),
        "proposed": math.log1p(sum(seen.proposals)),
        "dropped": _log(_dropped(before, seen)),
    }


def _dropped(before: Components, seen: Seen) -> float:
    """Share of the label in pieces of which the repair leaves nothing."""
    gone = before.sums(seen.pair.truth.mask) == 0
    lost = float(before.sizes[gone].sum()) * seen.grid.voxel_volume + sum(seen.aside)
    return lost / (float(before.sizes.sum()) * seen.grid.voxel_volume + sum(seen.aside))


def _calibre(seen: Seen) -> dict[str, float]:
    """How the calibre changes along the vessel, in the label alone and against F, and how its ends look."""
    line = seen.line
    near, far = line.near, line.far
    blunt = float(np.exp(near[line.end]).mean() / np.exp(near).mean()) if line.end.any() else 1.0
    ratio = _volume_ratio(seen)
    return {
        "ripple": math.log(float(np.std(near - far)) + 0.01),
        "jumps": math.log(float(np.std(line.radius - near)) + 0.01),
        "waves": math.log(float(np.std(ratio)) + 0.01),
        "shrink": float(np.mean(np.minimum(ratio, 0))),
        "ends": math.log1p(float(line.end.sum())),
        "blunt": math.log(max(blunt, 0.05)),
    }


def _volume_ratio(seen: Seen) -> FloatArray:
    """Per point of the label's centreline: logarithm of F's volume over that of the label nearby."""
    line = seen.line
    voxels = voxels_of(seen.label | (seen.probability > UNLIKELY))
    here = tuple(voxels.T)
    owner = cKDTree(line.mm).query(seen.grid.to_mm(voxels))[1]
    arrays = (seen.label, seen.probability)
    label, p = (np.bincount(owner, array[here], len(line.mm)).astype(np.float64) for array in arrays)
    near = [line.mean(values, NEAR_MM) for values in (label, p)]
    return np.asarray(np.log((near[1] + 0.5) / (near[0] + 0.5)))
