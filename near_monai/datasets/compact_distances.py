"""Truncated signed distances in compact form: only the blocks near a surface, a byte per voxel.

A vessel fills a thousandth of the box around it. A case of 13 MB as float16 takes a few hundred kB, in memory or as a
file that is read when the case is drawn, so that training does not grow with the number of cases.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from near_monai.errors import NearError
from near_monai.formats.atomic_writing import replacing

#: Voxels per side of a block.
SIDE = 8
#: The truncation distance as a byte: steps are 0.024 mm for 3 mm.
FULL = 127
#: Interpolation moves a distance by less than this share.
ROUNDING = 1e-5
READ_ERRORS = (OSError, KeyError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
#: What stands for a block that is all outside, or all inside.
OUTSIDE, INSIDE = -1, -2


@dataclass(frozen=True, eq=False)
class CompactField:
    """Signed distances ``(C, D, H, W)`` in mm, negative inside, truncated.

    Attributes:
        shape: D, H and W.
        truncate: largest magnitude in mm.
        index: int32 ``(C, d, h, w)``, per block its place in ``values``, or :data:`OUTSIDE` or :data:`INSIDE`.
        values: int8 ``(N, SIDE, SIDE, SIDE)``, :data:`FULL` is ``truncate``.
        surface: int16 ``(M, 4)``, channel and indices of the voxels at a surface.
    """

    shape: tuple[int, int, int]
    truncate: float
    index: NDArray[np.int32]
    values: NDArray[np.int8]
    surface: NDArray[np.int16]

    @classmethod
    def of(cls, distance: torch.Tensor, truncate: float, spacing: float) -> CompactField:
        """Pack ``distance`` ``(C, D, H, W)`` of a grid of isotropic ``spacing``; see :func:`at_surface`."""
        field = distance.float().numpy()
        surface = np.argwhere(np.stack([at_surface(channel, spacing) for channel in field])).astype(np.int16)
        wide = [(0, 0), *((0, -n % SIDE) for n in field.shape[1:])]
        packed = np.rint(np.pad(field, wide, constant_values=truncate) * (FULL / truncate)).astype(np.int8)
        c, d, h, w = (n // side for n, side in zip(packed.shape, (1, SIDE, SIDE, SIDE), strict=True))
        blocks = packed.reshape(c, d, SIDE, h, SIDE, w, SIDE).transpose(0, 1, 3, 5, 2, 4, 6).reshape(-1, SIDE**3)
        low, high = blocks.min(1), blocks.max(1)
        index = np.where(low == FULL, OUTSIDE, INSIDE).astype(np.int32)
        mixed = (low != FULL) & (high != -FULL)
        index[mixed] = np.arange(np.count_nonzero(mixed))
        values = blocks[mixed].reshape(-1, SIDE, SIDE, SIDE)
        x, y, z = field.shape[1:]
        return cls((x, y, z), truncate, index.reshape(c, d, h, w), values, surface)

    def window(self, start: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
        """Distances ``(C, *shape)`` from voxel ``start`` on; ``truncate`` where that reaches beyond the grid."""
        first = np.floor_divide(start, SIDE)
        count = np.floor_divide(np.add(start, shape) + SIDE - 1, SIDE) - first
        index = np.full((len(self.index), *count), OUTSIDE, np.int32)
        low, high = np.maximum(first, 0), np.minimum(first + count, self.index.shape[1:])
        if (low < high).all():
            there = (slice(a - f, b - f) for a, b, f in zip(low, high, first, strict=True))
            index[:, *there] = self.index[:, *(slice(a, b) for a, b in zip(low, high, strict=True))]
        blocks = np.where(index == INSIDE, -FULL, FULL).astype(np.int8).ravel()[:, None, None, None]
        blocks = np.broadcast_to(blocks, (index.size, SIDE, SIDE, SIDE)).copy()
        stored = index.ravel() >= 0
        blocks[stored] = self.values[index.ravel()[stored]]
        volume = blocks.reshape(*index.shape, SIDE, SIDE, SIDE).transpose(0, 1, 4, 2, 5, 3, 6)
        volume = volume.reshape(len(index), *(count * SIDE))
        inner = (slice(s - f * SIDE, s - f * SIDE + n) for s, f, n in zip(start, first, shape, strict=True))
        return torch.from_numpy(volume[:, *inner].astype(np.float32)) * (self.truncate / FULL)

    def dense(self) -> torch.Tensor:
        """All of it, ``(C, D, H, W)``."""
        return self.window((0, 0, 0), self.shape)

    def save(self, path: Path, affine: NDArray[np.floating]) -> None:
        """Write to an ``.npz`` file with the 4 x 4 world ``affine`` of the grid, complete or not at all."""
        arrays: dict[str, Any] = {"index": self.index, "values": self.values, "surface": self.surface}
        with replacing(path) as part:
            np.savez_compressed(part, shape=self.shape, truncate=self.truncate, affine=affine, **arrays)

    @classmethod
    def load(cls, path: Path) -> CompactField:
        """Read what :meth:`save` wrote.

        Raises:
            NearError: the file is missing or damaged.
        """
        try:
            shape, truncate, *arrays = _members(path, "shape", "truncate", "index", "values", "surface")
        except READ_ERRORS as error:
            raise NearError(f"{path}: missing or damaged; delete it, training makes it anew") from error
        a, b, c = shape.tolist()
        return cls((a, b, c), float(truncate), *arrays)


def at_surface(field: NDArray[np.floating], spacing: float) -> NDArray[np.bool_]:
    """Voxels at the surface of a signed distance ``(D, H, W)``, which has one where it is negative here and not there.

    These are the voxels within half a ``spacing`` of it, the half included: where the working grid is the grid of a
    mask, every centre lies exactly so far off. If there are none (a field that jumps), those that are nearest to it.
    """
    inside = field < 0
    if inside.all() or not inside.any():
        return np.zeros(field.shape, bool)
    away = np.abs(field)
    return np.asarray(away <= max(spacing / 2, away.min()) * (1 + ROUNDING))


#: A field, or the file that holds it; the shape and the 4 x 4 world affine of its grid.
Stored = tuple[CompactField | Path, tuple[int, int, int], NDArray[np.float64]]


def stored(
    folder: str | Path | None,
    name: str,
    state: str,
    make: Callable[[], tuple[CompactField, NDArray[np.floating]]],
) -> Stored:
    """The field of a case, made once.

    Args:
        folder: where files of fields are kept; ``None`` or empty to keep it in memory.
        name: of the case.
        state: digits that change with whatever decides what the field looks like.
        make: makes the field and the affine of its grid.

    Raises:
        NearError: whatever ``make`` raises.
    """
    if not folder:
        field, affine = make()
        return field, field.shape, np.asarray(affine, np.float64)
    path = Path(folder) / f"{name}-{state}.npz"
    try:
        shape, affine = _members(path, "shape", "affine")
    except READ_ERRORS:
        field, affine = make()
        field.save(path, affine)
        shape = np.asarray(field.shape)
    a, b, c = shape.tolist()
    return path, (a, b, c), np.asarray(affine, np.float64)


def _members(path: Path, *names: str) -> list[NDArray[Any]]:
    """Some arrays of an ``.npz`` file; the others are not read."""
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        return [file[name] for name in names]
