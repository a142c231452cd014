"""Volume calibration: the threshold at which a function of several structures keeps their volume, put into its bias.

Training draws as many windows and points from a small structure as from a large one, so F expects small ones too often
and they come out too thick.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform
from numpy.typing import NDArray

from near_monai.anatomy import HEART
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.inferers.occupancy import occupancy
from near_monai.networks.network import NearNetwork
from near_monai.training.checkpoints import write_best

#: Thresholds looked for go no higher: they would only follow the calibre errors of the few hearts that are looked at.
#: They go no lower than that of the table: nothing is to become thicker.
HIGHEST = 0.95
#: Lower probabilities are not kept in memory: no threshold is among them.
LEAST = 0.05


def calibrate_volume(
    network: NearNetwork,
    space: WorkingSpace,
    items: Sequence[dict[str, Any]],
    split: Transform,
    save_as: str | Path,
) -> None:
    """Calibrate a trained network, see :func:`volume_thresholds` and :func:`shift_to`, and write its weights.

    Args:
        network: weights as training left them, never those of an earlier call; changed.
        space: the working space that it was trained in.
        items: see :func:`volume_thresholds`.
        split: see :func:`volume_thresholds`.
        save_as: file for the changed weights, see :func:`near_monai.training.checkpoints.write_best`.

    Raises:
        NearError: it cannot be written.
    """
    shift_to(network, volume_thresholds(network, space, items, split))
    write_best(Path(save_as), network)


def volume_thresholds(
    network: NearNetwork, space: WorkingSpace, items: Sequence[dict[str, Any]], split: Transform
) -> list[float]:
    """The threshold of every structure at which its volume over all ``items`` is the true one.

    Args:
        network: trained network of several structures.
        space: the working space that it was trained in.
        items: noisy `image` and true `label` ``(1, X, Y, Z)``, as of :func:`near_monai.heart_items`.
        split: transform of an item to one mask per structure.

    Returns:
        One threshold per structure, from that of the table (where the volume is not too large) to :data:`HIGHEST`.
    """
    network.eval()
    found: list[list[np.ndarray]] = [[] for _ in range(network.field.heads)]
    true = np.zeros(network.field.heads)
    for item in items:
        masks = split(item)
        image, label = (np.asarray(masks[key].cpu()) > 0 for key in ("image", "label"))
        grid = Grid.under(masks["image"].affine, image.shape[1:])
        probability = occupancy(image, grid, network, space, np.float16).probability
        true += label.sum((1, 2, 3))
        for channel, own in enumerate(probability):
            found[channel].append(own[own > LEAST])
    return [
        threshold_for(np.concatenate(parts), count, structure.threshold)
        for structure, parts, count in zip(HEART.structures, found, true.astype(int), strict=True)
    ]


def threshold_for(probability: NDArray[np.floating], count: int, lowest: float) -> float:
    """The threshold that ``count`` of the values ``(N,)`` reach: not below ``lowest``, not above :data:`HIGHEST`."""
    falling = np.sort(probability)[::-1]
    at = float(falling[min(count, len(falling)) - 1]) if count and len(falling) else lowest
    return float(np.clip(at, lowest, HIGHEST))


def shift_to(network: NearNetwork, thresholds: Sequence[float]) -> None:
    """Move the last bias of every head, so that the table's threshold does from now on what one of ``thresholds`` did.

    Args:
        network: network of the structures of the table; changed.
        thresholds: one per structure.
    """
    bias = network.field.mlp.last.bias
    wanted = torch.tensor([structure.threshold for structure in HEART.structures])
    with torch.no_grad():
        bias.add_((torch.logit(wanted) - torch.logit(torch.tensor(thresholds))).to(bias))
