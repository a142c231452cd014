"""z_i from a table: the auto-decoder of the described recipe, one learned code per training case."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from near_monai.networks.field import Code


class CodeTable(nn.Module):
    """One learned code per case.

    Gradients are sparse, so an optimiser that understands them (:class:`near_monai.AdamWithTable`) leaves the
    codes of cases that are absent from a batch where they are.

    Args:
        cases: number of cases.
        channels: channels of the code (256 in the described recipe).
        shape: cells of the code grid.
        scale: standard deviation of the start values.

    Example:
        >>> import torch
        >>> import near_monai
        >>> table = near_monai.CodeTable(cases=3)
        >>> [tuple(code.shape) for code in table(torch.tensor([0, 2]))]
        [(2, 256, 1, 1, 1)]

    Source:
        The auto-decoder of Yang et al., Neural Annotation Refinement, MICCAI 2022, arXiv 2206.15328.
    """

    def __init__(self, cases: int, channels: int = 256, shape: Sequence[int] = (1, 1, 1), scale: float = 0.01) -> None:
        super().__init__()
        d, h, w = shape
        self.shape = (channels, d, h, w)
        width = channels * d * h * w
        self.codes = nn.Embedding(cases, width, sparse=True)
        nn.init.normal_(self.codes.weight, std=scale)

    def forward(self, case: torch.Tensor) -> Code:
        """Case indices ``(B,)`` to one code grid ``(B, C, d, h, w)``."""
        channels, d, h, w = self.shape
        return [self.codes(case).reshape(-1, channels, d, h, w)]
