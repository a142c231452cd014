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

from near_monai.anatomy import HEART
from near_monai.checkpoints import write_state
from near_monai.coords import Grid
from near_monai.inference import decode_all, encode
from near_monai.network import NearNetwork
from near_monai.space import WorkingSpace

#: Thresholds looked for. Lower ones would only follow the calibre errors of the few hearts that are looked at.
RANGE = (0.5, 0.95)
#: Lower probabilities are not kept in memory: no threshold is among them.
LEAST = 0.05


def keep_volume(
    network: NearNetwork,
    space: WorkingSpace,
    items: Sequence[dict[str, Any]],
    split: Transform,
    save_as: str | Path | None = None,
) -> list[float]:
    """Shift the last bias of every head so that its volume over all ``items`` is the true one, if it was larger.

    The volume is that at the structure's threshold in the table.

    Args:
        network: trained network of several structures; changed.
        space: the working space that it was trained in.
        items: noisy `image` and true `label` ``(1, X, Y, Z)``, as of :func:`near_monai.heart_sources.heart_items`.
        split: transform of an item to one mask per structure.
        save_as: file for the changed weights.

    Returns:
        The thresholds that kept the volume.
    """
    network.eval()
    found: list[list[np.ndarray]] = [[] for _ in range(network.field.heads)]
    true = np.zeros(network.field.heads)
    for item in items:
        masks = split(item)
        image, label = (np.asarray(masks[key].cpu()) > 0 for key in ("image", "label"))
        grid = Grid.under(masks["image"].affine, image.shape[1:])
        probability = decode_all(encode(image, grid, network, space), network.field, grid, np.float16)
        true += label.sum((1, 2, 3))
        for channel, own in enumerate(probability):
            found[channel].append(own[own > LEAST])
    thresholds = []
    for own, count in zip((np.sort(np.concatenate(parts))[::-1] for parts in found), true.astype(int), strict=True):
        at = float(own[min(count, len(own)) - 1]) if count and len(own) else 0.5
        thresholds.append(float(np.clip(at, *RANGE)))
    with torch.no_grad():
        bias = network.field.mlp.last.bias
        wanted = torch.tensor([structure.threshold for structure in HEART.structures])
        bias.add_((torch.logit(wanted) - torch.logit(torch.tensor(thresholds))).to(bias))
    if save_as is not None:
        write_state(Path(save_as), network.state_dict())
    return thresholds
