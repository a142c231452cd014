"""The judge of joints, pieces and ends: learned from torn trees, and how often it is right on unseen ones.

    python -m benchmarks.judge -o OUT [--trees 150] [--seed 9001] [--workers 2]

Every number comes from trees that the judge had not seen (a quarter of them is left out in turn). Writes
``judge.json``, learned from all trees, which is what the package ships; ``table.md`` with precision and recall at
several bounds and the calibration; and ``scores.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.calibration import curve, expected_calibration_error, reliability
from benchmarks.repair import mapper
from near_monai.datasets.coronary_cases import phantom_pair
from near_monai.formats.atomic_writing import claim_empty, write_json, write_text
from near_monai.geometry.working_space import WorkingSpace
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import load_network
from near_monai.repair.open_ends import end_features
from near_monai.repair.piece_features import piece_features
from near_monai.training.judge_training import Example, folds, learn, torn_example

BOUNDS = (0.2, 0.35, 0.5, 0.65, 0.8)


@cache
def _network() -> tuple[NearNetwork, WorkingSpace]:
    return load_network(device="cpu")


def make(number: int, seed: int) -> Example:
    """Torn tree ``number`` of ``seed``, and what is true of it."""
    _, truth, grid = phantom_pair(seed, number, "none")
    return torn_example(truth, grid, *_network(), np.random.default_rng((seed, number, 2)))


def held_out(examples: Sequence[Example]) -> dict[str, tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Probability and truth of all joints, pieces and ends, each judged by other trees than its own."""
    kinds = ("joints", "pieces", "ends")
    sure: dict[str, list[NDArray[np.float64]]] = {kind: [] for kind in kinds}
    true: dict[str, list[NDArray[np.bool_]]] = {kind: [] for kind in kinds}
    for others, part in folds(examples):
        judge = learn(others)
        for example in part:
            found = judge.joints(example.features)
            sure["joints"].append(found)
            sure["pieces"].append(judge.pieces(piece_features(example.pieces, example.joints, found)))
            ends = end_features(example.pieces, example.ends, example.joints, found)
            sure["ends"].append(judge.ends(ends))
            for kind, truth in zip(kinds, (example.right, example.vessel, example.goes_on), strict=True):
                true[kind].append(truth)
    return {kind: (np.concatenate(sure[kind]), np.concatenate(true[kind])) for kind in sure}


def figures(sure: NDArray[np.float64], true: NDArray[np.bool_]) -> dict[str, Any]:
    """Precision and recall at :data:`BOUNDS`, Brier score, calibration."""
    bins = reliability(sure, true)
    said = {bound: sure >= bound for bound in BOUNDS}
    return {
        "n": len(sure),
        "true": float(true.mean()),
        "brier": float(np.mean((sure - true) ** 2)),
        "calibration_error": expected_calibration_error(bins),
        "curve": [part.round(3).tolist() for part in curve(bins)],
        "precision": {bound: float(true[yes].mean()) for bound, yes in said.items()},
        "recall": {bound: float(yes[true].mean()) for bound, yes in said.items()},
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    bounds = [f"{bound:g}" for bound in BOUNDS]
    lines = ["| of | n | true | Brier | calibration error | precision / recall at " + " | ".join(bounds) + " |"]
    lines.append("|---" * (5 + len(bounds)) + "|")
    for kind, row in found.items():
        cells = [kind, row["n"], *(f"{row[key]:.3f}" for key in ("true", "brier", "calibration_error"))]
        cells += [f"{row['precision'][bound]:.3f} / {row['recall'][bound]:.3f}" for bound in BOUNDS]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "Calibration: said, and true share.", ""]
    for kind, row in found.items():
        lines.append(f"- {kind}: " + ", ".join(f"{p:.2f} {t:.2f}" for p, t in zip(*row["curve"], strict=True)))
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder")
    parser.add_argument("--trees", type=int, default=150)
    parser.add_argument("--seed", type=int, default=9001)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    claim_empty(options.output)
    with mapper(options.workers) as apply:
        made = apply(partial(make, seed=options.seed), range(options.trees))
        examples = list(tqdm(made, total=options.trees, unit="tree"))
    found = {kind: figures(*pair) for kind, pair in held_out(examples).items()}
    write_json(options.output / "judge.json", learn(examples).to_row())
    write_json(options.output / "scores.json", found)
    write_text(options.output / "table.md", table(found))
    print(table(found))


if __name__ == "__main__":
    main()
