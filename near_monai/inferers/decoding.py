"""From z to a probability, at the voxel centres of any grid; nothing is resampled.

Windows near the label are visited only; elsewhere the probability is 0.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from near_monai.geometry.boxes import Box, centres_in
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.windows import PATCH, TILE, WINDOW, Tile, Tiling, part_of
from near_monai.inferers.case_code import CaseCode, device_of
from near_monai.inferers.shared_cores import shared_cores
from near_monai.networks.field import Code, OccupancyField

#: How the working grid is visited: two coarse cells of context and then some, two fine cells, one coarse cell.
WINDOWS, TILES, PATCHES = Tiling(WINDOW, halo=12), Tiling(TILE, halo=8), Tiling(PATCH, halo=4)


def decode(case: CaseCode, field: OccupancyField, target: Grid) -> NDArray[np.float32]:
    """Occupancy probability of a case at the voxel centres of ``target``, a grid in the case's mm frame.

    Returns:
        float32 ``target.shape``, in [0, 1]; 0 away from the label.
    """
    probability: NDArray[np.float32] = decode_all(case, field, target)[0]
    return probability


def decode_all(
    case: CaseCode, field: OccupancyField, target: Grid, dtype: DTypeLike = np.float32
) -> NDArray[np.floating]:
    """:func:`decode` for every structure that the field knows: ``(heads, X, Y, Z)`` of ``dtype``."""
    asked = target if case.frame is None else case.frame.turned(target)
    probability = _decode(case, field, asked, dtype)
    return probability if case.frame is None else case.frame.pose.undo(probability)


@torch.no_grad()
def _decode(case: CaseCode, field: OccupancyField, target: Grid, dtype: DTypeLike) -> NDArray[np.floating]:
    """:func:`decode_all`, with ``target`` in the mm frame of the codes."""
    if case.blocks is None:
        return _decode_whole(case, field, target)
    probability = np.zeros((field.heads, *target.shape), dtype)
    with shared_cores() as pool:
        for window in WINDOWS.over(case.blocks):
            base = field.base_features(_code_of(case, window.wide, device_of(field)))
            fill = partial(_decode_tile, case, field, target, base, window, probability)
            list(pool.map(fill, TILES.over(case.blocks, window.core)))  # raises what went wrong
    return probability


def _decode_tile(
    case: CaseCode,
    field: OccupancyField,
    target: Grid,
    base: torch.Tensor,
    window: Tile,
    probability: NDArray[np.floating],
    tile: Tile,
) -> None:
    """Fill ``probability`` in ``tile``, given level 0 of the features in the ``window`` that it lies in."""
    code = _code_of(case, tile.wide, base.device)
    features = field.fine_features(part_of(base, tile.wide, window.wide), code)
    for patch in PATCHES.over(case.blocks, tile.core) if case.blocks is not None else ():
        there = centres_in(patch.core.grid(case.grid), target)
        if 0 not in there.shape:
            parts = [part_of(feature, patch.wide, tile.wide) for feature in features]  # only these are interpolated
            axes = there.grid(target).axes_in(patch.wide.grid(case.grid))
            probability[:, *there.slices()] = field.on_axes(parts, axes)[0].sigmoid().cpu().numpy()


def _code_of(case: CaseCode, box: Box, device: torch.device) -> Code:
    """The codes of a box of the working grid."""
    return [part_of(code, box, Box((0, 0, 0), case.grid.shape))[None].float().to(device) for code in case.codes]


def _decode_whole(case: CaseCode, field: OccupancyField, target: Grid) -> NDArray[np.floating]:
    """A global code: every voxel of ``target`` is asked, a few planes at a time so that memory stays flat."""
    device = device_of(field)
    features = field.features([code[None].float().to(device) for code in case.codes])
    i, j, k = target.axes_in(case.grid)
    planes = [field.on_axes(features, (part, j, k))[0].sigmoid().cpu().numpy() for part in i.split(4)]
    return np.concatenate(planes, axis=1)
