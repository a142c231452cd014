"""From a label to z: the label is seen on an isotropic working grid, in windows near it.

Away from the label the code is that of empty space.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from near_monai.errors import NearError
from near_monai.geometry.boxes import Box, box_of, centres_in, widen
from near_monai.geometry.coordinates import Grid, sample_axes
from near_monai.geometry.distance import signed_distance
from near_monai.geometry.windows import active_blocks, working_grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.inferers.case_code import CaseCode, device_of
from near_monai.inferers.shared_cores import shared_cores
from near_monai.networks.encoder import CodeEncoder, LabelEncoder
from near_monai.networks.field import Code
from near_monai.networks.network import NearNetwork


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
    device = device_of(network)
    near_of = _near_of(network.source)
    grid = working_grid(box, native, space.spacing, space.margin)
    blocks = active_blocks(mask, native, grid, space.margin)

    def image_of(box: Box) -> torch.Tensor:
        wanted = box.grid(grid)
        around = centres_in(wanted, near).grow(2, near.shape)
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
