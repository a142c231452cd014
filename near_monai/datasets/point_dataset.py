"""Training samples: a window of a case as the network will meet it, and points with their true occupancy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from monai.transforms import Randomizable

from near_monai.corruption.surface_errors import smooth_noise
from near_monai.datasets.point_sampling import band_share, draw_points
from near_monai.datasets.training_case import TrainingCase
from near_monai.errors import NearError
from near_monai.geometry.coordinates import Grid, sample_axes
from near_monai.geometry.distance import signed_distance
from near_monai.geometry.working_space import WorkingSpace

#: What a training case can be made of: a `label` (path, or image in memory), and a `name` if no path gives it.
Item = Mapping[Any, Any]


class PointDataset(Dataset, Randomizable):
    """Samples for F: what the source of z sees, points and their occupancy.

    With a ``window`` an item is a random window, seen through a random scanner grid and corrupted (`image`), with the
    clean shape's occupancy as target: the target is never the input. Without, an item is a whole case, known by its
    index: the auto-decoder's recipe.

    An item depends on (seed, epoch, index) alone, so any number of workers draws the same samples.

    Args:
        data: prepared cases, or items that ``shapes`` makes them of: a client such as MONAI Label hands over a list of
            mappings with the path of a `label`.
        space: the working space; the cases' grids have its spacing.
        length: items per epoch; one per case if ``None``.
        points: points per item.
        band_mm: half width of the boundary band in mm.
        curriculum: pairs ``(first epoch, band share)``.
        window: voxels per side of a window (a multiple of 4), or ``None`` for whole cases.
        max_level: corruption levels are drawn from [0, max_level].
        clean_share: share of windows that are not corrupted at all, so that clean labels are learnt to stay.
        texture_mm: the wall of a shape is roughened by up to this standard deviation before anything else. It belongs
            to the target: real labels are never as smooth as generated ones, and their texture is not noise.
        seed: seed of everything random.
        shapes: see :mod:`near_monai.datasets.label_shapes`.

    Attributes:
        given: whether ``data`` were items.

    Raises:
        NearError: there is no case, or none of the items can be used.

    Example:
        >>> import near_monai
        >>> space = near_monai.WorkingSpace()
        >>> shapes = near_monai.LabelShapes("auto", space)
        >>> dataset = near_monai.PointDataset([{"label": "case_1.nii.gz"}], space, points=256, shapes=shapes)
        >>> {key: tuple(value.shape) for key, value in dataset[0].items()}
        {'image': (1, 40, 40, 40), 'points': (256, 3), 'label': (2, 256)}
    """

    def __init__(
        self,
        data: Sequence[TrainingCase] | Sequence[Item],
        space: WorkingSpace,
        length: int | None = None,
        points: int = 4096,
        band_mm: float = 1.0,
        curriculum: Sequence[Sequence[float]] = ((1, 0.5),),
        window: int | None = 40,
        max_level: float = 1.0,
        clean_share: float = 0.1,
        texture_mm: float = 0.12,
        seed: int = 0,
        shapes: Callable[[Sequence[Item]], list[TrainingCase]] | None = None,
    ) -> None:
        items = [item for item in data if isinstance(item, Mapping)]
        cases = [case for case in data if isinstance(case, TrainingCase)]
        self.given = bool(items)
        super().__init__([*cases, *shapes(items)] if items and shapes else cases)
        if not self.data:
            raise NearError("nothing to train on: the list of training items is empty")
        self.space = space
        self.length = length or len(self.data)
        self.points = points
        self.band_mm = band_mm
        self.curriculum = curriculum
        self.window = window
        self.max_level = max_level
        self.clean_share = clean_share
        self.texture_mm = texture_mm
        self.seed = seed
        self._epoch = torch.ones((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return self.length

    @property
    def epoch(self) -> int:
        """The epoch whose samples are served, in loader processes, too, that live longer than an epoch."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (from 1) whose samples are served; call before a loader's iterator is made."""
        self._epoch.fill_(epoch)

    def randomize(self, data: Any = None) -> None:
        """Seed the state for item ``data`` of the current epoch."""
        self.set_random_state(seed=int(np.random.SeedSequence((self.seed, self.epoch, data)).generate_state(1)[0]))

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        """Item ``index``: `image` ``(C, n, n, n)`` or case index, `points` ``(N, 3)``, `label` ``(C + 1, N)``."""
        self.randomize(index)
        share = band_share(self.epoch, self.curriculum)
        if self.window is None:
            number = index % len(self.data)
            points, label = draw_points(self.data[number].field.dense(), self.points, share, self.band_mm, self.R)
            return {"image": number, "points": points, "label": label}
        number = int(self.R.randint(len(self.data)))
        clean = self._clean_window(number)
        pad = self._pad
        inner = clean[:, pad:-pad, pad:-pad, pad:-pad]
        # without context on one side a code cannot know: points keep away from the faces of the window
        points, label = draw_points(inner, self.points, share, self.band_mm, self.R, inner=0.8)
        return {"image": self._see(clean, self.data[number]), "points": points, "label": label}

    @property
    def _pad(self) -> int:
        """Voxels around a window that its distances need to be right up to the truncation."""
        return int(np.ceil(self.space.truncate / self.space.spacing))

    def _clean_window(self, number: int) -> torch.Tensor:
        """A padded window of case ``number``, randomly turned and mirrored; ``(C, n, n, n)`` distances in mm."""
        field = self.data[number].field
        channels = np.unique(field.surface[:, 0])
        # every structure is the middle of as many windows, however small it is; a window shows a stretch of vessel:
        # centres are drawn from the surface, which counts thin vessels more evenly than the volume does
        channel = channels[self.R.randint(len(channels))] if len(channels) > 1 else channels[0]
        centres = field.surface[field.surface[:, 0] == channel, 1:]
        size = (self.window or 0) + 2 * self._pad
        centre = centres[self.R.randint(len(centres))]
        start = centre - size // 2 + self.R.randint(-size // 6, size // 6 + 1, 3)
        window = field.window(start, (size,) * 3)
        noise = smooth_noise(self.R, window.shape[1:], (self.space.spacing,) * 3, 1.0)
        window += self.R.uniform(0, self.texture_mm) * torch.from_numpy(noise)
        window = window.permute(0, *(1 + self.R.permutation(3)).tolist())
        return window.flip([1 + axis for axis in range(3) if self.R.rand() < 0.5])

    def _see(self, clean: torch.Tensor, case: TrainingCase) -> torch.Tensor:
        """What the network sees of a padded window: corrupted on a random scanner grid, back on the working grid."""
        patch = Grid.of(clean.shape[1:], (self.space.spacing,) * 3)
        native = self._scanner_grid(patch)
        fields = sample_axes(clean[None], native.axes_in(patch))[0].numpy()
        level = 0.0 if self.R.rand() < self.clean_share else self.R.uniform(0, self.max_level)
        taken = np.zeros(native.shape, bool)
        distance = torch.empty(fields.shape)
        for channel in case.order:  # label maps do not overlap: the first in the priority keeps its voxels
            mask = case.channels[channel].corrupt(fields[channel], native.spacing, level, self.R) & ~taken
            taken |= mask
            distance[channel] = torch.as_tensor(signed_distance(mask, native.spacing, self.space.truncate))
        inner = patch.crop([self._pad] * 3, (self.window or 0,) * 3)
        return self.space.image(sample_axes(distance[None], inner.axes_in(native))[0])

    def _scanner_grid(self, patch: Grid) -> Grid:
        """A grid over ``patch`` with voxel sizes as scanners and public label sets have them."""
        # 0.3 to 0.8 mm on a working grid of 0.5 mm
        in_plane, slices = self.space.spacing * np.exp(self.R.uniform(np.log(0.6), np.log(1.6), 2))
        spacing = np.full(3, in_plane)
        spacing[self.R.randint(3)] = slices
        extent = np.asarray(patch.shape) * patch.spacing
        return Grid.of(np.ceil(extent / spacing), spacing, self.R.uniform(-0.5, 0.5, 3) * spacing)
