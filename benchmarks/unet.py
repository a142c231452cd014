"""The row to fear: MONAI's U-Net as a denoiser of label windows, on the same data, losses and inference as F.

Its code is one logit per working voxel and its field only looks that up, so that training, whole-case inference and
command line are those of near_monai, and nothing but the network differs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from torch import nn
from torch.nn import functional

from near_monai.geometry.coordinates import sample, sample_axes
from near_monai.networks.definitions import register
from near_monai.networks.encoder import LabelEncoder
from near_monai.networks.field import Code

#: Logit of certain background.
EMPTY = -10.0


class Denoiser(LabelEncoder):
    """``(B, 1, D, H, W)`` image of a label to one logit per voxel; borders are repeated as in
    near_monai.networks.convolution.

    Whole cases are seen through sliding windows of the size of the training windows, half overlapping, as MONAI's
    U-Nets usually are. In one piece the results were worse: the deepest level sees a whole training window. Where no
    label is within the truncation distance the answer is "nothing": training never shows such windows, and the network
    makes vessels up in them.
    """

    def __init__(self, channels: Sequence[int] = (22, 44, 88, 120), window: int = 40) -> None:
        super().__init__()
        self.window = window
        self.inferer = SlidingWindowInferer([window] * 3, sw_batch_size=4, overlap=0.5, mode="gaussian")
        # with one output channel its last residual unit would squeeze everything through a single non-negative map
        strides = (2,) * (len(channels) - 1)
        unet = UNet(3, 1, channels[0], channels, strides, num_res_units=1, norm="batch", act="relu")
        self.unet = nn.Sequential(unet, nn.Conv3d(channels[0], 1, 1))
        for module in self.unet.modules():
            if isinstance(module, nn.Conv3d):
                module.padding_mode = "replicate"

    def forward(self, image: torch.Tensor) -> Code:
        """Sides must be multiples of 8."""
        if self.training:
            return [self.unet(image)]
        logits = self.inferer(image, self.unet)
        assert isinstance(logits, torch.Tensor)  # one tensor in, one out
        return [torch.where(image > 0, logits, torch.full_like(logits, EMPTY))]


class LogitGrid(nn.Module):
    """Stands in for :class:`near_monai.OccupancyField`: trilinear lookup in the logits."""

    heads = 1

    def features(self, code: Code) -> Code:
        """The logits themselves."""
        return code

    def base_features(self, code: Code) -> torch.Tensor:
        """The logits themselves."""
        return code[0]

    def fine_features(self, base: torch.Tensor, code: Code) -> Code:
        """The logits themselves."""
        return [base]

    def at(self, features: Code, points: torch.Tensor) -> torch.Tensor:
        """Logits ``(B, 1, N)`` at normalised ``points`` ``(B, N, 3)``."""
        return sample(features[0], points)

    def on_axes(self, features: Code, axes: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Logits on the regular grid of normalised ``axes``."""
        return sample_axes(features[0], axes)

    def on_voxels(self, features: Code, shape: Sequence[int]) -> torch.Tensor:
        """Logits at the voxel centres of a grid of ``shape``."""
        return functional.interpolate(features[0], shape, mode="trilinear", align_corners=False)

    def forward(self, code: Code, points: torch.Tensor) -> torch.Tensor:
        """:meth:`at` of a code."""
        return self.at(code, points)


register(Denoiser, LogitGrid)  # weights of the U-Net may name them wherever this module is imported, and nowhere else
