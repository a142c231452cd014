"""Simple filters on noisy labels, the best of them chosen on the truth, against refined labels: paired, per metric.

    python benchmarks/filters.py NOISY TRUTH REFINED -o OUT [--label 9]

A filter gets an unfair advantage here: for every metric the setting with the best mean on the truth of these very cases
is taken (an oracle). Refined labels come from weights that never saw the truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from near_monai.boxes import crop_box
from near_monai.cases import match_cases
from near_monai.cleaning import drop_specks
from near_monai.evaluation import BASELINE, PREDICTION, CaseScores, format_table, summarise, write_summary
from near_monai.io import read_label
from near_monai.metrics import IDEAL, METRICS, score
from near_monai.transforms import choose_label, mask_of

Mask = NDArray[np.bool_]
Filter = Callable[[Mask, tuple[float, float, float]], Mask]


def gaussian(sigma_mm: float, threshold: float) -> Filter:
    """Gaussian smoothing and a threshold; components of fewer than 50 voxels go."""

    def apply(mask: Mask, spacing: tuple[float, float, float]) -> Mask:
        smooth = ndimage.gaussian_filter(mask.astype(np.float32), [sigma_mm / s for s in spacing]) > threshold
        return drop_specks(smooth, spacing, 50 * float(np.prod(spacing)), far_mm=0.0)

    return apply


FILTERS: dict[str, Filter] = {
    "keep 2": lambda m, s: drop_specks(m, s, 0.0, keep=2),
    "median 3": lambda m, s: ndimage.median_filter(m.astype(np.uint8), 3) > 0,
    "closing 1": lambda m, s: ndimage.binary_closing(m, np.ones((3, 3, 3))),
    "closing 2": lambda m, s: ndimage.binary_closing(m, np.ones((5, 5, 5))),
    **{f"Gaussian {a} mm > {t}": gaussian(a, t) for a in (0.4, 0.5, 0.6, 0.7, 0.8, 1.0) for t in (0.4, 0.5)},
}


def main() -> None:
    """Score, choose, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("noisy")
    parser.add_argument("truth")
    parser.add_argument("refined")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--label", default="9")
    options = parser.parse_args()
    label = int(options.label) if options.label.isdecimal() else options.label
    refined = {name: path for name, path, _ in match_cases(options.refined, options.truth)}
    scores: dict[str, dict[str, dict[str, float]]] = {name: {} for name in ["noisy", "refined", *FILTERS]}
    for name, noisy_path, truth_path in tqdm(match_cases(options.noisy, options.truth)):
        truth = read_label(truth_path)
        chosen = choose_label(truth.array, label, name)
        spacing = truth.grid.spacing
        masks = [mask_of(read_label(p).array, chosen) for p in (noisy_path, refined[name], truth_path)]
        noisy, ours, target = (m[crop_box(masks[0] | masks[1] | masks[2], spacing, 5.0).slices()] for m in masks)
        scores["noisy"][name] = score(noisy, target, spacing)
        scores["refined"][name] = score(ours, target, spacing)
        for title, apply in FILTERS.items():
            scores[title][name] = score(apply(noisy, spacing), target, spacing)
    for metric in (m for m in METRICS if m in IDEAL):
        means = {title: np.nanmean([c[metric] for c in cases.values()]) for title, cases in scores.items()}
        best = min(FILTERS, key=lambda title: abs(means[title] - IDEAL[metric]))
        print(f"{metric:20s} noisy {means['noisy']:7.3f}  best filter {means[best]:7.3f} ({best})", end="")
        paired: dict[str, CaseScores] = {
            name: {PREDICTION: scores["refined"][name], BASELINE: scores[best][name]} for name in scores["noisy"]
        }
        difference = summarise(paired)["metrics"][metric]["difference"]
        low, high = difference["ci95"] or (np.nan, np.nan)
        print(f"  refined {means['refined']:7.3f}  difference {difference['mean']:+.3f} [{low:+.3f}, {high:+.3f}]")
        write_summary(summarise(paired), Path(options.output) / metric)
    against_noisy: dict[str, CaseScores] = {
        name: {PREDICTION: scores["refined"][name], BASELINE: scores["noisy"][name]} for name in scores["noisy"]
    }
    print(f"\nrefined (prediction) against noisy (baseline)\n{format_table(summarise(against_noisy))}")


if __name__ == "__main__":
    main()
