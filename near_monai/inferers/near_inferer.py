"""MONAI inferers: of a label of any kind, and of a training case of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type
from numpy.typing import NDArray

from near_monai.errors import NearError
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.inferers.case_code import table_code
from near_monai.inferers.decoding import decode
from near_monai.inferers.occupancy import occupancy
from near_monai.networks.network import NearNetwork


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
