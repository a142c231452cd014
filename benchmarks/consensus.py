"""Consensus of several noisy maps of one case, against what others make of them; paired, in the mean.

    python -m benchmarks.consensus -o OUT --truth DIR     # your true labels, several independent noises on each
    python -m benchmarks.consensus -o OUT --trees 4       # generated trees

Rows: majority vote (where half of the maps say yes, no), STAPLE (Warfield et al., 2004; SimpleITK), shape-based
averaging (Rohlfing and Maurer, 2007: the mean signed distance), the best single refined map *by the truth*, which
nobody knows, the mean single refined map, and the consensus. The last rows have two good maps and a very bad one.
Finished cases are kept in ``OUT/cases.jsonl``: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.sets import CORRUPTION_MARGIN_MM
from near_monai.anatomy import CORONARY, by_name
from near_monai.corruption.corrupt_label import CorruptLabel
from near_monai.data.case_lists import find_cases
from near_monai.data.class_selection import mask_of
from near_monai.datasets.coronary_cases import phantom_pair
from near_monai.formats.atomic_writing import make_folder, write_json, write_text
from near_monai.formats.label_maps import read_label
from near_monai.geometry.boxes import crop_box
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.distance import signed_distance
from near_monai.geometry.working_space import WorkingSpace
from near_monai.metrics.mask_metrics import METRICS, Pair
from near_monai.metrics.score_tables import interval95
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import load_network
from near_monai.refinement.agreed_mask import Seen, agreed_of, seen_in
from near_monai.repair.mask_repair import repair

Mask = NDArray[np.bool_]
Scores = dict[str, float]

OURS, BEST, SINGLE = "consensus", "best single refined", "mean single refined"
MEASURES = ("dice", "cldice", "surface_dice_1mm", "betti0_error")
#: Voxels of the generated trees in mm.
SPACING = (0.6, 0.6, 0.5)
COUNTS, LEVELS = (2, 3, 5), ("moderate", "severe")
#: Noise of a very bad map, and by how many voxels it is shifted.
BAD_LEVEL, BAD_SHIFT = 1.5, 4


def majority(masks: Sequence[Mask], grid: Grid) -> Mask:
    """More than half of the maps."""
    return np.asarray(np.sum(masks, axis=0) * 2 > len(masks))


def staple(masks: Sequence[Mask], grid: Grid) -> Mask:
    """Probability above 0.5 by STAPLE."""
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks]
    return np.asarray(sitk.GetArrayFromImage(sitk.STAPLE(images, 1.0)) > 0.5)


def shape_average(masks: Sequence[Mask], grid: Grid) -> Mask:
    """Where the mean signed distance is negative."""
    return np.asarray(np.mean([signed_distance(mask, grid.spacing) for mask in masks], axis=0) < 0)


OTHERS: dict[str, Callable[[Sequence[Mask], Grid], Mask]] = {
    "majority vote": majority,
    "STAPLE": staple,
    "shape-based averaging": shape_average,
}


@cache
def _network() -> tuple[NearNetwork, WorkingSpace]:
    return load_network(device="cpu")


def truths(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], tuple[Mask, Grid]]]]:
    """Names of the cases, and what makes their truth."""
    if not options.truth:
        for number in range(options.trees):
            yield f"tree_{number}", partial(_tree, options.seed, number)
        return
    for case in find_cases(options.truth):
        yield case.name, partial(_coronary, case.label)


def _tree(seed: int, number: int) -> tuple[Mask, Grid]:
    _, truth, grid = phantom_pair(seed, number, "none", SPACING)
    return truth, grid


def _coronary(path: Path) -> tuple[Mask, Grid]:
    file = read_label(path)
    mask = mask_of(file.array, CORONARY)
    box = crop_box(mask, file.grid.spacing, CORRUPTION_MARGIN_MM)
    return np.ascontiguousarray(mask[box.slices()]), box.grid(file.grid)


def noisy(truth: Mask, grid: Grid, level: float | str, seed: str) -> Mask:
    """One noise on a truth; another ``seed``, another noise."""
    corrupt = CorruptLabel(level)
    corrupt.set_random_state(seed=zlib.crc32(seed.encode()))
    return corrupt(signed_distance(truth, grid.spacing), grid.spacing)


def measured(name: str, truth: Mask, grid: Grid, level: str) -> dict[str, dict[str, Scores]]:
    """Scores per number of maps and row, and with a very bad map, of one case at one level."""
    masks = [noisy(truth, grid, level, f"{name} {level} {number}") for number in range(max(COUNTS))]
    bad = np.roll(noisy(truth, grid, BAD_LEVEL, f"{name} bad"), BAD_SHIFT, axis=0)
    box = crop_box(np.logical_or.reduce([truth, bad, *masks]), grid.spacing, 6.0)
    grid, part = box.grid(grid), box.slices()
    truth, bad, masks = truth[part], bad[part], [np.ascontiguousarray(mask[part]) for mask in masks]
    structure = by_name("coronary")

    def scores(mask: Mask) -> Scores:
        pair = Pair(mask, truth, grid.spacing)
        return {metric: METRICS[metric](pair) for metric in MEASURES}

    seen = [seen_in(mask, grid, *_network()) for mask in masks]
    single = [scores(repair(mask, s.probability, grid).mask) for mask, s in zip(masks, seen, strict=True)]

    def ours(chosen: Sequence[Mask], known: Sequence[Seen]) -> Scores:
        return scores(agreed_of(chosen, known, grid, structure).repaired.mask)

    found: dict[str, dict[str, Scores]] = {}
    for count in COUNTS:
        rows = {row: scores(method(masks[:count], grid)) for row, method in OTHERS.items()}
        best = max(single[:count], key=lambda one: one["dice"])
        mean = {metric: float(np.mean([one[metric] for one in single[:count]])) for metric in MEASURES}
        found[str(count)] = rows | {BEST: best, SINGLE: mean, OURS: ours(masks[:count], seen[:count])}
    third = seen_in(bad, grid, *_network())
    found["bad"] = {
        "two good maps": found["2"][OURS],
        "and a very bad one": ours([*masks[:2], bad], [*seen[:2], third]),
        "majority vote of these three": scores(majority([*masks[:2], bad], grid)),
    }
    return found


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every case at every level, those that are kept read."""
    kept = options.output / "cases.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {(row["case"], row["level"]) for row in rows}
    jobs = [(name, make, level) for name, make in truths(options) for level in LEVELS if (name, level) not in known]
    for name, make, level in tqdm(jobs, unit="case"):
        truth, grid = make()
        rows.append({"case": name, "level": level, "scores": measured(name, truth, grid, level)})
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: means, and the consensus minus every other row, paired, with 95 % intervals of Dice."""
    lines = [
        "| noise | maps | row | n | Dice | clDice | surface Dice 1 mm | Betti-0 error | consensus better in Dice by |",
        "|---" * 9 + "|",
    ]
    for level in LEVELS:
        here = [row["scores"] for row in rows if row["level"] == level]
        for count in [*map(str, COUNTS), "bad"] if here else []:
            reference = OURS if count != "bad" else "two good maps"
            for row in here[0][count]:
                values = np.array([[case[count][row][metric] for metric in MEASURES] for case in here])
                ours = np.array([case[count][reference]["dice"] for case in here])
                cells = [level, {"bad": "2 + bad"}.get(count, count), row, str(len(here))]
                cells += [f"{mean:.3f}" for mean in values.mean(0)]
                lines.append(
                    "| " + " | ".join([*cells, "" if row == reference else _paired(ours - values[:, 0])]) + " |"
                )
    return "\n".join(lines) + "\n"


def _paired(difference: NDArray[np.float64]) -> str:
    interval = interval95(difference)
    return f"{difference.mean():+.3f}" + (" ({:+.3f} to {:+.3f})".format(*interval) if interval else "")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    parser.add_argument("--truth", help="true label maps")
    parser.add_argument("--trees", type=int, default=4, help="generated trees, without --truth")
    parser.add_argument("--seed", type=int, default=77)
    options = parser.parse_args(arguments)
    make_folder(options.output)
    rows = run(options)
    write_json(options.output / "scores.json", rows)
    write_text(options.output / "table.md", table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
