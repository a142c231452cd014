"""Whole hearts as training cases, as noisy and true label maps, and as a data set on disk."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, astuple
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from near_monai.anatomy import HEART, Anatomy, Structure
from near_monai.corruption.corrupt_label import CorruptLabel
from near_monai.datasets.coronary_cases import own_cases, pair_item, write_set
from near_monai.datasets.label_shapes import MapShapes, OrganShapes
from near_monai.datasets.training_case import (
    PADDING_MM,
    Channel,
    Distances,
    TrainingCase,
    cached_case,
    made_on_all_cores,
)
from near_monai.errors import NearError
from near_monai.formats.atomic_writing import digest
from near_monai.geometry.boxes import crop_box
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.distance import signed_distance
from near_monai.geometry.working_space import WorkingSpace
from near_monai.phantoms.exact_shapes import Phantom
from near_monai.phantoms.heart import label_map, structure_fields, whole_heart
from near_monai.version import __version__

#: False islands lie within this many mm of a structure, times its scale.
ISLANDS_MM = 15.0


def structure_cases(
    count: int,
    seed: int,
    space: WorkingSpace,
    weights: str,
    anatomy: Anatomy = HEART,
    cache: str | Path | None = None,
) -> list[TrainingCase]:
    """Single structures of ``count`` hearts, each in its own scale; heart ``n`` depends on (seed, n) alone.

    Args:
        count: number of hearts.
        seed: seed of the set.
        space: the working space, in mm of a structure of scale 1.
        weights: the structures that the table refines with these weights.
        anatomy: the table.
        cache: see :class:`near_monai.LabelShapes`.
    """

    @lru_cache(maxsize=1)  # the structures of one scale come one after the other
    def fields(number: int, scale: float) -> tuple[dict[int, NDArray[np.float32]], Grid]:
        heart = _training_heart(seed, number, anatomy)
        grid = heart.grid((scale * space.spacing,) * 3, scale * PADDING_MM)
        return structure_fields(heart, grid, scale * space.truncate, anatomy), grid

    def distances(number: int, structure: Structure) -> Distances:
        found, grid = fields(number, structure.scale)
        return _shrunk(structure, found[structure.index], grid)

    def make(number: int) -> list[TrainingCase]:
        cases = []
        for structure in own:
            name = f"heart_{seed}_{number:04d}_{structure.name}"
            state = digest([__version__, structure.scale, *astuple(space)])
            cases.append(cached_case(name, state, partial(distances, number, structure), space, cache, (structure,)))
        return cases

    own = sorted((s for s in anatomy.structures if s.weights == weights), key=lambda s: s.scale)
    return list(itertools.chain.from_iterable(made_on_all_cores(make, count)))


def _training_heart(seed: int, number: int, anatomy: Anatomy) -> Phantom:
    return whole_heart(np.random.default_rng((seed, number, 2)), anatomy)


def _shrunk(structure: Structure, field: NDArray[np.floating], grid: Grid) -> Distances:
    """One structure, cut out and scaled down."""
    box = crop_box(field < 0, grid.spacing, structure.size.mm(PADDING_MM))
    distance = torch.as_tensor(field[box.slices()] / np.float32(structure.scale))[None]
    return distance, np.diag([*(step / structure.scale for step in grid.spacing), 1.0])


def heart_cases(
    count: int, seed: int, space: WorkingSpace, anatomy: Anatomy = HEART, cache: str | Path | None = None
) -> list[TrainingCase]:
    """Whole hearts with one channel per structure of ``anatomy``, in its order, for one function of all of them.

    Args:
        count: number of hearts.
        seed: seed of the set; heart ``n`` depends on (seed, n) alone.
        space: the working space.
        anatomy: the table.
        cache: see :class:`near_monai.LabelShapes`.
    """

    def distances(number: int) -> Distances:
        heart = _training_heart(seed, number, anatomy)
        grid = heart.grid((space.spacing,) * 3, PADDING_MM)
        fields = structure_fields(heart, grid, space.truncate, anatomy)
        distance = torch.stack([torch.as_tensor(fields[s.index]) for s in anatomy.structures])
        return distance, np.diag([*grid.spacing, 1.0])

    def make(number: int) -> TrainingCase:
        name = f"heart_{seed}_{number:04d}"
        return cached_case(name, state, partial(distances, number), space, cache, anatomy.structures)

    state = digest([__version__, [asdict(s) for s in anatomy.structures], *astuple(space)])
    return list(made_on_all_cores(make, count))


def heart_training_cases(
    dataset_dir: str, shapes: MapShapes, hearts: int, seed: int, cache: str | None = None
) -> list[TrainingCase]:
    """The user's fused label maps (if ``dataset_dir`` is not empty), by ``shapes``, and ``hearts`` generated ones.

    Raises:
        NearError: there are neither, or no label map can be used.
    """
    return _some(own_cases(dataset_dir, shapes) + heart_cases(hearts, seed, shapes.space, shapes.anatomy, cache))


def organ_training_cases(
    dataset_dir: str, shapes: OrganShapes, hearts: int, seed: int, weights: str, cache: str | None = None
) -> list[TrainingCase]:
    """A class of the user's maps (if ``dataset_dir`` is not empty), and structures of ``hearts`` generated ones.

    Args:
        dataset_dir: see :func:`near_monai.data.case_lists.find_cases`.
        shapes: makes training cases of the user's maps.
        hearts: number of generated hearts.
        seed: theirs.
        weights: only structures that the heart's table refines with these.
        cache: see :class:`near_monai.LabelShapes`.

    Raises:
        NearError: there are neither, the table does not have the class, or no label can be used.
    """
    return _some(own_cases(dataset_dir, shapes) + structure_cases(hearts, seed, shapes.space, weights, cache=cache))


def _some(cases: list[TrainingCase]) -> list[TrainingCase]:
    if not cases:
        raise NearError("nothing to train on: give --dataset_dir, or hearts above 0")
    return cases


def corrupt_map(
    fields: dict[int, NDArray[np.floating]],
    spacing: Sequence[float],
    level: float | str,
    rng: np.random.RandomState,
    anatomy: Anatomy = HEART,
) -> NDArray[np.uint8]:
    """A noisy label map: every structure is corrupted in its own scale, the first in the priority keeps its voxels.

    Args:
        fields: class index to signed distance ``(X, Y, Z)`` in mm, right to 3 mm times the scale of the structure.
        spacing: voxel size in mm.
        level: noise level, see :class:`near_monai.CorruptLabel`.
        rng: source of randomness.
        anatomy: the table.
    """
    strength = CorruptLabel(level).level
    array = np.zeros(next(iter(fields.values())).shape, np.uint8)
    for index in reversed(anatomy.priority(fields)):
        structure = anatomy.by_index(index)
        channel = Channel(structure.tubular, structure.scale) if structure else Channel(tubular=False)
        box = crop_box(fields[index] < 0, spacing, ISLANDS_MM * channel.scale).slices()
        noisy = channel.corrupt(np.asarray(fields[index][box], np.float32), spacing, strength, rng)
        array[box][noisy] = index
    return array


def heart_pair(
    seed: int, number: int, level: float | str, spacing: tuple[float, float, float] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Grid]:
    """Heart ``number`` of ``seed`` as a label map: noisy, true, and their grid.

    Args:
        seed: seed of the set.
        number: number of the heart in the set.
        level: noise level, see :class:`near_monai.CorruptLabel`.
        spacing: voxel size in mm; drawn from what public label maps have if ``None``.
    """
    rng = np.random.default_rng((seed, number, 3))  # the 3: never the hearts of training, whatever the seed
    heart = whole_heart(rng)
    in_plane, slices = rng.uniform(0.5, 0.8), rng.uniform(0.5, 1.0)
    grid = heart.grid(spacing or (in_plane, in_plane, slices), PADDING_MM)
    fields = structure_fields(heart, grid, 3.0 * max(s.scale for s in HEART.structures))
    noisy = corrupt_map(fields, grid.spacing, level, np.random.RandomState(int(rng.integers(2**31))))
    return noisy, label_map(fields), grid


def noisy_map(
    truth: NDArray[np.uint8], spacing: Sequence[float], level: float | str, seed: int, anatomy: Anatomy = HEART
) -> NDArray[np.uint8]:
    """A true label map with noise on every structure; arguments as for :func:`corrupt_map`."""
    fields = {
        s.index: signed_distance(truth == s.index, spacing, s.size.mm(3.0))
        for s in anatomy.structures
        if (truth == s.index).any()
    }
    return corrupt_map(fields, spacing, level, np.random.RandomState(seed), anatomy)


def structure_items(
    count: int,
    seed: int,
    level: float | str,
    weights: str,
    spacing: tuple[float, float, float] | None = None,
    anatomy: Anatomy = HEART,
) -> list[dict[str, Any]]:
    """Single structures of generated hearts to evaluate on.

    Masks ``(1, X, Y, Z)`` `image` (noisy) and `label` (true), `name`, and `structure`, the name of what they show.
    """
    items = []
    for number in range(count):
        noisy, truth, grid = heart_pair(seed, number, level, spacing)
        for structure in anatomy.structures:
            index = structure.index
            if structure.weights != weights or not (noisy == index).any():
                continue
            box = crop_box((noisy == index) | (truth == index), grid.spacing, structure.size.mm(PADDING_MM))
            image, label = ((a[box.slices()] == index).astype(np.uint8) for a in (noisy, truth))
            name = f"heart_{seed}_{number:04d}_{structure.name}"
            items.append(pair_item(name, image, label, box.grid(grid)) | {"structure": structure.name})
    return items


def heart_items(
    count: int, seed: int, level: float | str, spacing: tuple[float, float, float] | None = None
) -> list[dict[str, Any]]:
    """Generated hearts to evaluate on, see :func:`near_monai.datasets.coronary_cases.pair_item`."""
    return [pair_item(f"heart_{seed}_{n:04d}", *heart_pair(seed, n, level, spacing)) for n in range(count)]


def write_hearts(output: Path, count: int, seed: int, level: float | str, quiet: bool = False) -> None:
    """Write a data set of generated hearts, see :func:`near_monai.datasets.coronary_cases.write_set`."""
    names = [f"heart_{seed}_{number:04d}" for number in range(count)]
    labels = {s.name: s.index for s in HEART.structures}
    write_set(output, "generated hearts", labels, names, lambda n: heart_pair(seed, n, level), level, quiet)
