"""Whether a label can be as large as its spacing says: one rule for every door."""

from __future__ import annotations

from collections.abc import Sequence

from near_monai.errors import NearError
from near_monai.geometry.boxes import Box

#: Shorter side of a voxel in mm, per scale of the structure: an artery of 3 mm cannot be drawn with voxels of 3 mm.
COARSEST_MM = 2.0
#: The same: F needs 3 mm around a label, and a map of finer voxels would be thousands of them wide.
FINEST_MM = 0.02
#: Longest side of the box around a label in mm: per scale not less (a voxel may be all that there is), and in no scale
#: more than a person is wide. Metres taken for mm make a heart 0.1 long, micrometres 100,000.
SHORTEST_MM, LONGEST_MM = 0.2, 1000.0


def check_units(box: Box, spacing: Sequence[float], scale: float, where: str) -> None:
    """Refuse a label that can only be as large as it seems if its spacing is not in mm.

    Args:
        box: the box around it, in voxels.
        spacing: voxel size in mm.
        scale: of its structure.
        where: the map, for the message.

    Raises:
        NearError: it is too small, too large, or its voxels are too fine or too coarse.
    """
    sides = [n * step for n, step in zip(box.shape, spacing, strict=True)]
    fitting = FINEST_MM * scale <= min(spacing) <= COARSEST_MM * scale
    if not fitting or not SHORTEST_MM * scale <= max(sides) <= LONGEST_MM:
        extent, size = (" x ".join(f"{value:.4g}" for value in values) for values in (sides, spacing))
        finest, coarsest, shortest = (value * scale for value in (FINEST_MM, COARSEST_MM, SHORTEST_MM))
        raise NearError(
            f"{where}: the label would be {extent} mm large, with voxels of {size} mm; is the spacing in mm? "
            f"Expected voxels of {finest:g} to {coarsest:g} mm and a label of {shortest:g} to {LONGEST_MM:g} mm"
        )
