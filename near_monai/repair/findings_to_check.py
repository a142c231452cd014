"""Places that a person should look at: what repair added, removed and joined, and where F could not decide."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from near_monai.geometry.boxes import Box, box_of, voxels_of
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.scale import UNSCALED, Scale
from near_monai.repair.mask_repair import Repaired

#: Smaller places are not listed, in the scale of the structure; bridges are: a thin one joins as much as a thick one.
LEAST_MM3 = 2.0
#: Shifts of the wall up to this many mm (at least a voxel) are not listed, in the scale of the structure.
WALL_MM = 0.5
#: F is undecided where its probability is this close to 0.5.
UNDECIDED = 0.15


@dataclass(frozen=True)
class Finding:
    """One place.

    Attributes:
        kind: ``"added"``, ``"removed"``, ``"bridged"``, ``"uncertain"``, ``"proposed"`` (a joint that was not
            made) or ``"open_end"`` (the vessel probably goes on where the label ends).
        place: its centre ``(x, y, z)`` in mm, in the frame of the grid.
        volume_mm3: its volume; 0 of the last two kinds.
        probability: F's mean in it; of the last two kinds the judge's.
    """

    kind: str
    place: tuple[float, float, float]
    volume_mm3: float
    probability: float

    def scaled(self, factor: float) -> Finding:
        """The same with every length multiplied by ``factor``."""
        x, y, z = (v * factor for v in self.place)
        return replace(self, place=(x, y, z), volume_mm3=self.volume_mm3 * factor**3)


def find(
    mask: NDArray[np.bool_],
    repaired: Repaired,
    probability: NDArray[np.float32],
    grid: Grid,
    scale: Scale = UNSCALED,
) -> list[Finding]:
    """Findings of one case, largest first.

    Small shifts of the wall are what refinement does everywhere and no findings: a place counts if it lies further than
    :data:`WALL_MM` from what it differs from.

    Args:
        mask: ``(X, Y, Z)`` the label on ``grid``.
        repaired: what became of it.
        probability: F on ``grid``.
        grid: their grid.
        scale: that of the structure: a shift that is the wall of a chamber is a piece of a coronary artery.
    """
    sure, small = 0.5 + UNDECIDED, scale.shrunk(grid)
    union = mask | repaired.mask | (probability > 1 - sure)
    if not union.any():
        return []
    box = box_of(union)
    cut = box.slices()
    before, after, bridge, p = mask[cut], repaired.mask[cut], repaired.bridge_mask[cut], probability[cut]
    places = {
        "added": beyond_wall(after & ~bridge, before, small),
        "removed": beyond_wall(before, after, small),
        "bridged": bridge,
        "uncertain": beyond_wall((p > 1 - sure) & (p < sure) & ~bridge, p >= sure, small),
    }
    found = [
        scale.grown(Finding(kind, piece.place, piece.volume_mm3, float(p[piece.box.slices()][piece.mask].mean())))
        for kind, there in places.items()
        for piece in listed_pieces(kind, there, box.grid(small))
    ]
    found += [Finding(proposal.kind, proposal.place, 0.0, proposal.probability) for proposal in repaired.proposals]
    return sorted(found, key=lambda finding: -finding.volume_mm3)


def set_aside(pieces: Components, grid: Grid, scale: Scale = UNSCALED) -> list[Finding]:
    """Findings of the pieces that were removed before F was asked, because they lie far from all that counts.

    Args:
        pieces: they.
        grid: their grid.
        scale: see :func:`find`.
    """
    small = scale.shrunk(grid)
    found = []
    for voxels, volume in zip(pieces.parts, (pieces.sizes * small.voxel_volume).tolist(), strict=True):
        if volume >= LEAST_MM3:
            x, y, z = small.to_mm(voxels.mean(0)).tolist()
            found.append(scale.grown(Finding("removed", (x, y, z), volume, 0.0)))
    return found


def wall_reach(grid: Grid) -> list[int]:
    """Voxels per axis that count as wall: :data:`WALL_MM`, at least one."""
    return [max(1, round(WALL_MM / step)) for step in grid.spacing]


def beyond_wall(there: NDArray[np.bool_], mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """Voxels of ``there`` with nothing of ``mask`` within :func:`wall_reach`.

    Only the few voxels in question are looked at, which is much faster than to dilate ``mask``.
    """
    reach = wall_reach(grid)
    padded = np.pad(mask, [(n, n) for n in reach])
    voxels = voxels_of(there & ~mask)
    for offset in itertools.product(*(range(2 * n + 1) for n in reach)):
        voxels = voxels[~padded[tuple((voxels + offset).T)]]
    far = np.zeros_like(there)
    far[tuple(voxels.T)] = True
    return far


@dataclass(frozen=True, eq=False)
class Piece:
    """A component of a mask: its ``mask`` on ``box``, its centre in mm and its volume."""

    box: Box
    mask: NDArray[np.bool_]
    place: tuple[float, float, float]
    volume_mm3: float


def listed_pieces(kind: str, there: NDArray[np.bool_], grid: Grid) -> list[Piece]:
    """Components of ``there`` ``(X, Y, Z)`` that are to be listed, see :data:`LEAST_MM3`, largest first."""
    components = Components.of(there)
    least = 0.0 if kind == "bridged" else LEAST_MM3
    found = []
    for number in np.flatnonzero(components.sizes * grid.voxel_volume >= least).tolist():
        x, y, z = grid.to_mm(components.parts[number].mean(0)).tolist()
        volume = float(components.sizes[number]) * grid.voxel_volume
        found.append(Piece(components.boxes[number], components.mask(number), (x, y, z), volume))
    return sorted(found, key=lambda piece: -piece.volume_mm3)
