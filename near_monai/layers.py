"""The convolution that encoder and decoder are made of."""

from __future__ import annotations

import torch
from monai.networks.layers.utils import get_norm_layer
from torch import nn

#: Normalisation as MONAI names it: ``"batch"``, or ``("group", {"num_groups": 8})``.
Norm = str | tuple[str, dict[str, int]]


class Conv3d(nn.Conv3d):
    """``torch.nn.Conv3d`` that always uses oneDNN where a CPU evaluates it.

    PyTorch takes a plain loop, 13 times slower, for single small images: just what a tile of a case is.
    """

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if torch.is_grad_enabled() or input.device.type != "cpu" or not torch.backends.mkldnn.is_available():
            return super()._conv_forward(input, weight, bias)
        padded = nn.functional.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        return torch.mkldnn_convolution(padded, weight, bias, (0, 0, 0), self.stride, self.dilation, self.groups)


def convolution(
    in_channels: int, out_channels: int, norm: Norm = "batch", stride: int = 1, dilation: int = 1, relu: bool = True
) -> nn.Sequential:
    """3x3x3 convolution, normalisation and ReLU, with the border repeated.

    MONAI's ``Convolution`` pads with zeros. A network that is trained on windows then sees a border everywhere, and
    answers differently where there is none: on whole cases vessels came out 13 % too thick, and Dice 0.03 lower.
    """
    conv = Conv3d(
        in_channels, out_channels, 3, stride, dilation, dilation=dilation, bias=False, padding_mode="replicate"
    )
    layers: list[nn.Module] = [conv, get_norm_layer(norm, 3, out_channels)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)
