"""A source of z and F together: what is trained, saved and shared."""

from __future__ import annotations

import torch
from torch import nn

from near_monai.networks.field import Code, OccupancyField
from near_monai.networks.model_description import Description


class NearNetwork(nn.Module):
    """Source of z (a :class:`~near_monai.CodeEncoder` or :class:`~near_monai.CodeTable`) and F.

    Args:
        source: module that turns its input into a code.
        field: the occupancy field F.

    Attributes:
        description: what the weights are, once they come from a file that says so.

    Example:
        >>> import torch
        >>> import near_monai
        >>> network = near_monai.NearNetwork(near_monai.CodeEncoder(), near_monai.OccupancyField())
        >>> network(torch.rand(1, 1, 16, 16, 16)).shape
        torch.Size([1, 1, 16, 16, 16])
    """

    def __init__(self, source: nn.Module, field: OccupancyField) -> None:
        super().__init__()
        self.source = source
        self.field = field
        # 1.4 to 1.8 times faster convolutions on CPUs; activations follow the weights
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.last_code: Code = []
        self.description: Description | None = None

    def forward(self, image: torch.Tensor, points: torch.Tensor | None = None) -> torch.Tensor:
        """Occupancy logits of what ``image`` shows.

        Args:
            image: the source's input: ``(B, C, D, H, W)`` in [0, 1] for an encoder, ``(B,)`` indices for a table.
            points: ``(B, N, 3)`` normalised positions; ``None`` asks for the voxel centres of ``image``.

        Returns:
            ``(B, heads, N)`` logits, or ``(B, heads, D, H, W)`` without ``points``.
        """
        code = self.source(image)
        if not torch.jit.is_scripting():
            self.last_code = code
        if points is not None:
            return self.field(code, points)
        return self.field.on_voxels(self.field.features(code), list(image.shape[2:]))
