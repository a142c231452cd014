"""Where shapes come from: generated coronary trees with exact truth, and the user's own label maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from numpy.typing import NDArray
from tqdm import tqdm

from near_monai.anatomy import CORONARY
from near_monai.cases import DESCRIPTION, LABEL_FOLDER, TRUTH_FOLDER, find_cases
from near_monai.coords import Grid, spacing_of
from near_monai.coronary import coronary_tree
from near_monai.corruption import CorruptLabel
from near_monai.datasets import Channel, TrainingCase
from near_monai.errors import NearError
from near_monai.io import LabelMap, claim_empty, write_json, write_label
from near_monai.space import WorkingSpace
from near_monai.transforms import CropToLabeld, PickLabeld, ReadLabeld, Shrinkd, SignedDistanced, WorkingGridd

#: mm of background kept around a shape.
MARGIN_MM = 8.0


def phantom_cases(count: int, seed: int, space: WorkingSpace) -> list[TrainingCase]:
    """``count`` coronary trees with exact signed distances; tree ``n`` depends on (seed, n) alone."""
    cases = []
    for number in range(count):
        tree = coronary_tree(np.random.default_rng((seed, number)))
        grid = tree.grid((space.spacing,) * 3, MARGIN_MM)
        distance = torch.as_tensor(tree.signed_distance(grid, space.truncate, CORONARY))
        cases.append(
            TrainingCase(f"phantom_{seed}_{number:04d}", distance.half()[None], grid, np.diag([*grid.spacing, 1.0]))
        )
    return cases


def label_cases(
    source: str | Path, label: int | str, space: WorkingSpace, scale: float = 1.0, tubular: bool = True
) -> list[TrainingCase]:
    """The label maps of ``source`` (see :func:`near_monai.cases.find_cases`) as training shapes.

    Args:
        source: the label maps.
        label: class, see :func:`near_monai.transforms.choose_label`.
        space: the working space.
        scale: the shapes are made so many times smaller.
        tubular: they are vessels.

    Raises:
        NearError: nothing usable in ``source``; the message names the file.
    """
    prepare = Compose(
        [
            ReadLabeld("label"),
            PickLabeld("label", label),
            Shrinkd("label", scale),
            CropToLabeld("label", MARGIN_MM),
            SignedDistanced("label", space.truncate),
            WorkingGridd("label", space.spacing),
        ]
    )
    cases = []
    for case in find_cases(source):
        distance = _run(prepare, {"label": case.label})["label"]
        grid = Grid.of(distance.shape[1:], spacing_of(distance.affine))
        cases.append(
            TrainingCase(case.name, distance.as_tensor().half(), grid, distance.affine.numpy(), (Channel(tubular),))
        )
    return cases


def training_cases(
    dataset_dir: str, label: int | str, phantoms: int, seed: int, space: WorkingSpace
) -> list[TrainingCase]:
    """The user's labels (if ``dataset_dir`` is not empty) and ``phantoms`` generated trees.

    Raises:
        NearError: there are neither, or a label cannot be used.
    """
    own = label_cases(dataset_dir, label, space) if dataset_dir else []
    cases = own + phantom_cases(phantoms, seed, space)
    if not cases:
        raise NearError("nothing to train on: give --dataset_dir, or phantoms above 0")
    return cases


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
        level: noise level, see :class:`near_monai.corruption.CorruptLabel`.
        spacing: voxel size in mm; drawn from what public label maps have if ``None``.
        errors: kinds of errors, see :class:`near_monai.corruption.CorruptLabel`.
    """
    rng = np.random.default_rng((seed, number, 1))  # the 1: never the trees of phantom_cases, whatever the seed
    tree = coronary_tree(rng)
    in_plane, slices = rng.uniform(0.35, 0.7), rng.uniform(0.35, 0.625)
    grid = tree.grid(spacing or (in_plane, in_plane, slices), MARGIN_MM)
    distance = tree.signed_distance(grid, 3.0, CORONARY)
    corrupt = CorruptLabel(level, errors)
    corrupt.set_random_state(seed=int(rng.integers(2**31)))
    return corrupt(distance, grid.spacing), distance < 0, grid


def phantom_items(
    count: int, seed: int, level: float | str, spacing: tuple[float, float, float] | None = None
) -> list[dict[str, Any]]:
    """Generated trees to evaluate on: label maps `image` (noisy) and `label` (true), ``(1, X, Y, Z)``, and `name`."""
    items = []
    for number in range(count):
        noisy, truth, grid = phantom_pair(seed, number, level, spacing)
        affine = torch.diag(torch.tensor([*grid.spacing, 1.0], dtype=torch.float64))
        image, label = (MetaTensor(torch.as_tensor(m[None] * np.uint8(CORONARY)), affine) for m in (noisy, truth))
        items.append({"image": image, "label": label, "name": f"phantom_{seed}_{number:04d}"})
    return items


def inference_items(dataset_dir: str) -> list[dict[str, str]]:
    """Items to refine: `image` (path of a label map) and `name`, for every case of ``dataset_dir``.

    Raises:
        NearError: ``dataset_dir`` is empty or holds no label maps.
    """
    if not dataset_dir:
        raise NearError("no labels to refine: give --dataset_dir (a folder, a dataset.json, a datalist or one file)")
    return [{"image": str(case.label), "name": case.name} for case in find_cases(dataset_dir)]


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
        {"image": number, "label": (case.distance < 0).float(), "shape": torch.tensor(case.grid.shape)}
        for number, case in enumerate(cases)
    ]


def write_phantoms(output: Path, count: int, seed: int, level: float | str, quiet: bool = False) -> None:
    """Write a data set of generated trees: ``labelsTr`` (noisy), ``truthTr`` and an MSD ``dataset.json``.

    Raises:
        NearError: unknown noise level, or ``output`` is in use.
    """

    def pairs() -> Iterator[tuple[str, LabelMap, LabelMap]]:
        for number in tqdm(range(count), desc="phantom", unit="tree", disable=quiet):
            noisy, truth, grid = phantom_pair(seed, number, level)
            affine = np.diag([*grid.spacing, 1.0])
            files = [LabelMap.from_array(mask * np.uint8(CORONARY), affine) for mask in (noisy, truth)]
            yield f"phantom_{seed}_{number:04d}.nii.gz", files[0], files[1]

    CorruptLabel(level)  # refuses an unknown level before anything is made
    write_set(output, "generated coronary trees", {"coronary": CORONARY}, pairs())


def write_set(
    output: Path, title: str, labels: dict[str, int], pairs: Iterable[tuple[str, LabelMap, LabelMap]]
) -> None:
    """Write noisy and true label maps as a data set.

    Args:
        output: folder to write to.
        title: name of the set.
        labels: name to class index.
        pairs: file name, noisy map and true map of every case.

    Raises:
        NearError: ``output`` is in use.
    """
    claim_empty(output)
    names = []
    for name, noisy, truth in pairs:
        for folder, file in ((LABEL_FOLDER, noisy), (TRUTH_FOLDER, truth)):
            write_label(output / folder / name, file.array, file)
        names.append(name)
    description = {
        "name": title,
        "labels": {"background": 0, **labels},
        "numTraining": len(names),
        "file_ending": ".nii.gz",
        "training": [{"label": f"./{LABEL_FOLDER}/{n}", "truth": f"./{TRUTH_FOLDER}/{n}"} for n in names],
    }
    write_json(output / DESCRIPTION, description)


def parse_level(text: str) -> float | str:
    """A noise level from the command line: a name, or a number."""
    try:
        return float(text)
    except ValueError:
        return text


def _run(transform: Compose, item: dict[str, Any]) -> dict[str, Any]:
    """Run ``transform`` without MONAI's wrapping, which would hide the one line that says what is wrong."""
    for step in transform.transforms:
        item = step(item)
    return item
