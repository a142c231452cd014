"""Do refined labels train a better network? A MONAI U-Net on rendered CT volumes, with one set of labels or another.

    python -m benchmarks.downstream -o OUT [--level moderate] [--cases 12] [--tests 6] [--steps 1200] [--seeds 3]

The volumes are synthetic (:mod:`benchmarks.rendered_ct`), and so is the noise of the labels. All networks see the same
volumes for the same number of steps and differ in their labels alone; they are tested against the truth of other
hearts. Rows: noisy labels, the best Gaussian (chosen by the truth, which nobody knows), ``refine``, ``refine`` and
``dataset --ignore-uncertain``, ``consensus`` of two noisy labels, and true labels. Everything that is finished is kept
in OUT: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import DataLoader, Dataset
from monai.inferers import SlidingWindowInferer
from monai.losses import MaskedDiceLoss
from monai.networks.nets import UNet
from monai.transforms import Compose, LoadImaged, RandCropByPosNegLabeld, RandFlipd, ScaleIntensityRanged, ToTensord
from monai.utils import set_determinism
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import binary_cross_entropy
from tqdm import tqdm

from benchmarks.methods import GAUSSIANS, best_setting
from benchmarks.rendered_ct import rendered_ct
from near_monai.anatomy import CORONARY, VESSEL
from near_monai.corruption.corrupt_label import CorruptLabel
from near_monai.exports.relabelled_dataset import exchange_labels
from near_monai.formats.atomic_writing import make_folder, write_json, write_text
from near_monai.formats.label_maps import LabelMap, read_label, write_label
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.distance import signed_distance
from near_monai.metrics.mask_metrics import METRICS, Pair, dice
from near_monai.metrics.score_tables import interval95
from near_monai.refinement.consensus_folders import consensus_folders
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.options import Options

Mask = NDArray[np.bool_]

SPACING = (0.7, 0.7, 0.7)
#: Side of a window in voxels in training and in tests, windows per step, and how sure F must be of a voxel.
WINDOW, TEST_WINDOW, BATCH, SURE = 48, 64, 2, 0.8
#: The label of voxels that no loss sees, as ``dataset --ignore-uncertain`` numbers it.
IGNORED = CORONARY + 1
NOISY, FILTERED, REFINED, IGNORING, AGREED, TRUE = ROWS = (
    "noisy",
    "best filter",
    "refined",
    "refined, uncertain ignored",
    "consensus of two",
    "true",
)
#: Where ``prepare`` puts the labels of every row.
FOLDERS = {
    NOISY: "noisy/labelsTr",
    FILTERED: "filtered",
    REFINED: "refined",
    IGNORING: "ignoring/labelsTr",
    AGREED: "agreed",
    TRUE: "noisy/truthTr",
}
MEASURES = ("dice", "cldice", "surface_dice_1mm", "betti0_error")


def prepare(output: Path, options: argparse.Namespace) -> None:
    """Volumes, truths, and the labels of every row, as files."""
    first, second = output / "noisy", output / "second/labelsTr"
    names = [f"heart_{number:03d}.nii.gz" for number in range(options.cases + options.tests)]
    for number, name in enumerate(tqdm(names, "hearts", unit="case")):
        volume, truth, grid = rendered_ct(np.random.default_rng((options.seed, number)), SPACING)
        folder = first if number < options.cases else output / "test"
        make_folder(folder / "imagesTr")
        nib.save(nib.Nifti1Image(volume, np.diag([*SPACING, 1.0])), folder / "imagesTr" / name)
        _save(folder / "truthTr" / name, truth * np.uint8(CORONARY), grid)
        if folder == first:
            for place, draw in ((first / "labelsTr", 0), (second, 1)):
                corrupt = CorruptLabel(options.level)
                corrupt.set_random_state(seed=options.seed * 10_000 + number * 2 + draw)
                noisy = corrupt(signed_distance(truth, SPACING), SPACING)
                _save(place / name, noisy * np.uint8(CORONARY), grid)
    names = names[: options.cases]
    pairs = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    labels = {"background": 0, VESSEL.name: CORONARY}
    write_json(first / "dataset.json", {"labels": labels, "file_ending": ".nii.gz", "training": pairs})
    _filter(output, names)
    refine_files(first / "labelsTr", output / FOLDERS[REFINED], Options(label=CORONARY, save_probability=True))
    exchange_labels(output / FOLDERS[REFINED], first, output / "ignoring", SURE)
    consensus_folders([first / "labelsTr", second], output / FOLDERS[AGREED], CORONARY)


def _save(path: Path, array: NDArray[Any], grid: Grid) -> None:
    file = LabelMap.from_array(array, np.diag([*grid.spacing, 1.0]))
    write_label(path, file.array, file)


def _mask(path: Path) -> Mask:
    return np.asarray(read_label(path).array == CORONARY)


def _filter(output: Path, names: Sequence[str]) -> None:
    """The Gaussian with the best mean Dice over the training cases."""
    grids = {name: read_label(output / FOLDERS[NOISY] / name).grid for name in names}
    truths = {name: _mask(output / FOLDERS[TRUE] / name) for name in names}
    found = {
        name: {setting: method(_mask(output / FOLDERS[NOISY] / name), grid) for setting, method in GAUSSIANS.items()}
        for name, grid in grids.items()
    }
    reached = [
        {setting: dice(Pair(mask, truths[name], SPACING)) for setting, mask in masks.items()}
        for name, masks in found.items()
    ]
    best = best_setting(reached)
    for name in names:
        _save(output / FOLDERS[FILTERED] / name, found[name][best] * np.uint8(CORONARY), grids[name])


def items(images: Path, labels: Path) -> list[dict[str, Any]]:
    """Volumes and labels, loaded."""
    load = Compose(
        [
            LoadImaged(("image", "label"), ensure_channel_first=True),
            ScaleIntensityRanged("image", -200, 600, -1, 1, clip=True),
        ]
    )
    return [load({"image": str(path), "label": str(labels / path.name)}) for path in sorted(images.glob("*.nii.gz"))]


def loss_of(probability: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Dice and cross-entropy of ``(B, 1, X, Y, Z)`` each; ignored voxels count in neither."""
    seen, target = (label != IGNORED).float(), (label == CORONARY).float()
    dice_loss = MaskedDiceLoss(batch=True)(probability, target, seen)
    return dice_loss + binary_cross_entropy(probability, target, weight=seen)


def trained(cases: list[dict[str, Any]], seed: int, steps: int) -> nn.Module:
    """A U-Net after ``steps`` steps of :func:`loss_of` on random windows."""
    set_determinism(seed)
    windows = Compose(
        [
            RandCropByPosNegLabeld(("image", "label"), "label", [WINDOW] * 3, pos=2, neg=1, allow_smaller=False),
            *(RandFlipd(("image", "label"), 0.5, axis) for axis in range(3)),
            ToTensord(("image", "label"), track_meta=False),
        ]
    )
    # with one output channel its last residual unit would squeeze everything through a single non-negative map
    unet = nn.Sequential(
        UNet(3, 1, 8, (8, 16, 32, 64), (2, 2, 2), num_res_units=1, norm="instance"), nn.Conv3d(8, 1, 1)
    )
    optimizer = torch.optim.AdamW(unet.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    sampler = torch.utils.data.RandomSampler(cases, replacement=True, num_samples=steps * BATCH)
    for batch in DataLoader(Dataset(cases, windows), batch_size=BATCH, sampler=sampler):
        loss = loss_of(unet(batch["image"]).sigmoid(), batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return unet.eval()


@torch.no_grad()
def tested(unet: nn.Module, cases: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Scores of every case against its truth."""
    infer = SlidingWindowInferer([TEST_WINDOW] * 3, sw_batch_size=2, overlap=0.25, mode="gaussian")
    found = []
    for case in cases:
        logits = infer(case["image"].as_tensor()[None], unet)
        assert isinstance(logits, torch.Tensor)  # one tensor in, one out
        found.append(scores(np.asarray(logits[0, 0] > 0), np.asarray(case["label"][0] == CORONARY)))
    return found


def run(output: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every row with every seed; those that are kept are read."""
    kept = output / "runs.jsonl"
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {(one["row"], one["seed"]) for one in done}
    tests = items(output / "test/imagesTr", output / "test/truthTr")
    todo = [(row, seed) for seed in range(options.seeds) for row in ROWS if (row, seed) not in known]
    for row, seed in tqdm(todo, unit="network"):
        unet = trained(items(output / "noisy/imagesTr", output / FOLDERS[row]), seed, options.steps)
        done.append({"row": row, "seed": seed, "scores": tested(unet, tests)})
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(done[-1]) + "\n")
    return done


def scores(mask: Mask, truth: Mask) -> dict[str, float]:
    """Every figure of a mask against the truth."""
    pair = Pair(mask, truth, SPACING)
    return {metric: float(METRICS[metric](pair)) for metric in MEASURES}


def label_scores(output: Path) -> dict[str, list[dict[str, float]]]:
    """How good the labels are that the networks learned from."""
    names = sorted(path.name for path in (output / FOLDERS[TRUE]).glob("*.nii.gz"))
    truths = {name: _mask(output / FOLDERS[TRUE] / name) for name in names}
    return {
        row: [scores(_mask(output / folder / name), truth) for name, truth in truths.items()]
        for row, folder in FOLDERS.items()
    }


def table(done: Sequence[dict[str, Any]], labels: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: means over seeds and test hearts, and the gain in Dice over noisy labels, paired over hearts."""
    lines = [
        "| trained on | Dice of these labels | Dice | clDice | surface Dice 1 mm | Betti-0 error | "
        "better in Dice than noisy by | than the best filter by |",
        "|---" * 8 + "|",
    ]
    values = {row: _values(done, row) for row in ROWS}
    for row in ROWS:
        cells = [row, f"{np.mean([one['dice'] for one in labels[row]]):.3f}"]
        cells += [f"{mean:.3f}" for mean in values[row].mean((0, 1))]
        cells += ["" if row == other else _gain(values[row] - values[other]) for other in (NOISY, FILTERED)]
        lines.append("| " + " | ".join(cells) + " |")
    seeds, hearts, _ = values[NOISY].shape
    return "\n".join([*lines, "", f"{seeds} seeds, {hearts} test hearts; intervals of 95 % over hearts."]) + "\n"


def _values(done: Sequence[dict[str, Any]], row: str) -> NDArray[np.float64]:
    """Scores ``(seed, heart, metric)``."""
    runs = sorted((one for one in done if one["row"] == row), key=lambda one: one["seed"])
    return np.array([[[case[metric] for metric in MEASURES] for case in one["scores"]] for one in runs])


def _gain(difference: NDArray[np.float64]) -> str:
    """Mean gain in Dice, its interval over hearts, and the spread of the mean over seeds."""
    hearts, seeds = difference[..., 0].mean(0), difference[..., 0].mean(1)
    low, high = interval95(hearts) or (np.nan, np.nan)
    return f"{hearts.mean():+.3f} ({low:+.3f} to {high:+.3f}; seeds {seeds.min():+.3f} to {seeds.max():+.3f})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    parser.add_argument("--level", default="moderate", help="noise of the labels")
    parser.add_argument("--cases", type=int, default=12, help="hearts to train on")
    parser.add_argument("--tests", type=int, default=6, help="hearts to test on")
    parser.add_argument("--steps", type=int, default=1200, help="training steps of every network")
    parser.add_argument("--seeds", type=int, default=3, help="networks per row")
    parser.add_argument("--seed", type=int, default=2024, help="seed of hearts and noise")
    options = parser.parse_args(arguments)
    make_folder(options.output)
    prepared = options.output / "prepared.json"
    if not prepared.exists():
        prepare(options.output, options)
        write_json(prepared, {key: value for key, value in vars(options).items() if key != "output"})
    done = run(options.output, options)
    result = table(done, label_scores(options.output))
    write_text(options.output / "table.md", result)
    print(result)


if __name__ == "__main__":
    main()
