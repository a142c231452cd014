"""z of a case: what an encoder makes of a label, or a table has learned, and all that F needs to redraw it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from near_monai.geometry.coordinates import Grid
from near_monai.geometry.region_frames import Frame
from near_monai.networks.network import NearNetwork


@dataclass(frozen=True)
class CaseCode:
    """z of one region of a case (most cases are one): all that F needs to redraw it.

    Attributes:
        codes: code grids ``(C, d, h, w)`` float16, coarse to fine; away from the label they hold empty space.
        grid: the working grid that they span, in the region's mm frame.
        blocks: active blocks of ``grid``; ``None`` for a global code, which speaks for the whole box.
        reference: the grid of the label file, in the case's mm frame.
        frame: how the region lies in the case; ``None`` where both have the same mm frame.
    """

    codes: tuple[torch.Tensor, ...]
    grid: Grid
    blocks: NDArray[np.bool_] | None
    reference: Grid
    frame: Frame | None = None


@torch.no_grad()
def table_code(network: NearNetwork, number: int, grid: Grid) -> CaseCode:
    """z of training case ``number``, which spans ``grid``."""
    device = device_of(network)
    parts = network.source(torch.tensor([number], device=device))
    return CaseCode(tuple(part[0].half().cpu() for part in parts), grid, None, grid)


def device_of(module: nn.Module) -> torch.device:
    """Where ``module`` computes; the CPU if it has no parameters."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
