"""The frame in which the networks see a label: voxel size, cut-off and reach, all in mm."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class WorkingSpace:
    """The frame in which the networks see a label.

    Attributes:
        spacing: voxel size of the isotropic working grid in mm.
        truncate: distances are cut off at this many mm.
        margin: F is evaluated up to this many mm from the label.
    """

    spacing: float = 0.5
    truncate: float = 3.0
    margin: float = 3.0

    def image(self, distance: torch.Tensor) -> torch.Tensor:
        """Signed distance in mm to what an encoder sees: 0 far outside, 0.5 on the surface, 1 deep inside."""
        return (0.5 - distance / (2 * self.truncate)).clamp(0, 1)
