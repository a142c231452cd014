"""Losses on points: MONAI's Dice and focal losses, with a weight per point, and the penalty on z."""

from __future__ import annotations

import torch
from monai.losses import DiceFocalLoss, FocalLoss
from torch import nn

from near_monai.networks.network import NearNetwork


class PointDiceFocalLoss(DiceFocalLoss):
    """``lambda_dice`` x soft Dice + ``lambda_focal`` x focal loss, both over importance-weighted points.

    MONAI's :class:`~monai.losses.DiceFocalLoss` knows no weight per point. Here the sums of the Dice loss and the mean
    of the focal loss are weighted; with all weights 1 the value equals MONAI's. The Dice sums run over the batch: a
    window without vessel would otherwise cost a full 1 however right the prediction is. With several structures every
    one counts the same in it, however small it is.

    Args:
        lambda_dice: weight of the Dice part.
        lambda_focal: weight of the focal part.
        gamma: focusing parameter; 0 makes the focal part a cross entropy.
    """

    def __init__(self, lambda_dice: float = 0.7, lambda_focal: float = 0.3, gamma: float = 4.0) -> None:
        super().__init__(
            sigmoid=True, batch=True, lambda_dice=lambda_dice, lambda_focal=lambda_focal, gamma=gamma, weight=None
        )
        self.per_point = FocalLoss(gamma=gamma, reduction="none")

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss of logits ``(B, C, N)`` against targets ``(B, C + 1, N)`` (occupancies, weight)."""
        logits = input.float()
        occupancy, weight = target[:, :-1], target[:, -1:]
        probability = logits.sigmoid()
        overlap = (weight * probability * occupancy).sum((0, 2))
        total = (weight * (probability + occupancy)).sum((0, 2))
        dice = (1 - (2 * overlap + self.dice.smooth_nr) / (total + self.dice.smooth_dr)).mean()
        focal = (self.per_point(logits, occupancy) * weight).mean()
        return self.lambda_dice * dice + self.lambda_focal * focal


class CodePenalty(nn.Module):
    """``loss`` plus ``weight`` x mean squared norm of the codes that the network used last.

    Args:
        loss: the loss on points.
        network: the network whose codes are kept small.
        weight: 1e-4 to 3e-4 in the described recipe.
    """

    def __init__(self, loss: nn.Module, network: NearNetwork, weight: float) -> None:
        super().__init__()
        self.loss = loss
        self._network = (network,)  # in a tuple: the loss must not own the network's parameters
        self.weight = weight

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Same arguments as ``loss``."""
        codes = self._network[0].last_code
        penalty = sum((code.float().square().flatten(1).sum(1).mean() for code in codes), input.new_zeros(()))
        return self.loss(input, target) + self.weight * penalty
