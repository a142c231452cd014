"""The audit on whole hearts: structures that are no coronary artery, learned and measured by themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from tqdm import tqdm

from near_monai.anatomy import HEART, Structure
from near_monai.audit.expected_score import SCORES, Auditor, agreement
from near_monai.audit.seen_label import Seen
from near_monai.audit.shape_figures import shape_figures
from near_monai.datasets.heart_cases import heart_pair
from near_monai.geometry.boxes import crop_box
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.metrics.mask_metrics import score
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import load_network, shipped
from near_monai.refinement.one_structure import refine_mask

Row = dict[str, Any]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

#: Voxel sizes in mm of the hearts.
SPACING = (0.8, 1.3)
#: Hearts that are held out together are every so manieth.
FOLDS = 8


@cache
def _network(weights: str) -> tuple[NearNetwork, WorkingSpace]:
    return load_network(shipped(weights), device="cpu")


def measured(seed: int, number: int) -> list[Row]:
    """Figures and true scores of every structure but the coronary arteries of a heart, at a level from 0 to 1.5."""
    rng = np.random.default_rng((seed, number, 5))
    level, side = float(rng.uniform(0, 1.5)), float(rng.uniform(*SPACING))
    noisy, truth, grid = heart_pair(seed, number, level, (side, side, side))
    rows = []
    for structure in HEART.structures:
        mask, true = noisy == structure.index, truth == structure.index
        if structure.name != "coronary" and mask.any() and true.any():
            found = _one(mask, true, grid, structure)
            rows.append({"seed": seed, "number": number, "structure": structure.name, "level": level} | found)
    return rows


def _one(mask: Mask, true: Mask, grid: Grid, structure: Structure) -> Row:
    box = crop_box(mask | true, grid.spacing, structure.size.mm(6.0))
    part, near = box.slices(), box.grid(grid)
    own, truth = np.ascontiguousarray(mask[part]), np.ascontiguousarray(true[part])
    refined = refine_mask(own, near, *_network(structure.weights), structure=structure)
    # a surface score at 1 mm in the scale of the structure would be another score
    scores = score(own, truth, near.spacing)
    figures = shape_figures(Seen.of_one(refined, structure))
    return {"figures": figures, "scores": {name: scores[name] for name in SCORES}}


def rows_of(seed: int, count: int, kept: Path) -> list[Row]:
    """:func:`measured` of ``count`` hearts; what ``kept`` has already is not computed again."""
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {row["number"] for row in rows if row["seed"] == seed}
    for number in tqdm([number for number in range(count) if number not in known], desc="hearts", unit="heart"):
        found = measured(seed, number)
        with kept.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in found))
        rows += found
    return [row for row in rows if row["seed"] == seed and row["number"] < count]


def learn(rows: Sequence[Row]) -> Auditor:
    """An auditor of structures that are no coronary artery."""
    figures, scores = [row["figures"] for row in rows], [row["scores"] for row in rows]
    return Auditor.fit(figures, scores, [row["number"] % FOLDS for row in rows], [1.0] * len(rows))


def table(rows: Sequence[Row], auditor: Auditor) -> str:
    """Markdown: Dice per structure, expected, and as the agreement with the refined result alone."""
    lines = [
        "Dice of structures of generated hearts of another seed, by structure:",
        "",
        "| structure | n | Spearman | mean error | bias | intervals hold | Spearman of the agreement alone |",
        "|---" * 7 + "|",
    ]
    for name in ["all", *dict.fromkeys(row["structure"] for row in rows)]:
        of = [row for row in rows if name in ("all", row["structure"])]
        true = np.array([row["scores"]["dice"] for row in of])
        at, low, high = np.array([auditor(row["figures"])["dice"] for row in of]).T
        plain = [agreement(row["figures"])["dice"] for row in of]
        cells = [name, str(len(of)), f"{spearmanr(true, at)[0]:.3f}", f"{np.abs(true - at).mean():.3f}"]
        cells += [f"{(at - true).mean():+.3f}", f"{((low <= true) & (true <= high)).mean():.0%}"]
        lines.append("| " + " | ".join([*cells, f"{spearmanr(true, plain)[0]:.3f}"]) + " |")
    return "\n".join(lines) + "\n"
