"""Label -> z -> occupancy probability, on the label's own grid or on any other.

A case is encoded on an isotropic working grid and decoded at the voxel centres of the target grid; nothing is resampled
back. Both steps visit windows near the label only; elsewhere the code is that of empty space and the probability is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type
from numpy.typing import DTypeLike, NDArray
from torch import nn

from near_monai.boxes import Box, box_of, widen
from near_monai.coords import Grid, sample_axes
from near_monai.distance import signed_distance
from near_monai.encoder import CodeEncoder, LabelEncoder
from near_monai.errors import NearError
from near_monai.field import Code, OccupancyField
from near_monai.network import NearNetwork
from near_monai.space import WorkingSpace
from near_monai.windows import PATCH, TILE, WINDOW, active_blocks, windows, working_grid

#: Voxels of context around a window and a tile when a code is decoded: two coarse cells and then some, two fine cells.
WINDOW_HALO = 12
TILE_HALO = 8


@dataclass(frozen=True)
class CaseCode:
    """z of one case: all that F needs to redraw it.

    Attributes:
        codes: code grids ``(C, d, h, w)`` float16, coarse to fine; away from the label they hold empty space.
        grid: the working grid that they span, in the case's mm frame.
        blocks: active blocks of ``grid``; ``None`` for a global code, which speaks for the whole box.
        reference: the grid of the label file.
    """

    codes: tuple[torch.Tensor, ...]
    grid: Grid
    blocks: NDArray[np.bool_] | None
    reference: Grid


@torch.no_grad()
def encode(mask: NDArray[np.bool_], native: Grid, network: NearNetwork, space: WorkingSpace) -> CaseCode:
    """z of a label.

    Args:
        mask: ``(X, Y, Z)``, or ``(C, X, Y, Z)`` for a network of C structures; at least one voxel set.
        native: the grid of ``mask``.
        network: trained network with an encoder.
        space: the working space it was trained in.
    """
    device = _device(network)
    masks = mask.reshape(-1, *native.shape)
    union = np.asarray(masks.any(0))
    box = box_of(union)
    near = widen(box, native.spacing, space.truncate + max(native.spacing), native.shape)
    near_grid, cut = near.grid(native), near.slices()
    distance = torch.as_tensor(np.stack([signed_distance(m[cut], native.spacing, space.truncate) for m in masks]))[None]
    grid = working_grid(box, native, space.spacing, space.margin)
    blocks = active_blocks(union[cut], near_grid, grid, space.margin)

    def image_of(box: Box) -> torch.Tensor:
        wanted = box.grid(grid)
        around = _voxels_in(wanted, near_grid).grow(2, near_grid.shape)
        part = distance[..., *around.slices()]
        return space.image(sample_axes(part, wanted.axes_in(around.grid(near_grid)))).to(device)

    codes = _near_of(network.source)(image_of, blocks)
    return CaseCode(tuple(part[0].half().cpu() for part in codes), grid, blocks, native)


def _near_of(source: nn.Module) -> Callable[..., Code]:
    """What encodes near a label; TorchScript keeps the layers of an encoder, but not its Python."""
    if isinstance(source, LabelEncoder):
        return source.near
    if hasattr(source, "_codes"):
        return partial(CodeEncoder.near, cast(CodeEncoder, source))
    raise NearError("the weights hold codes of the cases that they were trained on, and no encoder for new ones")


def decode(case: CaseCode, field: OccupancyField, target: Grid) -> NDArray[np.float32]:
    """Occupancy probability of a case at the voxel centres of ``target``, a grid in the case's mm frame.

    Returns:
        float32 ``target.shape``, in [0, 1]; 0 away from the label.
    """
    probability: NDArray[np.float32] = decode_all(case, field, target)[0]
    return probability


@torch.no_grad()
def decode_all(
    case: CaseCode, field: OccupancyField, target: Grid, dtype: DTypeLike = np.float32
) -> NDArray[np.floating]:
    """:func:`decode` for every structure that the field knows: ``(heads, X, Y, Z)`` of ``dtype``."""
    if case.blocks is None:
        return _decode_whole(case, field, target)
    device = _device(field)
    probability = np.zeros((field.heads, *target.shape), dtype)
    factors = [case.grid.shape[0] // code.shape[1] for code in case.codes]

    def code_of(box: Box) -> Code:
        parts = (code[:, *box.slices(f)] for code, f in zip(case.codes, factors, strict=True))
        return [part[None].float().to(device) for part in parts]

    for core in windows(case.blocks, WINDOW):
        window = core.grow(WINDOW_HALO, case.grid.shape)
        base = field.base_features(code_of(window))
        factor = window.shape[0] // base.shape[2]
        for tile in windows(case.blocks, TILE, core):
            wide = tile.grow(TILE_HALO, case.grid.shape)
            features = field.fine_features(base[..., *wide.within(window).slices(factor)], code_of(wide))
            for patch in windows(case.blocks, PATCH, tile):
                there = _voxels_in(patch.grid(case.grid), target)
                if 0 not in there.shape:
                    # only the cells around the patch are interpolated; 4 voxels hold one cell of the coarsest level
                    around = patch.grow(4, case.grid.shape)
                    parts = [f[..., *around.within(wide).slices(wide.shape[0] // f.shape[2])] for f in features]
                    axes = there.grid(target).axes_in(around.grid(case.grid))
                    probability[:, *there.slices()] = field.on_axes(parts, axes)[0].sigmoid().cpu().numpy()
    return probability


def _decode_whole(case: CaseCode, field: OccupancyField, target: Grid) -> NDArray[np.floating]:
    """A global code: every voxel of ``target`` is asked, a few planes at a time so that memory stays flat."""
    device = _device(field)
    features = field.features([code[None].float().to(device) for code in case.codes])
    i, j, k = target.axes_in(case.grid)
    planes = [field.on_axes(features, (part, j, k))[0].sigmoid().cpu().numpy() for part in i.split(4)]
    return np.concatenate(planes, axis=1)


def _device(module: nn.Module) -> torch.device:
    """Where ``module`` computes; the CPU if it has no parameters."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def _voxels_in(patch: Grid, target: Grid) -> Box:
    """Voxels of ``target`` whose centres lie in ``patch`` (lower faces included, so that patches share none)."""
    low = np.ceil(target.to_voxel(patch.to_mm([-0.5] * 3)) - 1e-6)
    high = np.ceil(target.to_voxel(patch.to_mm(np.asarray(patch.shape) - 0.5)) - 1e-6)
    a, b, c = (int(x) for x in np.clip(low, 0, target.shape))
    x, y, z = (int(x) for x in np.clip(high, 0, target.shape))
    return Box((a, b, c), (max(x, a), max(y, b), max(z, c)))


class NearInferer(Inferer):
    """MONAI inferer: a label mask goes in, the probability of the clean label comes out on the same grid.

    Args:
        space: the working space the network was trained in.
    """

    def __init__(self, space: WorkingSpace) -> None:
        super().__init__()
        self.space = space

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Refine ``inputs``.

        Args:
            inputs: ``(B, C, X, Y, Z)`` masks of C structures; voxel sizes come from the affines (a MetaTensor), else
                they are 1 mm.
            network: the network, also as TorchScript.

        Returns:
            ``(B, heads, X, Y, Z)`` float32 probability.

        Raises:
            NearError: the network has no encoder, or is none of ours.
        """
        module = getattr(network, "module", network)
        if not (hasattr(module, "source") and hasattr(module, "field")):
            raise NearError(f"network_def is a {type(network).__name__}; expected a NearNetwork, or TorchScript of one")
        found = [self._refine(mask, native, module) for mask, native in zip(inputs, _grids(inputs), strict=True)]
        return convert_to_dst_type(np.stack(found), inputs, dtype=torch.float32)[0]

    def _refine(self, mask: torch.Tensor, native: Grid, network: NearNetwork) -> NDArray[np.floating]:
        """Probability ``(heads, X, Y, Z)`` of one case."""
        voxels = np.asarray(mask.cpu()) > 0
        if not voxels.any():
            return np.zeros((network.field.heads, *native.shape), np.float32)
        return decode_all(encode(voxels, native, network, self.space), network.field, native)


def _grids(inputs: torch.Tensor) -> list[Grid]:
    """The grid of every item of a batch ``(B, C, X, Y, Z)``; one affine may stand for all."""
    affines = inputs.affine.cpu() if isinstance(inputs, MetaTensor) else torch.eye(4)
    return [Grid.under(affine, inputs.shape[2:]) for affine in affines.expand(len(inputs), 4, 4)]


class TableInferer(Inferer):
    """Full-grid probability of a training case of a :class:`~near_monai.table.CodeTable`, on the case's own grid."""

    def __call__(
        self, inputs: torch.Tensor, network: Any, shape: torch.Tensor, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Decode one case.

        Args:
            inputs: case index ``(1,)``.
            network: network with a table.
            shape: ``(1, 3)`` voxels of the case's grid.

        Returns:
            ``(1, 1, D, H, W)`` float32 probability.
        """
        grid = Grid.of(shape[0], (1.0, 1.0, 1.0))
        module = getattr(network, "module", network)
        probability = decode(table_code(module, int(inputs[0]), grid), module.field, grid)
        return torch.as_tensor(probability)[None, None].to(inputs.device)


@torch.no_grad()
def table_code(network: NearNetwork, number: int, grid: Grid) -> CaseCode:
    """z of training case ``number``, which spans ``grid``."""
    device = _device(network)
    parts = network.source(torch.tensor([number], device=device))
    return CaseCode(tuple(part[0].half().cpu() for part in parts), grid, None, grid)
