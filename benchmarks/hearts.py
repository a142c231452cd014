"""Whole hearts: every class noisy, refined by its own function and by one function of all, against the truth.

    python -m benchmarks.hearts -o OUT                                    # generated hearts
    python -m benchmarks.hearts -o OUT --truth map.nii.gz                 # noise put on a true label map

Writes ``table.md`` and ``scores.json``: per class Dice, surface Dice and Betti-0 error, and per map the places that
break a rule of anatomy, unassigned slits, seconds, and the size of the weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from near_monai.anatomy import HEART
from near_monai.datasets.heart_cases import heart_pair, noisy_map
from near_monai.formats.atomic_writing import claim_empty, write_json, write_text
from near_monai.formats.label_maps import read_label
from near_monai.fusion.anatomy_rules import violations
from near_monai.fusion.slits import slits
from near_monai.geometry.coordinates import Grid
from near_monai.metrics.mask_metrics import METRICS, Pair
from near_monai.networks.weight_files import load_network
from near_monai.refinement.all_structures import refine_all
from near_monai.shipped_files import bundle_dir

MEASURES = ("dice", "surface_dice_1mm", "betti0_error", "volume_ratio")
METHODS: dict[str, str | None] = {
    "noisy": None,
    "one function per class": None,
    "one function of all": "heart.safetensors",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder")
    parser.add_argument("--hearts", type=int, default=6, help="generated hearts")
    parser.add_argument("--seed", type=int, default=4711, help="seed of hearts and noise")
    parser.add_argument("--level", default="moderate", help="noise level")
    parser.add_argument("--spacing", type=float, default=None, help="isotropic voxel size of generated hearts in mm")
    parser.add_argument("--truth", type=Path, help="true label map")
    options = parser.parse_args()
    claim_empty(options.output)
    networks = lru_cache(load_network)
    rows: list[dict[str, Any]] = []
    for name, noisy, truth, grid in tqdm(list(_sets(options)), unit="map"):
        for method, unified in METHODS.items():
            start = time.perf_counter()
            array = noisy if method == "noisy" else refine_all(noisy, grid, networks, unified).array
            seconds = time.perf_counter() - start
            rows.append({"case": name, "method": method, "seconds": seconds} | _map_figures(array, noisy, grid))
            rows[-1]["classes"] = {s.name: _class_figures(array, truth, s.index, grid) for s in HEART.structures}
        write_json(options.output / "scores.json", rows)
        write_text(options.output / "table.md", table(rows))
    print(table(rows))


def _sets(options: argparse.Namespace) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8], Grid]]:
    if options.truth:
        file = read_label(options.truth)
        yield (
            Path(options.truth).name,
            noisy_map(file.array, file.grid.spacing, options.level, options.seed),
            file.array,
            file.grid,
        )
        return
    for number in range(options.hearts):
        spacing = (options.spacing,) * 3 if options.spacing else None
        yield f"heart {number}", *heart_pair(options.seed, number, options.level, spacing)


def _map_figures(array: NDArray[np.uint8], noisy: NDArray[np.uint8], grid: Grid) -> dict[str, int]:
    return {"violations": len(violations(array, grid)), "slits": len(slits(array, noisy, grid))}


def _class_figures(
    array: NDArray[np.uint8], truth: NDArray[np.uint8], index: int, grid: Grid
) -> dict[str, float] | None:
    if not (truth == index).any():
        return None
    pair = Pair(array == index, truth == index, grid.spacing)
    return {name: METRICS[name](pair) for name in MEASURES}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: per class the mean of every measure, noisy / own function / one function; then figures of the maps."""
    by_method = {method: [row for row in rows if row["method"] == method] for method in METHODS}
    lines = [
        f"{len(by_method['noisy'])} maps. Noisy / {' / '.join(list(METHODS)[1:])}; better than noisy in so many.",
        "",
        f"| class | {' | '.join(MEASURES)} |",
        f"|---|{'---|' * len(MEASURES)}",
    ]
    for structure in HEART.structures:
        cells = []
        for measure in MEASURES:
            values = [_values(by_method[method], structure.name, measure) for method in METHODS]
            if not values[0].size:
                break
            sign = -1 if measure == "betti0_error" else 1
            better = [np.count_nonzero(sign * (v - values[0]) > 0) for v in values[1:]]
            counts = "" if measure == "volume_ratio" else f" ({', '.join(map(str, better))})"
            cells.append(" / ".join(f"{v.mean():.3f}" for v in values) + counts)
        if cells:
            lines.append(f"| {structure.name} | {' | '.join(cells)} |")
    lines += ["", "| method | violations | slits | seconds | weights |", "|---|---|---|---|---|"]
    for method, found in by_method.items():
        mean = {key: np.mean([row[key] for row in found]) for key in ("violations", "slits", "seconds")}
        cells = [f"{mean['violations']:.1f}", f"{mean['slits']:.1f}", f"{mean['seconds']:.1f}", _size(method)]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _values(rows: list[dict[str, Any]], structure: str, measure: str) -> NDArray[np.floating]:
    return np.array([row["classes"][structure][measure] for row in rows if row["classes"][structure]])


def _size(method: str) -> str:
    if method == "noisy":
        return ""
    unified = METHODS[method]
    names = [unified] if unified else sorted({s.weights for s in HEART.structures})
    return f"{sum((bundle_dir() / 'models' / name).stat().st_size for name in names) / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
