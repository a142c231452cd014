"""Classical filters of a label, the rows of the benchmark that need no training, and how a setting is chosen.

Every method takes a mask ``(X, Y, Z)`` with a few mm of background around it and its grid, and gives a new mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from near_monai.geometry.coordinates import Grid
from near_monai.geometry.specks import drop_specks

Mask = NDArray[np.bool_]
Method = Callable[[Mask, Grid], Mask]

#: Components of fewer voxels go after a smoothing filter; it leaves many.
SPECK_VOXELS = 50
#: Curvature flow: a step that is stable down to 0.3 mm voxels, and a time that smooths as a Gaussian of 0.42 mm does.
FLOW_STEP_MM2, FLOW_STEPS = 0.015, 6

NOISY = "noisy"
LEAVE_ONE_OUT, ORACLE = "Gaussian (leave one out)", "Gaussian (oracle)"


def without_specks(mask: Mask, grid: Grid) -> Mask:
    """``mask`` without components of fewer than :data:`SPECK_VOXELS` voxels; the largest stays."""
    return drop_specks(mask, grid.spacing, SPECK_VOXELS * grid.voxel_volume, far_mm=0.0)


def gaussian(sigma_mm: float, threshold: float) -> Method:
    """Gaussian smoothing, a threshold, no specks."""

    def apply(mask: Mask, grid: Grid) -> Mask:
        smooth = ndimage.gaussian_filter(mask.astype(np.float32), [sigma_mm / s for s in grid.spacing])
        return without_specks(smooth > threshold, grid)

    return apply


def closing(voxels: int) -> Method:
    """Closing by a cube that reaches ``voxels`` in every direction."""
    return lambda mask, grid: ndimage.binary_closing(mask, np.ones((2 * voxels + 1,) * 3))


def median(mask: Mask, grid: Grid) -> Mask:
    """Median of the 27 voxels around each: for a mask, the majority."""
    return np.asarray(ndimage.uniform_filter(mask.astype(np.float32), 3) > 0.5)


def level_set(mask: Mask, grid: Grid) -> Mask:
    """The smoothest wall within one voxel of the label's (Whitaker, 2000; SimpleITK's AntiAliasBinary), no specks.

    The filter is positive inside and never changes the sign of a voxel: on the label's own grid only those change that
    the wall passes exactly, and these count as inside. (Counting them as outside deletes thin vessels.)
    """
    anti_alias = sitk.AntiAliasBinaryImageFilter()
    anti_alias.SetNumberOfThreads(1)
    anti_alias.SetMaximumRMSError(0.01)
    anti_alias.SetNumberOfIterations(50)
    return without_specks(_run(anti_alias, mask.astype(np.uint8), grid) >= 0, grid)


def curvature_flow(mask: Mask, grid: Grid) -> Mask:
    """Wall moved by its mean curvature for a short while (SimpleITK's CurvatureFlow), no specks."""
    flow = sitk.CurvatureFlowImageFilter()
    flow.SetNumberOfThreads(1)
    flow.SetTimeStep(FLOW_STEP_MM2)
    flow.SetNumberOfIterations(FLOW_STEPS)
    return without_specks(_run(flow, mask.astype(np.float32), grid) > 0.5, grid)


def _run(image_filter: Any, array: NDArray[np.generic], grid: Grid) -> NDArray[np.float32]:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing[::-1])
    return np.asarray(sitk.GetArrayFromImage(image_filter.Execute(image)))


METHODS: dict[str, Method] = {
    NOISY: lambda mask, grid: mask,
    "keep 2": lambda mask, grid: drop_specks(mask, grid.spacing, 0.0, keep=2),
    "median 3": median,
    "closing 1": closing(1),
    "closing 2": closing(2),
    "level set": level_set,
    "curvature flow": curvature_flow,
}

GAUSSIANS: dict[str, Method] = {
    f"{sigma} mm > {threshold}": gaussian(sigma, threshold)
    for sigma in (0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
    for threshold in (0.4, 0.5)
}
#: Taken where there is no other case to choose on.
USUAL = "0.6 mm > 0.4"


def best_setting(dice: Iterable[Mapping[str, float]]) -> str:
    """The setting with the best mean over cases; ``dice`` has one mapping per case, from setting to Dice."""
    cases = list(dice)
    return max(cases[0], key=lambda setting: sum(case[setting] for case in cases)) if cases else USUAL


def leave_one_out(dice: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Per case the setting that is best on all *other* cases: what one would take without knowing the truth."""
    return {name: best_setting(dice[other] for other in dice if other != name) for name in dice}
