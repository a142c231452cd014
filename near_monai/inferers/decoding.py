"""From z to a probability, at the voxel centres of any grid; nothing is resampled.

Windows near the label are visited only; elsewhere the probability is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from near_monai.geometry.boxes import Box, box_of, centres_in
from near_monai.geometry.coordinates import Grid, sample_axes
from near_monai.geometry.region_frames import rounded
from near_monai.geometry.windows import PATCH, TILE, WINDOW, Tile, Tiling, active_blocks, part_of
from near_monai.inferers.case_code import CaseCode, device_of
from near_monai.inferers.shared_cores import shared_cores
from near_monai.networks.field import Code, OccupancyField

#: How the working grid is visited: two coarse cells of context and then some, two fine cells, one coarse cell.
WINDOWS, TILES, PATCHES = Tiling(WINDOW, halo=12), Tiling(TILE, halo=8), Tiling(PATCH, halo=4)

#: Along an axis with steps of at most this share of a working voxel, F is asked at this many points per working voxel,
#: and what it says is interpolated: its finest features have a cell of two working voxels.
FINE, POINTS = 0.4, 2

#: A voxel on the face between two blocks belongs to both, in working voxels.
EDGE = 1e-3


def decode(case: CaseCode, field: OccupancyField, target: Grid) -> NDArray[np.float32]:
    """Occupancy probability of a case at the voxel centres of ``target``, a grid in the case's mm frame.

    Returns:
        float32 ``target.shape``, in [0, 1]; 0 away from the label.
    """
    probability: NDArray[np.float32] = decode_all(case, field, target)[0]
    return probability


def decode_all(
    case: CaseCode,
    field: OccupancyField,
    target: Grid,
    dtype: DTypeLike = np.float32,
    wanted: NDArray[np.bool_] | None = None,
) -> NDArray[np.floating]:
    """:func:`decode` for every structure that the field knows: ``(heads, X, Y, Z)`` of ``dtype``.

    Of ``wanted`` voxels, ``(X, Y, Z)``, at least these have their probability; others may be 0.
    """
    if case.frame is None:
        return _decode(case, field, target, dtype, wanted)
    pose = case.frame.pose
    turned = None if wanted is None else pose.turn(wanted)
    return pose.undo(_decode(case, field, case.frame.turned(target), dtype, turned))


@torch.no_grad()
def _decode(
    case: CaseCode, field: OccupancyField, target: Grid, dtype: DTypeLike, wanted: NDArray[np.bool_] | None
) -> NDArray[np.floating]:
    """:func:`decode_all`, with ``target`` and ``wanted`` in the frame of the codes."""
    if case.blocks is None:
        return _decode_whole(case, field, target)
    blocks = case.blocks
    if wanted is not None:
        blocks = blocks & active_blocks(wanted, target, case.grid, EDGE * min(case.grid.spacing))
    job = _Decoding(case, field, target, blocks, wanted, np.zeros((field.heads, *target.shape), dtype))
    with shared_cores() as pool:
        for window in WINDOWS.over(blocks):
            base = field.base_features(_code_of(case, window.wide, device_of(field)))
            list(pool.map(partial(job.fill, base, window), TILES.over(blocks, window.core)))  # raises what went wrong
    return job.probability


@dataclass(frozen=True, eq=False)
class _Decoding:
    """What is asked of F: arguments as of :func:`_decode`; the blocks that hold it, and the answer."""

    case: CaseCode
    field: OccupancyField
    target: Grid
    blocks: NDArray[np.bool_]
    wanted: NDArray[np.bool_] | None
    probability: NDArray[np.floating]

    def fill(self, base: torch.Tensor, window: Tile, tile: Tile) -> None:
        """Fill the probability in ``tile``, given level 0 of the features in the ``window`` that it lies in."""
        code = _code_of(self.case, tile.wide, base.device)
        features = self.field.fine_features(part_of(base, tile.wide, window.wide), code)
        for patch in PATCHES.over(self.blocks, tile.core):
            there = self._asked(centres_in(patch.core.grid(self.case.grid), self.target))
            if 0 not in there.shape:
                parts = [part_of(feature, patch.wide, tile.wide) for feature in features]  # only these are interpolated
                found = self._logits(parts, there.grid(self.target), patch).sigmoid().cpu().numpy()
                self.probability[:, *there.slices()] = found

    def _logits(self, features: Code, target: Grid, patch: Tile) -> torch.Tensor:
        """Logits ``(heads, X, Y, Z)`` on a ``target`` within a patch, of which the ``features`` are given."""
        working, asked, fine = self.case.grid, target, self._fine
        if fine.any():
            nodes = patch.core.grow(1, working.shape).grid(working).finer(POINTS)
            mixed = (
                np.where(fine, getattr(nodes, key), getattr(target, key)) for key in ("shape", "spacing", "origin")
            )
            asked = Grid.of(*mixed)
        logits = self.field.on_axes(features, asked.axes_in(patch.wide.grid(working)))
        return (sample_axes(logits, target.axes_in(asked)) if fine.any() else logits)[0]

    @cached_property
    def _fine(self) -> NDArray[np.bool_]:
        """Along which axes what F says is interpolated."""
        pairs = zip(self.target.spacing, self.case.grid.spacing, strict=True)
        return np.array([rounded(own) <= FINE * working for own, working in pairs])

    def _asked(self, there: Box) -> Box:
        """The smallest box around what is wanted in a box of voxels."""
        if self.wanted is None or 0 in there.shape:
            return there
        wanted = self.wanted[there.slices()]
        return box_of(wanted).moved(there.start) if wanted.any() else Box(there.start, there.start)


def _code_of(case: CaseCode, box: Box, device: torch.device) -> Code:
    """The codes of a box of the working grid."""
    return [part_of(code, box, Box((0, 0, 0), case.grid.shape))[None].float().to(device) for code in case.codes]


def _decode_whole(case: CaseCode, field: OccupancyField, target: Grid) -> NDArray[np.floating]:
    """A global code: every voxel of ``target`` is asked, a few planes at a time so that memory stays flat."""
    device = device_of(field)
    features = field.features([code[None].float().to(device) for code in case.codes])
    i, j, k = target.axes_in(case.grid)
    planes = [field.on_axes(features, (part, j, k))[0].sigmoid().cpu().numpy() for part in i.split(4)]
    return np.concatenate(planes, axis=1)
