"""Label -> z -> occupancy probability, on the label's own grid or on any other.

A label is encoded on an isotropic working grid and decoded at the voxel centres of the target grid; nothing is
resampled back. Both steps visit windows near the label only; elsewhere the code is that of empty space and the
probability is 0. :func:`occupancy` does both region by region, and is what every door to F goes through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type
from numpy.typing import DTypeLike, NDArray
from torch import nn

from near_monai.errors import NearError
from near_monai.geometry.boxes import Box, box_of, widen
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid, sample_axes
from near_monai.geometry.distance import signed_distance
from near_monai.geometry.region_frames import Frame, poses_of, rounded
from near_monai.geometry.windows import PATCH, TILE, WINDOW, active_blocks, windows, working_grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.inferers.evidence import Evidence, averaged, cut_with_edges, regions_of, with_rim
from near_monai.inferers.shared_cores import shared_cores
from near_monai.networks.encoder import CodeEncoder, LabelEncoder
from near_monai.networks.field import Code, OccupancyField
from near_monai.networks.network import NearNetwork

#: Voxels of context around a window and a tile when a code is decoded: two coarse cells and then some, two fine cells.
WINDOW_HALO = 12
TILE_HALO = 8


@dataclass(frozen=True)
class CaseCode:
    """z of one region of a case (most cases are one): all that F needs to redraw it.

    Attributes:
        codes: code grids ``(C, d, h, w)`` float16, coarse to fine; away from the label they hold empty space.
        grid: the working grid that they span, in the region's mm frame.
        blocks: active blocks of ``grid``; ``None`` for a global code, which speaks for the whole box.
        reference: the grid of the label file, in the case's mm frame.
        frame: how the region lies in the case; ``None`` where both have the same mm frame.
    """

    codes: tuple[torch.Tensor, ...]
    grid: Grid
    blocks: NDArray[np.bool_] | None
    reference: Grid
    frame: Frame | None = None


def encode(mask: NDArray[np.bool_], native: Grid, network: NearNetwork, space: WorkingSpace) -> CaseCode:
    """z of a label, in the mm frame of ``native``.

    Args:
        mask: ``(X, Y, Z)``, or ``(C, X, Y, Z)`` for a network of C structures; at least one voxel set.
        native: the grid of ``mask``. What lies beyond it is not background: the outermost distances go on.
        network: trained network with an encoder.
        space: the working space it was trained in.
    """
    masks = mask.reshape(-1, *native.shape)
    union = np.asarray(masks.any(0))
    box = box_of(union)
    near = widen(box, native.spacing, space.truncate + max(native.spacing), native.shape)
    distance = distances(masks[:, *near.slices()], native.spacing, space.truncate)
    return encode_distances(distance, union, box, near.grid(native), native, network, space)


def distances(masks: NDArray[np.bool_], spacing: tuple[float, float, float], truncate: float) -> torch.Tensor:
    """Signed distances ``(C, X, Y, Z)`` of ``masks``, see :func:`near_monai.geometry.distance.signed_distance`."""
    return torch.as_tensor(np.stack([signed_distance(mask, spacing, truncate) for mask in masks]))


@torch.no_grad()
def encode_distances(
    distance: torch.Tensor,
    mask: NDArray[np.bool_],
    box: Box,
    near: Grid,
    native: Grid,
    network: NearNetwork,
    space: WorkingSpace,
) -> CaseCode:
    """:func:`encode`, given the distances ``(C, X, Y, Z)`` on ``near``, and ``mask`` in ``box``, on ``native``."""
    device = _device(network)
    near_of = _near_of(network.source)
    grid = working_grid(box, native, space.spacing, space.margin)
    blocks = active_blocks(mask, native, grid, space.margin)

    def image_of(box: Box) -> torch.Tensor:
        wanted = box.grid(grid)
        around = _voxels_in(wanted, near).grow(2, near.shape)
        part = distance[None, :, *around.slices()]
        return space.image(sample_axes(part, wanted.axes_in(around.grid(near)))).to(device)

    with shared_cores() as pool:
        codes = near_of(image_of, blocks, pool.map)
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
        for core in windows(case.blocks, WINDOW):
            window = core.grow(WINDOW_HALO, case.grid.shape)
            base = field.base_features(_code_of(case, window, _device(field)))
            tile = partial(_decode_tile, case, field, target, base, window, probability)
            list(pool.map(tile, windows(case.blocks, TILE, core)))  # raises what went wrong
    return probability


def _decode_tile(
    case: CaseCode,
    field: OccupancyField,
    target: Grid,
    base: torch.Tensor,
    window: Box,
    probability: NDArray[np.floating],
    tile: Box,
) -> None:
    """Fill ``probability`` in ``tile``, given level 0 of the features in the ``window`` that it lies in."""
    wide = tile.grow(TILE_HALO, case.grid.shape)
    factor = window.shape[0] // base.shape[2]
    code = _code_of(case, wide, base.device)
    features = field.fine_features(base[..., *wide.within(window).slices(factor)], code)
    for patch in windows(case.blocks, PATCH, tile) if case.blocks is not None else ():
        there = _voxels_in(patch.grid(case.grid), target)
        if 0 not in there.shape:
            # only the cells around the patch are interpolated; 4 voxels hold one cell of the coarsest level
            around = patch.grow(4, case.grid.shape)
            parts = [f[..., *around.within(wide).slices(wide.shape[0] // f.shape[2])] for f in features]
            axes = there.grid(target).axes_in(around.grid(case.grid))
            probability[:, *there.slices()] = field.on_axes(parts, axes)[0].sigmoid().cpu().numpy()


def _code_of(case: CaseCode, box: Box, device: torch.device) -> Code:
    """The codes of a box of the working grid."""
    parts = (code[:, *box.slices(case.grid.shape[0] // code.shape[1])] for code in case.codes)
    return [part[None].float().to(device) for part in parts]


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


@dataclass(frozen=True, eq=False)
class Occupancy:
    """What F says of a label.

    Attributes:
        codes: z of the case, one per region.
        probability: ``(heads, X, Y, Z)``, on the grid of the label; 0 further from it than F can see.
    """

    codes: tuple[CaseCode, ...]
    probability: NDArray[np.floating]


def occupancy(
    masks: NDArray[np.bool_],
    native: Grid,
    network: NearNetwork,
    space: WorkingSpace,
    dtype: DTypeLike = np.float32,
    evidence: Evidence | None = None,
) -> Occupancy:
    """Ask F about a label, at the voxels of its own grid.

    Args:
        masks: ``(C, X, Y, Z)``, one per structure of the network; at least one voxel set.
        native: their grid.
        network: trained network with an encoder.
        space: the working space that it was trained in.
        dtype: of the probability.
        evidence: what counts of the only mask, if it is known.

    Returns:
        z and F's probability, which do not depend on how the array is stored, cropped or padded with background.
    """
    parts = (
        [evidence]
        if evidence is not None
        else [Evidence.of(Components.of(mask), native.spacing) for mask in masks if mask.any()]
    )
    present = iter(parts)
    shown = np.stack([next(present).shown(mask) if mask.any() else mask for mask in masks])
    regions, _ = regions_of([region for part in parts for region in part.regions], native.spacing)
    probability = np.zeros((network.field.heads, *native.shape), dtype)
    codes = []
    for region in regions:
        reach = space.truncate + max(native.spacing)
        inner, around = with_rim(region, [int(np.ceil(reach / rounded(s) - 1e-6)) for s in native.spacing])
        part, there = cut_with_edges(shown, around), around.overlap(Box((0, 0, 0), native.shape))
        poses = poses_of(np.asarray(shown[:, *region.slices()].any(0)), native.spacing)
        asked = [_ask(part, inner, Frame.of(around, native, pose), network, space, dtype) for pose in poses]
        codes.append(replace(asked[0][0], reference=native))
        seen = asked[0][1]
        if len(asked) > 1:  # in double precision the sum is exact, and the same in any order
            seen = np.stack([found for _, found in asked]).mean(0, np.float64).astype(dtype)
        probability[:, *there.slices()] = seen[:, *there.within(around).slices()]
    return Occupancy(tuple(codes), probability)


def _ask(
    masks: NDArray[np.bool_], box: Box, frame: Frame, network: NearNetwork, space: WorkingSpace, dtype: DTypeLike
) -> tuple[CaseCode, NDArray[np.floating]]:
    """z and F's probability of a region, of which ``masks`` ``(C, X, Y, Z)`` show the label, in ``box``, and a rim."""
    pose = frame.pose
    turned = Box(pose.picked(box.start), pose.picked(box.stop))
    code, distance, near = _encode(pose.turn(masks), turned, frame.grid, network, space)
    code = replace(code, frame=frame)
    seen = decode_all(code, network.field, frame.place, dtype)
    wall = sample_axes(distance[None], frame.grid.axes_in(near))[0] if near != frame.grid else distance
    seen[pose.undo(wall.numpy()) >= space.truncate] = 0
    return code, seen


def _encode(
    masks: NDArray[np.bool_], box: Box, grid: Grid, network: NearNetwork, space: WorkingSpace
) -> tuple[CaseCode, torch.Tensor, Grid]:
    """z of a turned region, and its distances ``(C, X, Y, Z)`` with their grid."""
    seen, near = averaged(masks, grid)
    distance = distances(seen, near.spacing, space.truncate)
    code = encode_distances(distance, np.asarray(masks.any(0)), box, near, grid, network, space)
    return code, distance, near


class NearInferer(Inferer):
    """MONAI inferer: a label mask goes in, the probability of the clean label comes out on the same grid.

    Args:
        space: the working space the network was trained in.

    Example:
        >>> import torch
        >>> import near_monai
        >>> network, space = near_monai.load_network()
        >>> mask = torch.zeros(1, 1, 16, 16, 24)
        >>> mask[..., 6:10, 6:10, 4:20] = 1  # voxels of 1 mm: a plain tensor has no affine
        >>> near_monai.NearInferer(space)(mask, network).shape
        torch.Size([1, 1, 16, 16, 24])
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
        return occupancy(voxels, native, network, self.space).probability


def _grids(inputs: torch.Tensor) -> list[Grid]:
    """The grid of every item of a batch ``(B, C, X, Y, Z)``; one affine may stand for all."""
    affines = inputs.affine.cpu() if isinstance(inputs, MetaTensor) else torch.eye(4)
    return [Grid.under(affine, inputs.shape[2:]) for affine in affines.expand(len(inputs), 4, 4)]


class TableInferer(Inferer):
    """Full-grid probability of a training case of a :class:`~near_monai.CodeTable`, on the case's own grid."""

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
