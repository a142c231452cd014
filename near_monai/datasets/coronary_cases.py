"""Where shapes come from: generated coronary trees with exact truth, and the user's own label maps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from tqdm import tqdm

from near_monai.anatomy import CORONARY, VESSEL
from near_monai.corruption.corrupt_label import CorruptLabel
from near_monai.data.case_lists import DESCRIPTION, LABEL_FOLDER, TRUTH_FOLDER, find_cases
from near_monai.datasets.label_shapes import LabelShapes
from near_monai.datasets.point_dataset import Item
from near_monai.datasets.training_case import PADDING_MM, Distances, TrainingCase, cached_case, made_on_all_cores
from near_monai.errors import NearError
from near_monai.formats.atomic_writing import claim_empty, digest, write_json
from near_monai.formats.label_maps import LabelMap, write_label
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.phantoms.coronary import coronary_tree
from near_monai.version import __version__

logger = logging.getLogger("near_monai")

#: Noisy and true label map and their grid.
NoisyAndTrue = tuple[NDArray[np.uint8], NDArray[np.uint8], Grid]


def phantom_cases(count: int, seed: int, space: WorkingSpace, cache: str | Path | None = None) -> list[TrainingCase]:
    """``count`` coronary trees with exact signed distances; tree ``n`` depends on (seed, n) alone.

    ``cache`` is as for :class:`near_monai.LabelShapes`.
    """

    def distances(number: int) -> Distances:
        tree = coronary_tree(np.random.default_rng((seed, number)))
        grid = tree.grid((space.spacing,) * 3, PADDING_MM)
        distance = torch.as_tensor(tree.signed_distance(grid, space.truncate, CORONARY))
        return distance[None], np.diag([*grid.spacing, 1.0])

    def make(number: int) -> TrainingCase:
        return cached_case(f"phantom_{seed}_{number:04d}", state, partial(distances, number), space, cache)

    state = digest([__version__, *astuple(space)])
    return list(tqdm(made_on_all_cores(make, count), "generated trees", count, delay=2))


def training_cases(
    dataset_dir: str, shapes: LabelShapes, phantoms: int, seed: int, cache: str | None = None
) -> list[TrainingCase]:
    """The user's labels (if ``dataset_dir`` is not empty), by ``shapes``, and ``phantoms`` generated trees.

    ``cache`` is as for :class:`near_monai.LabelShapes`.

    Raises:
        NearError: there are neither, or no label can be used.
    """
    own = own_cases(dataset_dir, shapes)
    cases = own + phantom_cases(phantoms, seed, shapes.space, cache)
    logger.info("%d label maps and %d generated trees to train on", len(own), len(cases) - len(own))
    if not cases:
        raise NearError("nothing to train on: give --dataset_dir, or phantoms above 0")
    return cases


def own_cases(dataset_dir: str, shapes: Callable[[Iterable[Item]], list[TrainingCase]]) -> list[TrainingCase]:
    """The label maps of ``dataset_dir`` as ``shapes`` makes them, if given.

    Args:
        dataset_dir: see :func:`near_monai.data.case_lists.find_cases`.
        shapes: see :mod:`near_monai.datasets.label_shapes`.

    Raises:
        NearError: there are none, or none can be used.
    """
    return shapes(_items(dataset_dir)) if dataset_dir else []


def _items(dataset_dir: str) -> Iterator[Item]:
    for case in find_cases(dataset_dir):
        yield {"label": str(case.label), "name": case.name}


def phantom_pair(
    seed: int,
    number: int,
    level: float | str,
    spacing: tuple[float, float, float] | None = None,
    errors: str = "all",
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Grid]:
    """Tree ``number`` of ``seed`` as a scanner's label map: noisy mask, true mask and their grid.

    Args:
        seed: seed of the set.
        number: number of the tree in the set.
        level: noise level, see :class:`near_monai.CorruptLabel`.
        spacing: voxel size in mm; drawn from what public label maps have if ``None``.
        errors: kinds of errors, see :class:`near_monai.CorruptLabel`.
    """
    rng = np.random.default_rng((seed, number, 1))  # the 1: never the trees of phantom_cases, whatever the seed
    tree = coronary_tree(rng)
    in_plane, slices = rng.uniform(0.35, 0.7), rng.uniform(0.35, 0.625)
    grid = tree.grid(spacing or (in_plane, in_plane, slices), PADDING_MM)
    distance = tree.signed_distance(grid, 3.0, CORONARY)
    corrupt = CorruptLabel(level, errors)
    corrupt.set_random_state(seed=int(rng.integers(2**31)))
    return corrupt(distance, grid.spacing), distance < 0, grid


def phantom_maps(
    seed: int, number: int, level: float | str, spacing: tuple[float, float, float] | None = None
) -> NoisyAndTrue:
    """:func:`phantom_pair` as label maps."""
    noisy, truth, grid = phantom_pair(seed, number, level, spacing)
    return noisy * np.uint8(CORONARY), truth * np.uint8(CORONARY), grid


def phantom_items(
    count: int, seed: int, level: float | str, spacing: tuple[float, float, float] | None = None
) -> list[dict[str, Any]]:
    """Generated trees to evaluate on, see :func:`pair_item`."""
    return [pair_item(f"phantom_{seed}_{n:04d}", *phantom_maps(seed, n, level, spacing)) for n in range(count)]


def pair_item(name: str, noisy: NDArray[np.uint8], truth: NDArray[np.uint8], grid: Grid) -> dict[str, Any]:
    """An item to evaluate on: label maps `image` (noisy) and `label` (true), ``(1, X, Y, Z)``, and `name`."""
    affine = torch.diag(torch.tensor([*grid.spacing, 1.0], dtype=torch.float64))
    image, label = (MetaTensor(torch.as_tensor(array[None]), affine) for array in (noisy, truth))
    return {"image": image, "label": label, "name": name}


def evaluation_items(dataset_dir: str, phantoms: int, seed: int, level: float | str) -> list[dict[str, Any]]:
    """Items to evaluate on: the cases of ``dataset_dir`` that have a truth, or generated trees if it is empty.

    Raises:
        NearError: no case of ``dataset_dir`` has a truth.
    """
    if not dataset_dir:
        return phantom_items(phantoms, seed, level)
    known = [case for case in find_cases(dataset_dir) if case.truth is not None]
    if not known:
        raise NearError(f"{dataset_dir}: no case has a truth; expected a folder truthTr beside labelsTr")
    return [{"image": str(case.label), "label": str(case.truth), "name": case.name} for case in known]


def table_items(cases: list[TrainingCase]) -> list[dict[str, Any]]:
    """Validation items of the auto-decoder: `image` (case index), `label` ``(1, D, H, W)`` and `shape` ``(3,)``."""
    return [
        {"image": number, "label": (case.field.dense() < 0).float(), "shape": torch.tensor(case.grid.shape)}
        for number, case in enumerate(cases)
    ]


def write_phantoms(output: Path, count: int, seed: int, level: float | str, quiet: bool = False) -> None:
    """Write a data set of generated trees, see :func:`write_set`."""
    names = [f"phantom_{seed}_{number:04d}" for number in range(count)]
    write_set(
        output,
        "generated coronary trees",
        {VESSEL.name: VESSEL.index},
        names,
        lambda n: phantom_maps(seed, n, level),
        level,
        quiet,
    )


def write_set(
    output: Path,
    title: str,
    labels: dict[str, int],
    names: Sequence[str],
    pair: Callable[[int], NoisyAndTrue],
    level: float | str,
    quiet: bool = False,
) -> None:
    """Write a generated data set: ``labelsTr`` (noisy), ``truthTr`` and an MSD ``dataset.json``.

    Args:
        output: folder to write to.
        title: name of the set.
        labels: name to class index.
        names: of the cases.
        pair: noisy and true label map of case ``n``, uint8, and their grid.
        level: noise level, checked before anything is made.
        quiet: no progress bar.

    Raises:
        NearError: unknown noise level, or ``output`` is in use.
    """
    CorruptLabel(level)
    claim_empty(output)
    files = [f"{name}.nii.gz" for name in names]
    for number, name in enumerate(tqdm(files, desc="phantom", unit="case", disable=quiet)):
        *arrays, grid = pair(number)
        for folder, array in zip((LABEL_FOLDER, TRUTH_FOLDER), arrays, strict=True):
            file = LabelMap.from_array(array, np.diag([*grid.spacing, 1.0]))
            write_label(output / folder / name, file.array, file)
    description = {
        "name": title,
        "labels": {"background": 0, **labels},
        "numTraining": len(files),
        "file_ending": ".nii.gz",
        "training": [{"label": f"./{LABEL_FOLDER}/{n}", "truth": f"./{TRUTH_FOLDER}/{n}"} for n in files],
    }
    write_json(output / DESCRIPTION, description)


def parse_level(text: str) -> float | str:
    """A noise level from the command line: a name, or a number."""
    try:
        return float(text)
    except ValueError:
        return text
