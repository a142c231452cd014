"""A training case: the signed distances of a shape, made once and kept in a file, and what is known of them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import DataLoader, Dataset

from near_monai.anatomy import VESSEL, Structure
from near_monai.corruption.corrupt_label import CorruptLabel
from near_monai.datasets.compact_distances import CompactField, stored
from near_monai.errors import NearError
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.working_space import WorkingSpace

#: mm of background kept around a shape.
PADDING_MM = 8.0
#: Signed distances ``(C, D, H, W)`` in mm on the working grid, one channel per structure, and the world affine of it.
Distances = tuple[torch.Tensor, NDArray[np.floating]]
#: Some hundred kB each: a training set of usual size is read once, and memory does not grow with a large one.
_read = lru_cache(maxsize=128)(CompactField.load)

Made = TypeVar("Made")


@dataclass(frozen=True)
class Channel:
    """How one structure of a training case is corrupted.

    Attributes:
        tubular: it is a vessel, see :class:`near_monai.CorruptLabel`.
        scale: errors are so many times larger than those of a coronary.
    """

    tubular: bool = True
    scale: float = 1.0

    def corrupt(
        self, field: NDArray[np.float32], spacing: ArrayLike, level: float, rng: np.random.RandomState
    ) -> NDArray[np.bool_]:
        """Noisy mask of ``field`` ``(X, Y, Z)``, in mm, right to 3 mm times the scale."""
        corruption = CorruptLabel(level, tubular=self.tubular)
        corruption.set_random_state(state=rng)
        if self.scale == 1.0:
            return corruption(field, spacing)
        return corruption(field / np.float32(self.scale), np.asarray(spacing) / self.scale)


@dataclass(frozen=True)
class TrainingCase:
    """One training case: signed distances on the working grid, of one structure or of several that fit together.

    Attributes:
        name: case name.
        stored: the distances, or the file that holds them.
        grid: the isotropic working grid.
        affine: 4 x 4 world affine of that grid.
        channels: what is known of every channel.
        order: the channels by fusion priority, winner first.
        structures: what they show, one per channel.
        own: made from a label map of the user's, not generated.
    """

    name: str
    stored: CompactField | Path
    grid: Grid
    affine: NDArray[np.float64]
    channels: tuple[Channel, ...] = (Channel(),)
    order: tuple[int, ...] = (0,)
    structures: tuple[Structure, ...] = (VESSEL,)
    own: bool = False

    @property
    def field(self) -> CompactField:
        """The distances, read if a file holds them."""
        return _read(self.stored) if isinstance(self.stored, Path) else self.stored


def cached_case(
    name: str,
    state: str,
    make: Callable[[], Distances],
    space: WorkingSpace,
    cache: str | Path | None,
    structures: tuple[Structure, ...] = (VESSEL,),
    own: bool = False,
) -> TrainingCase:
    """A training case whose distances are made once.

    Args:
        name: of the case.
        state: digits that change with whatever decides what its distances are.
        make: makes them; those of a single structure in its scale.
        space: the working space.
        cache: folder in which they are kept; ``None`` or empty to keep them in memory.
        structures: what they show, one per channel.
        own: made from a label map of the user's.

    Raises:
        NearError: a label map has no surface to learn from, or whatever ``make`` raises.
    """

    def compact() -> tuple[CompactField, NDArray[np.floating]]:
        distance, affine = make()
        field = CompactField.of(distance, space.truncate, space.spacing)
        if own and not len(field.surface):
            raise NearError(
                f"{name}: no surface on a grid of {space.spacing:g} mm; expected a class that neither fills its volume "
                "nor is thinner than a voxel of that size"
            )
        return field, affine

    field, shape, affine = stored(cache, name, state, compact)
    several = len(structures) > 1
    channels = tuple(Channel(row.tubular, row.scale if several else 1.0) for row in structures)
    order = tuple(sorted(range(len(structures)), key=lambda n: structures[n].rank))
    grid = Grid.of(shape, (space.spacing,) * 3)
    return TrainingCase(name, field, grid, affine, channels, order, structures, own)


class _Numbered(Dataset[Made]):
    """What ``make`` makes of 0 to ``count`` - 1."""

    def __init__(self, make: Callable[[int], Made], count: int) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Made:
        return self.make(number)


def made_on_all_cores(make: Callable[[int], Made], count: int) -> Iterator[Made]:
    """``make(0)`` to ``make(count - 1)``, in order, shared among as many processes as torch may use threads.

    Where processes do not begin as copies of this one, all is made in this one: ``make`` could not be sent to them.

    Raises:
        NearError: whatever ``make`` raises.
    """
    processes = min(torch.get_num_threads(), count)
    copies = multiprocessing.get_start_method() == "fork" and processes > 1
    yield from DataLoader(
        _Numbered(make, count),
        batch_size=None,
        num_workers=processes if copies else 0,
        generator=torch.Generator(),  # torch's own would be moved on
    )
