"""Consensus of several noisy maps of a whole heart, against votes: every class by itself, in the mean.

    python -m benchmarks.consensus_hearts -o OUT --truth map.nii.gz    # several independent noises on a true map
    python -m benchmarks.consensus_hearts -o OUT --hearts 2            # generated hearts, all ten classes

Rows: label voting and STAPLE of several labels (both SimpleITK's; where they are undecided, background), the best
single refined map *by the truth*, and the consensus.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from tqdm import tqdm

from near_monai.anatomy import HEART
from near_monai.datasets.heart_cases import heart_pair, noisy_map
from near_monai.formats.atomic_writing import claim_empty, write_json, write_text
from near_monai.formats.label_maps import read_label
from near_monai.geometry.boxes import crop_box
from near_monai.geometry.coordinates import Grid
from near_monai.metrics.mask_metrics import METRICS, Pair
from near_monai.networks.weight_files import load_network
from near_monai.refinement.all_structures import refine_all
from near_monai.refinement.consensus_map import consensus

Labels = NDArray[np.uint8]
MEASURES = ("dice", "surface_dice_1mm", "betti0_error")
#: Per class its measures.
Scores = dict[str, list[float]]
VOTE, STAPLE, BEST, OURS = ROWS = ("label voting", "STAPLE of labels", "best single refined", "consensus")
#: mm around a true map in which it is made noisy.
MARGIN_MM = 15.0


def voted(maps: Sequence[Labels]) -> Labels:
    """The label that most maps have."""
    return np.asarray(sitk.GetArrayFromImage(sitk.LabelVoting(_images(maps), 0)))


def stapled(maps: Sequence[Labels]) -> Labels:
    """The most probable label by the maps' confusion matrices (Rohlfing, Russakoff and Maurer, 2003)."""
    return np.asarray(sitk.GetArrayFromImage(sitk.MultiLabelSTAPLE(_images(maps), 0)))


def _images(maps: Sequence[Labels]) -> list[sitk.Image]:
    return [sitk.GetImageFromArray(array) for array in maps]


def truths(options: argparse.Namespace) -> Iterator[tuple[str, Labels, Grid]]:
    """Name, true map and grid of every heart."""
    if options.truth:
        file = read_label(options.truth)
        box = crop_box(file.array > 0, file.grid.spacing, MARGIN_MM)
        yield options.truth.name, np.ascontiguousarray(file.array[box.slices()]), box.grid(file.grid)
        return
    for number in range(options.hearts):
        _, truth, grid = heart_pair(options.seed, number, "none", (0.9,) * 3)
        yield f"heart {number}", truth, grid


def scored(array: Labels, truth: Labels, grid: Grid) -> Scores:
    """Every class of the truth."""
    found: Scores = {}
    for structure in HEART.structures:
        if (truth == structure.index).any():
            pair = Pair(array == structure.index, truth == structure.index, grid.spacing)
            found[structure.name] = [METRICS[measure](pair) for measure in MEASURES]
    return found


def measured(truth: Labels, grid: Grid, level: str, seed: int, counts: Sequence[int]) -> dict[str, dict[str, Scores]]:
    """Scores per number of maps, row and class."""
    networks = lru_cache(load_network)
    maps = [noisy_map(truth, grid.spacing, level, seed + number) for number in range(max(counts))]
    single = [scored(refine_all(array, grid, networks).array, truth, grid) for array in maps]
    found: dict[str, dict[str, Scores]] = {}
    for count in counts:
        best = max(single[:count], key=lambda one: _mean(one)[0])
        agreed = np.asarray(consensus(maps[:count], grid.spacing, "all"), np.uint8)
        arrays = {VOTE: voted(maps[:count]), STAPLE: stapled(maps[:count]), OURS: agreed}
        found[str(count)] = {row: scored(array, truth, grid) for row, array in arrays.items()} | {BEST: best}
    return found


def _mean(scores: Scores) -> NDArray[np.float64]:
    return np.array(list(scores.values())).mean(0)


def table(hearts: Sequence[dict[str, dict[str, Scores]]]) -> str:
    """Markdown: means over classes and hearts; the Dice of every class follows."""
    names = list(hearts[0]["2"][OURS])
    lines = ["| maps | row | Dice | surface Dice 1 mm | Betti-0 error | Dice of " + " | ".join(names) + " |"]
    lines.append("|---" * (5 + len(names)) + "|")
    for count in hearts[0]:
        for row in ROWS:
            values = np.mean([_mean(heart[count][row]) for heart in hearts], axis=0)
            each = np.mean([[heart[count][row][name][0] for name in names] for heart in hearts], axis=0)
            cells = [f"{value:.3f}" for value in (*values, *each)]
            lines.append(f"| {count} | {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder")
    parser.add_argument("--truth", type=Path, help="true label map")
    parser.add_argument("--hearts", type=int, default=2, help="generated hearts, without --truth")
    parser.add_argument("--level", default="moderate", help="noise level")
    parser.add_argument("--seed", type=int, default=50)
    parser.add_argument("--counts", type=int, nargs="+", default=[2, 3, 5], help="numbers of maps")
    options = parser.parse_args(arguments)
    claim_empty(options.output)
    hearts = [
        measured(truth, grid, options.level, options.seed + 100 * number, options.counts)
        for number, (_, truth, grid) in enumerate(tqdm(list(truths(options)), unit="heart"))
    ]
    write_json(options.output / "scores.json", hearts)
    write_text(options.output / "table.md", table(hearts))
    print(table(hearts))


if __name__ == "__main__":
    main()
