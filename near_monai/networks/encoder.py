"""z = E(label): amortised local codes, so that a new case needs one forward pass and no fitting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from near_monai.geometry.boxes import Box
from near_monai.geometry.windows import BLOCK, TILE, WINDOW, Tile, Tiling, part_of
from near_monai.networks.convolution import convolution
from near_monai.networks.field import Code

#: How fine layers visit a grid: what they say is right up to a rim, where the tiles of the coarse code begin.
FINE = Tiling(TILE, halo=12, rim=4)
#: How coarse layers do: gaps are judged by what lies on both sides. They can look further (36 voxels); that changes
#: some 20 voxels of 14,000 where a case has several windows, and is not worth the work.
COARSE = Tiling(WINDOW, halo=16, rim=4)


#: ``map``, in this thread or in several: called with a function and what it is to be applied to.
Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


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
        return torch.relu_(x + self.body(x))


class LabelEncoder(nn.Module):
    """What makes a code of an image of a label, ``forward(image)``."""

    def near(self, image_of: Callable[[Box], torch.Tensor], blocks: NDArray[np.bool_], spread: Spread = map) -> Code:
        """The code of a whole grid, of which only the active ``blocks`` matter.

        Args:
            image_of: the image ``(1, structures, ...)`` of any box of the grid, empty away from the active blocks.
            blocks: active blocks of the grid.
            spread: ``map``, or one that shares the work among threads.

        Returns:
            Codes as of ``forward``.
        """
        a, b, c = (n * BLOCK for n in blocks.shape)
        code: Code = self(image_of(Box((0, 0, 0), (a, b, c))))
        return code


class CodeEncoder(LabelEncoder):
    """Signed distance of a label window to code grids on two scales.

    The image is folded 2 x 2 x 2 into channels first: nothing is lost and no layer runs at full resolution, where it
    would cost eight times more.

    Args:
        code_channels: channels of the coarse code (one cell per 4 voxels) and the fine code (one per 2 voxels). With
            one entry only the coarse code is made.
        channels: widths at one cell per 2 and per 4 voxels.
        dilations: one residual block each at the coarse scale.
        structures: channels of the image, one signed distance per structure.

    Example:
        >>> import torch
        >>> import near_monai
        >>> encoder = near_monai.CodeEncoder()
        >>> [tuple(code.shape) for code in encoder(torch.rand(1, 1, 16, 16, 16))]
        [(1, 16, 4, 4, 4), (1, 8, 8, 8, 8)]

    Source:
        Codes on a grid: Peng et al., Convolutional Occupancy Networks, ECCV 2020, arXiv 2003.04618.
    """

    def __init__(
        self,
        code_channels: Sequence[int] = (16, 8),
        channels: Sequence[int] = (16, 32),
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
            image: ``(B, structures, D, H, W)``, as :meth:`near_monai.WorkingSpace.image` makes it, in [0, 1];
                sides are multiples of 4.

        Returns:
            Code grids ``(B, C0, D/4, H/4, W/4)`` and ``(B, C1, D/2, H/2, W/2)``.
        """
        fine = self.fold(_fold(image))
        return self._codes(self.context(self.down(fine)), fine)

    @torch.jit.export
    def _codes(self, coarse: torch.Tensor, fine: torch.Tensor) -> Code:
        """Codes of features on both scales."""
        if self.fine_code is None:
            return [self.coarse_code(coarse)]
        return [self.coarse_code(coarse), self.fine_code(self.join(self.up(coarse) + fine))]

    def near(self, image_of: Callable[[Box], torch.Tensor], blocks: NDArray[np.bool_], spread: Spread = map) -> Code:
        """As of :class:`LabelEncoder`, at the cost of the active blocks.

        The fine layers run on tiles around the label; the coarse ones, which look far and cost little, on windows.
        Where nothing is near, every layer says what it says of empty space.
        """
        a, b, c = (n * BLOCK for n in blocks.shape)
        whole = Box((0, 0, 0), (a, b, c))
        fine = self.fold(_fold(torch.zeros_like(image_of(Box((0, 0, 0), (BLOCK,) * 3)))))
        start = self.down(fine)
        coarse = self.context(start)
        codes = [_everywhere(part, whole) for part in self._codes(coarse, fine)]
        start, coarse = _everywhere(start, whole), _everywhere(coarse, whole)

        def fold(tile: Tile) -> tuple[torch.Tensor, torch.Tensor]:
            fine = self.fold(_fold(image_of(tile.wide)))
            return part_of(self.down(fine), tile.right, tile.wide), part_of(fine, tile.right, tile.wide).clone()

        def fill(tile: Tile, fine: torch.Tensor) -> None:
            for code, part in zip(codes, self._codes(part_of(coarse, tile.right, whole), fine), strict=True):
                part_of(code, tile.core, whole)[:] = part_of(part, tile.core, tile.right)

        tiles, seen = list(FINE.over(blocks)), []
        for tile, (down, fine) in zip(tiles, spread(fold, tiles), strict=True):
            part_of(start, tile.right, whole)[:] = down  # here, in order: the rims of tiles overlap
            seen.append(fine)
        for window in COARSE.over(blocks):
            context = self.context(part_of(start, window.wide, whole))
            part_of(coarse, window.right, whole)[:] = part_of(context, window.right, window.wide)
        list(spread(lambda pair: fill(*pair), zip(tiles, seen, strict=True)))
        return codes


def _everywhere(block: torch.Tensor, whole: Box) -> torch.Tensor:
    """A grid over ``whole`` of what a layer says of empty space, given the cells of one empty ``block``."""
    cells = (n // BLOCK * block.shape[-1] for n in whole.shape)
    return block[..., :1, :1, :1].repeat(1, 1, *cells)


def _fold(image: torch.Tensor) -> torch.Tensor:
    """``(B, C, D, H, W)`` to ``(B, 8 C, D/2, H/2, W/2)``: space to depth."""
    parts = image.unflatten(2, [-1, 2]).unflatten(4, [-1, 2]).unflatten(6, [-1, 2])
    return parts.permute(0, 3, 5, 7, 1, 2, 4, 6).flatten(1, 4)
