"""z = E(label): amortised local codes, so that a new case needs one forward pass and no fitting."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from near_monai.field import Code
from near_monai.layers import convolution


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions with batch normalisation, added to their input; ``dilation`` widens the view."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(channels, channels, dilation=dilation),
            convolution(channels, channels, dilation=dilation, relu=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, C, D, H, W)`` to the same shape."""
        return torch.relu(x + self.body(x))


class CodeEncoder(nn.Module):
    """Signed distance of a label window to code grids on two scales.

    The image is folded 2 x 2 x 2 into channels first: nothing is lost and no layer runs at full resolution, where it
    would cost eight times more.

    Args:
        code_channels: channels of the coarse code (one cell per 4 voxels) and the fine code (one per 2 voxels). With
            one entry only the coarse code is made.
        channels: widths at one cell per 2 and per 4 voxels.
        dilations: one residual block each at the coarse scale.
        structures: channels of the image, one signed distance per structure.
    """

    def __init__(
        self,
        code_channels: Sequence[int] = (16, 8),
        channels: Sequence[int] = (24, 64),
        dilations: Sequence[int] = (1, 2, 1),
        structures: int = 1,
    ) -> None:
        super().__init__()
        fine, coarse = channels
        self.fold = nn.Sequential(
            convolution(8 * structures, fine),
            convolution(fine, fine),
        )
        self.down = convolution(fine, coarse, stride=2)
        self.context = nn.Sequential(*(ResidualBlock(coarse, dilation) for dilation in dilations))
        self.coarse_code = nn.Conv3d(coarse, code_channels[0], 1)
        self.fine_code: nn.Module | None = None
        if len(code_channels) > 1:
            self.up = nn.ConvTranspose3d(coarse, fine, 2, 2)
            self.join = convolution(fine, fine)
            self.fine_code = nn.Conv3d(fine, code_channels[1], 1)

    def forward(self, image: torch.Tensor) -> Code:
        """Encode ``image``.

        Args:
            image: ``(B, structures, D, H, W)``, as :meth:`near_monai.space.WorkingSpace.image` makes it, in [0, 1];
                sides are multiples of 4.

        Returns:
            Code grids ``(B, C0, D/4, H/4, W/4)`` and ``(B, C1, D/2, H/2, W/2)``.
        """
        fine = self.fold(_fold(image))
        coarse = self.context(self.down(fine))
        code = self.coarse_code(coarse)
        if self.fine_code is None:
            return (code,)
        joined = self.join(self.up(coarse) + fine)
        return code, self.fine_code(joined)


def _fold(image: torch.Tensor) -> torch.Tensor:
    """``(B, C, D, H, W)`` to ``(B, 8 C, D/2, H/2, W/2)``: space to depth."""
    b, c, d, h, w = image.shape
    parts = image.reshape(b, c, d // 2, 2, h // 2, 2, w // 2, 2)
    return parts.permute(0, 3, 5, 7, 1, 2, 4, 6).reshape(b, 8 * c, d // 2, h // 2, w // 2)
