"""Signed distance of a binary mask, in mm, negative inside.

SimpleITK's exact linear-time transform (Maurer, Qi and Raghavan, IEEE PAMI 2003) is used because it is 2.5 times faster
than ``scipy.ndimage.distance_transform_edt`` on one thread and gives the same distances.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from near_monai.errors import NearError
from near_monai.geometry.boxes import Box, box_of, crop_box, voxels_of, widen
from near_monai.geometry.coordinates import Grid, sample_axes

#: Where less than this share of a box is inside, single depths are faster than a map of them; vessels fill a hundredth.
SPARSE = 0.02
#: Sides of the parts in which a map is made, in units of its reach: smaller ones follow a vessel, but overlap more.
#: What is least work is taken.
PARTS = (8, 16, np.inf)


def signed_distance(mask: ArrayLike, spacing: ArrayLike, truncate: float = 3.0) -> NDArray[np.float32]:
    """Distance to the mask's surface, which lies midway between the centres of mask and background voxels.

    Centre-to-centre distances are shortened by half the smallest spacing on either side, so that a linear interpolation
    of the result crosses zero midway between two face neighbours: at flat walls, in isotropic grids, and on both sides
    of whatever is one voxel thick along an axis of longer steps. At other walls of anisotropic grids it crosses where
    the nearer ones of the neighbours around put it. The cost follows the mask: parts of the volume with nothing of it
    in reach take no time.

    Args:
        mask: ``(X, Y, Z)``; non-zero is inside. What lies beyond the array is unknown, not background.
        spacing: ``(3,)`` voxel size in mm.
        truncate: largest magnitude in mm, > 0.

    Returns:
        ``(X, Y, Z)`` float32 in mm, within +-``truncate``, negative inside; +``truncate`` everywhere for an empty mask
        and -``truncate`` for a full one.

    Raises:
        NearError: the mask is not three-dimensional, or spacing or truncate is not positive.
    """
    inside = np.asarray(mask) != 0
    step = np.asarray(spacing, np.float64)
    if inside.ndim != 3:
        raise NearError(f"mask: expected 3 dimensions (X, Y, Z), got shape {inside.shape}; drop the channel axis first")
    if step.shape != (3,) or not np.all(step > 0) or not truncate > 0:
        raise NearError(f"spacing must be three numbers > 0 and truncate > 0, got {step.tolist()} and {truncate}")
    out = np.full(inside.shape, truncate, np.float32)
    if not inside.any():
        return out
    reach = truncate + float(step.max())

    def fill(part: _Part) -> None:
        found = _signed(inside[part.around.slices()], step, truncate)
        out[part.filled.slices()] = found[part.filled.within(part.around).slices()]

    plans = [list(_parts(inside, step, reach, side)) for side in PARTS]
    parts = min(plans, key=lambda plan: sum(part.work for part in plan))
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # one thread where processes share the cores
        list(pool.map(fill, parts))  # raises what went wrong
    for axis in np.flatnonzero(step > step.min() * (1 + 1e-6)).tolist():
        _balance_thin(np.moveaxis(inside, axis, 0), np.moveaxis(out, axis, 0))
    return out


def _balance_thin(inside: NDArray[np.bool_], signed: NDArray[np.float32]) -> None:
    """Make both neighbours along the first axis of what is one voxel thick along it as near as it is deep, in place.

    Its depth is that of its shorter sides, and its neighbours would be a long step away.
    """
    thin = (inside[1:-1] != inside[:-2]) & (inside[1:-1] != inside[2:])
    middle = voxels_of(thin)
    middle[:, 0] += 1
    depth = -signed[tuple(middle.T)]
    for step in (-1, 1):
        beside = (middle[:, 0] + step, middle[:, 1], middle[:, 2])
        nearer = np.abs(depth) < np.abs(signed[beside])
        signed[tuple(part[nearer] for part in beside)] = depth[nearer]


@dataclass(frozen=True)
class _Part:
    """The voxels ``filled`` of a part of a map, and those ``around`` that have to be looked at for them."""

    filled: Box
    around: Box

    @property
    def work(self) -> int:
        """Voxels that have to be looked at."""
        return math.prod(self.around.shape)


def _parts(inside: NDArray[np.bool_], step: NDArray[np.float64], reach: float, side: float) -> Iterator[_Part]:
    """Parts of a map, with sides of ``side`` times its ``reach``, that have something of the mask in reach."""
    a, b, c = inside.shape
    length = np.minimum(np.ceil(side * reach / step), inside.shape).astype(int).tolist()
    for low in itertools.product(*(range(0, n, s) for n, s in zip(inside.shape, length, strict=True))):
        x, y, z = (min(start + s, n) for start, s, n in zip(low, length, inside.shape, strict=True))
        part = Box((low[0], low[1], low[2]), (x, y, z))
        near = widen(part, step, reach, (a, b, c))
        label = inside[near.slices()]
        if label.any():
            around = widen(box_of(label).moved(near.start), step, reach, (a, b, c)).overlap(near)
            yield _Part(part.overlap(around), around)


def _signed(inside: NDArray[np.bool_], step: NDArray[np.float64], truncate: float) -> NDArray[np.float32]:
    """:func:`signed_distance` of one part, in which something is inside."""
    if inside.all():
        return np.full(inside.shape, -truncate, np.float32)
    signed = _distance_to(inside, step)
    if np.count_nonzero(inside) < SPARSE * inside.size:
        signed[inside] = -depth_at(inside, Grid.of(inside.shape, step), voxels_of(inside))
    else:
        (a, b, c), box = inside.shape, box_of(inside)
        near = box.grow(1, (a, b, c))  # the nearest background lies in it
        part = inside[near.slices()]
        signed[near.slices()][part] = -_distance_to(~part, step)[part]
    return np.clip(signed, -truncate, truncate, out=signed)


def depth_at(mask: NDArray[np.bool_], grid: Grid, voxels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Minus :func:`signed_distance`, untruncated, at a few voxels of ``mask``, without a map of it.

    The nearest background voxel shares a face with the mask, or a nearer one would; there are few of those.

    Args:
        mask: ``(X, Y, Z)`` on ``grid``, neither empty nor full.
        grid: its grid.
        voxels: ``(N, 3)`` indices of voxels inside.

    Returns:
        ``(N,)`` mm.
    """
    shell = []
    for axis in range(3):
        before, after = (slice(None),) * axis + (slice(-1),), (slice(None),) * axis + (slice(1, None),)
        face = voxels_of(mask[before] != mask[after])
        face[:, axis] += mask[tuple(face.T)]  # of the two voxels the one outside
        shell.append(face)
    distance = cKDTree(grid.to_mm(np.concatenate(shell))).query(grid.to_mm(voxels))[0]
    return np.asarray(distance - min(grid.spacing) / 2)


def resample_mask(mask: NDArray[np.bool_], native: Grid, target: Grid) -> NDArray[np.bool_]:
    """``mask`` on another grid: where the interpolated signed distance is negative. Too coarse a grid may miss it all.

    Args:
        mask: ``(X, Y, Z)`` on ``native``.
        native: its grid.
        target: grid of the result, in the same mm frame.
    """
    reach = 2 * max(native.spacing)
    near = crop_box(mask, native.spacing, reach + max(native.spacing))
    distance = torch.as_tensor(signed_distance(mask[near.slices()], native.spacing, reach))[None, None]
    return np.asarray(sample_axes(distance, target.axes_in(near.grid(native)))[0, 0].numpy() < 0)


def _distance_to(target: NDArray[np.bool_], spacing: NDArray[np.float64]) -> NDArray[np.float32]:
    """Distance in mm of every voxel outside ``target`` to its wall, half a shortest step from the nearest centre in it.

    Below 0 in it.
    """
    image = sitk.GetImageFromArray(np.ascontiguousarray(target).view(np.uint8))
    image.SetSpacing(spacing[::-1].tolist())
    maurer = sitk.SignedMaurerDistanceMapImageFilter()
    maurer.SetNumberOfThreads(1)  # parts are shared among threads
    maurer.SetSquaredDistance(False)
    maurer.SetUseImageSpacing(True)
    found = maurer.Execute(image)  # named: the view lives as long as it does
    return sitk.GetArrayViewFromImage(found) - np.float32(spacing.min() / 2)
