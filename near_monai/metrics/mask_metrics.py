"""How well a mask agrees with the truth: raw quantities once per pair, metrics as short functions of them.

:class:`MeasuredMask` holds what follows from one mask (components, skeleton, Betti numbers), :class:`Pair` what follows
from two (surface distances). Both work on the joint bounding box, compute each quantity when it is first asked for and
keep it. :data:`METRICS` names the metrics; :func:`score` evaluates all of them.

Degenerate input: where both masks are empty there is nothing to compare, and everything but the counts (``betti0``,
``betti0_error``, ``loops_added``: 0) is NaN. Where one is empty the overlaps (Dice, clDice, surface Dice) are 0 and the
distances (``hd95_mm``, ``assd_mm``) NaN; ``length_detected`` and ``volume_ratio`` are 0 for an empty prediction and NaN
for an empty truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import NamedTuple, SupportsFloat

import numpy as np
from monai.metrics.utils import get_mask_edges, get_surface_distance
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.measure import euler_number

from near_monai.errors import NearError
from near_monai.geometry.boxes import box_of, voxels_of
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import spacing_of, tilt
from near_monai.geometry.skeleton import skeleton

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.floating]

#: Voxels of background around the joint bounding box: one closes it for components, one more for the skeleton.
MARGIN = 2
#: Degrees: up to here axes count as at right angles.
RIGHT_ANGLE = 0.01
#: mm added to a tolerance: affines are often stored as float32, and 0.5 mm must not fail for a spacing of 0.50000001.
ROUNDING_MM = 1e-4


class Betti(NamedTuple):
    """Betti numbers of a mask with 26-connected foreground and 6-connected background."""

    components: int
    loops: int
    cavities: int


class MeasuredMask:
    """One mask ``(X, Y, Z)`` whose border voxels are background, and what follows from it."""

    def __init__(self, mask: BoolArray) -> None:
        self.mask = mask

    @cached_property
    def volume(self) -> int:
        """Number of voxels."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def components(self) -> Components:
        """26-connected components."""
        return Components.of(self.mask)

    @cached_property
    def betti(self) -> Betti:
        """Betti numbers; loops follow from the Euler characteristic, components - loops + cavities."""
        b0 = len(self.components)
        b2 = int(ndimage.label(~self.mask)[1]) - 1
        return Betti(b0, b0 + b2 - int(euler_number(self.mask, connectivity=3)), b2)

    @cached_property
    def skeleton(self) -> BoolArray:
        """Centreline voxels, see :func:`near_monai.geometry.skeleton.skeleton`."""
        return skeleton(self.components)


class Pair:
    """A prediction and the truth on one grid, cut to their joint bounding box.

    Args:
        pred: ``(X, Y, Z)``; non-zero is inside.
        truth: same shape.
        spacing: ``(3,)`` voxel size in mm, or ``(3, 3)`` the voxel axes in mm, the columns of a world affine: they need
            not be at right angles.

    Raises:
        NearError: the shapes differ or are not three-dimensional, or a spacing is not > 0.
    """

    def __init__(self, pred: ArrayLike, truth: ArrayLike, spacing: ArrayLike) -> None:
        p, t = np.asarray(pred) != 0, np.asarray(truth) != 0
        if p.ndim != 3 or p.shape != t.shape:
            raise NearError(f"prediction {p.shape} and truth {t.shape}: expected two masks of one shape (X, Y, Z)")
        steps = np.asarray(spacing, np.float64)
        self.axes = np.diag(steps) if steps.shape == (3,) else steps
        if self.axes.shape != (3, 3) or not (np.linalg.det(self.axes) if steps.ndim == 2 else np.all(steps > 0)):
            raise NearError(f"spacing must be three numbers > 0 (mm), got {spacing!r}")
        either = p | t
        box = box_of(either).slices() if either.any() else (slice(0, 1),) * 3
        self.pred, self.truth = (MeasuredMask(np.pad(mask[box], MARGIN)) for mask in (p, t))

    @cached_property
    def distances(self) -> tuple[FloatArray, FloatArray]:
        """Distance in mm of each surface voxel of the prediction to the truth's surface, and the other way round.

        Surface voxels are mask voxels with a background voxel across a face; distances run between voxel centres. To
        an empty mask they are infinite.
        """
        pred, truth = get_mask_edges(self.pred.mask, self.truth.mask, crop=False)
        return self._directed(pred, truth), self._directed(truth, pred)

    def _directed(self, source: BoolArray, target: BoolArray) -> FloatArray:
        if not (source.any() and target.any()):
            return np.full(np.count_nonzero(source), np.inf)
        if tilt(self.axes) <= RIGHT_ANGLE:
            return np.asarray(get_surface_distance(source, target, spacing=spacing_of(self.axes)))
        here, there = (voxels_of(surface) @ self.axes.T for surface in (source, target))
        return np.asarray(cKDTree(there).query(here)[0])


def _ratio(part: SupportsFloat, whole: SupportsFloat) -> float:
    """``part`` over ``whole``; NaN over nothing."""
    return float(part) / float(whole) if whole else math.nan


def dice(pair: Pair) -> float:
    """Dice coefficient, 0..1."""
    common = np.count_nonzero(pair.pred.mask & pair.truth.mask)
    return _ratio(2 * common, pair.pred.volume + pair.truth.volume)


def coverage(shape: MeasuredMask, mask: BoolArray) -> float:
    """Share of the skeleton of ``shape`` that lies inside ``mask``, 0..1; NaN without a skeleton."""
    return _ratio(np.count_nonzero(shape.skeleton & mask), np.count_nonzero(shape.skeleton))


def length_detected(pair: Pair) -> float:
    """Share of the true centreline inside the prediction, 0..1 (the topology sensitivity of clDice)."""
    return coverage(pair.truth, pair.pred.mask)


def cldice(pair: Pair) -> float:
    """Centreline Dice, 0..1: harmonic mean of topology precision and sensitivity (Shit et al., CVPR 2021)."""
    if not (pair.pred.volume and pair.truth.volume):
        return 0.0 if pair.pred.volume or pair.truth.volume else math.nan
    precision, sensitivity = coverage(pair.pred, pair.truth.mask), length_detected(pair)
    return 2 * precision * sensitivity / (precision + sensitivity) if precision and sensitivity else 0.0


def surface_dice(pair: Pair, tolerance: float) -> float:
    """Share of both surfaces within ``tolerance`` mm of the other, 0..1, counted in surface voxels.

    As MONAI's ``compute_surface_dice``. Nikolov et al. (2018) weight by area, as MONAI does with ``use_subvoxels``.
    """
    both = np.concatenate(pair.distances)
    return _ratio(np.count_nonzero(both <= tolerance + ROUNDING_MM), len(both))


def hd95(pair: Pair) -> float:
    """95th percentile of the surface distances in mm, the worse of the two directions, as MONAI's has it."""
    if not (pair.pred.volume and pair.truth.volume):
        return math.nan
    return max(float(np.percentile(d, 95)) for d in pair.distances)


def assd(pair: Pair) -> float:
    """Average symmetric surface distance in mm: mean over the surface voxels of both."""
    if not (pair.pred.volume and pair.truth.volume):
        return math.nan
    return float(np.concatenate(pair.distances).mean())


def betti0(pair: Pair) -> float:
    """Number of 26-connected components of the prediction."""
    return float(len(pair.pred.components))


def betti0_error(pair: Pair) -> float:
    """Absolute difference in the number of 26-connected components."""
    return float(abs(len(pair.pred.components) - len(pair.truth.components)))


def loops_added(pair: Pair) -> float:
    """Loops (Betti-1) of the prediction beyond those of the truth, whose staircase has a few itself."""
    return float(max(0, pair.pred.betti.loops - pair.truth.betti.loops))


def volume_ratio(pair: Pair) -> float:
    """Volume of the prediction over that of the truth."""
    return _ratio(pair.pred.volume, pair.truth.volume)


#: Every metric under the name that it has in tables and files.
METRICS: dict[str, Callable[[Pair], float]] = {
    "dice": dice,
    "cldice": cldice,
    "surface_dice_0.5mm": partial(surface_dice, tolerance=0.5),
    "surface_dice_1mm": partial(surface_dice, tolerance=1.0),
    "hd95_mm": hd95,
    "assd_mm": assd,
    "betti0": betti0,
    "betti0_error": betti0_error,
    "loops_added": loops_added,
    "length_detected": length_detected,
    "volume_ratio": volume_ratio,
}

#: The value of a perfect prediction; ``betti0`` depends on the case and has none.
IDEAL: dict[str, float] = {
    "dice": 1.0,
    "cldice": 1.0,
    "surface_dice_0.5mm": 1.0,
    "surface_dice_1mm": 1.0,
    "hd95_mm": 0.0,
    "assd_mm": 0.0,
    "betti0_error": 0.0,
    "loops_added": 0.0,
    "length_detected": 1.0,
    "volume_ratio": 1.0,
}


def score(pred: ArrayLike, truth: ArrayLike, spacing: ArrayLike) -> dict[str, float]:
    """All :data:`METRICS` of a prediction.

    Args:
        pred: ``(X, Y, Z)``; non-zero is inside.
        truth: same shape.
        spacing: ``(3,)`` voxel size in mm, or ``(3, 3)`` the voxel axes in mm.

    Returns:
        Name to value: distances in mm, shares from 0 to 1, counts. What is not defined is NaN.

    Raises:
        NearError: see :class:`Pair`.

    Example:
        >>> import numpy as np
        >>> import near_monai
        >>> truth = np.zeros((12, 12, 12), bool)
        >>> truth[4:8, 4:8, 2:10] = True
        >>> found = near_monai.score(np.roll(truth, 1, axis=0), truth, spacing=(0.5, 0.5, 0.5))
        >>> found["dice"], found["hd95_mm"]
        (0.75, 0.5)
    """
    pair = Pair(pred, truth, spacing)
    return {name: metric(pair) for name, metric in METRICS.items()}
