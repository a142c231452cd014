"""The audit: learned on corrupted generated trees, and how well it knows the scores of labels that it has not seen.

    python -m benchmarks.audit -o OUT                   # learn, and measure on generated trees of another seed
    python -m benchmarks.audit -o OUT --truth DIR       # and on your true labels, with noise put on them
    python -m benchmarks.audit -o OUT --set-only        # only the checks of a set, with planted errors

Writes ``audit.json``, which is what the package ships, ``table.md`` and ``scores.json``. What an example gave is kept
in ``OUT/examples.jsonl``: the same command goes on where it was stopped. True labels only score; nothing is learned
from them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from tqdm import tqdm

from benchmarks import audit_hearts
from benchmarks.audit_examples import ALONE, Drawn, Generated
from benchmarks.audit_sets import planted_table
from benchmarks.repair import mapper
from near_monai.anatomy import VESSEL
from near_monai.audit.expected_score import ORGANS, SCORES, Auditor
from near_monai.audit.seen_label import Seen
from near_monai.audit.shape_figures import shape_figures
from near_monai.corruption.corrupt_label import NOISE_LEVELS
from near_monai.data.case_lists import find_cases
from near_monai.formats.atomic_writing import make_folder, write_json, write_text
from near_monai.geometry.working_space import WorkingSpace
from near_monai.metrics.mask_metrics import score
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import load_network
from near_monai.refinement.one_structure import refine_mask

Recipe = Generated | Drawn
Row = dict[str, Any]

#: Parts of the training that are held out in turn, for the spread and the intervals.
FOLDS = 8
#: Truths of at least this roughness in mm count so many times: annotations of people are like them.
CAREFUL_MM, CAREFUL_COUNTS = 0.08, 3.0
#: Levels on which true labels and trees of another seed are measured; above 1 is more than severe.
LEVELS = (*NOISE_LEVELS.values(), 1.4)
#: Levels of single errors.
ALONE_LEVELS = (0.5, 1.0, 1.5, 0.75)


@cache
def _network() -> tuple[NearNetwork, WorkingSpace]:
    return load_network(device="cpu")


def measured(recipe: Recipe) -> Row:
    """Figures and true scores of an example."""
    noisy, truth, grid = recipe.load()
    seen = Seen.of_one(refine_mask(noisy, grid, *_network()), VESSEL)
    scores = score(noisy, truth, grid.spacing)
    return {"figures": shape_figures(seen), "scores": {name: scores[name] for name in SCORES}}


def rows_of(recipes: Sequence[Recipe], kept: Path, workers: int) -> list[Row]:
    """:func:`measured` of every recipe; what ``kept`` has already is not computed again."""
    known = {row["recipe"]: row for row in map(json.loads, kept.read_text().splitlines())} if kept.exists() else {}
    todo = [recipe for recipe in recipes if key_of(recipe) not in known]
    with mapper(workers) as apply, kept.open("a", encoding="utf-8") as file:
        for recipe, found in zip(todo, tqdm(apply(measured, todo), total=len(todo), unit="label"), strict=True):
            row = {"recipe": key_of(recipe), "kind": recipe.kind, "level": recipe.level} | found
            row["careful_mm"] = recipe.careful_mm if isinstance(recipe, Generated) else None
            file.write(json.dumps(row) + "\n")
            file.flush()
            known[row["recipe"]] = row
    return [known[key_of(recipe)] for recipe in recipes]


def key_of(recipe: Recipe) -> str:
    """What tells examples apart, wherever files lie."""
    parts = vars(recipe) | ({"path": recipe.path.name} if isinstance(recipe, Drawn) else {})
    return json.dumps(parts)


def learn(rows: Sequence[Row]) -> Auditor:
    """An auditor from examples."""
    groups = [number % FOLDS for number in range(len(rows))]
    counts = [CAREFUL_COUNTS if row["careful_mm"] >= CAREFUL_MM else 1.0 for row in rows]
    return Auditor.fit([row["figures"] for row in rows], [row["scores"] for row in rows], groups, counts)


def true_recipes(folder: str, seed: int) -> list[Recipe]:
    """Every true label at every level (moderate twice), and single errors on some of them."""
    paths = [case.label for case in find_cases(folder)]
    levels = [(level, seed) for level in LEVELS] + [(NOISE_LEVELS["moderate"], seed + 1)]
    found: list[Recipe] = [Drawn(path, "all", level, own) for level, own in levels for path in paths]
    for number, kind in enumerate(("random", "systematic", *ALONE, "torn")):
        for step, level in enumerate(ALONE_LEVELS):
            found.append(Drawn(paths[(number * len(ALONE_LEVELS) + step) % len(paths)], kind, level, seed))
    return found


def figures(rows: Sequence[Row], auditor: Auditor) -> dict[str, Row]:
    """Per score: rank correlation over all and within moderate noise, error, and how many the intervals hold."""
    found = {}
    said = [auditor(row["figures"]) for row in rows]
    level = np.array([row["level"] for row in rows])
    together = np.array([row["kind"] == "all" for row in rows])
    moderate = together & np.isclose(level, NOISE_LEVELS["moderate"], atol=0.1)
    for name in SCORES:
        true = np.array([row["scores"][name] for row in rows])
        expected, low, high = np.array([at[name] for at in said]).T
        found[name] = {
            "n": len(true),
            "spearman": _rank(true, expected),
            "spearman_together": _rank(true[together], expected[together]),
            "n_together": int(together.sum()),
            "spearman_moderate": _rank(true[moderate], expected[moderate]),
            "n_moderate": int(moderate.sum()),
            "mean_error": float(np.abs(true - expected).mean()),
            "bias": float((expected - true).mean()),
            "held": float(((low - 1e-9 <= true) & (true <= high + 1e-9)).mean()),
            "width": float((high - low).mean()),
        }
    return found


def _rank(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return float(spearmanr(one, other)[0]) if len(one) > 4 else float("nan")


def _apart(one: float, other: float) -> float:
    return abs(one - other)


def by_kind(rows: Sequence[Row], auditor: Auditor) -> list[Row]:
    """Dice per kind of error, and per level (the nearest of :data:`LEVELS`) of all errors together."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        nearest = min(LEVELS, key=partial(_apart, row["level"]))
        name = f"all, {nearest:.2f}" if row["kind"] == "all" else row["kind"]
        groups.setdefault(name, []).append(row)
    out = []
    for name, group in sorted(groups.items()):
        true = np.array([row["scores"]["dice"] for row in group])
        expected = np.array([auditor(row["figures"])["dice"].expected for row in group])
        error = float(np.abs(expected - true).mean())
        out.append({"errors": name, "n": len(group), "true": true.mean(), "expected": expected.mean(), "error": error})
    return out


def table(found: dict[str, dict[str, Row]]) -> str:
    """Markdown: one line per set and score."""
    lines = [
        "| set | score | n | Spearman | all errors together (n) | within moderate (n) | mean error | bias "
        "| intervals hold | their width |",
        "|---" * 10 + "|",
    ]
    for kind, scores in found.items():
        for name, row in scores.items():
            cells = [kind, name, row["n"], f"{row['spearman']:.3f}"]
            cells += [
                f"{row[f'spearman_{of_them}']:.3f} ({row[f'n_{of_them}']})" for of_them in ("together", "moderate")
            ]
            cells += [f"{row[key]:.3f}" for key in ("mean_error", "bias")]
            cells += [f"{row['held']:.0%}", f"{row['width']:.3f}"]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def kinds_table(of: str, rows: Iterable[Row]) -> str:
    """Markdown: one line per kind of error."""
    lines = [
        f"Dice on {of}, by error (and level):",
        "",
        "| errors | n | true | expected | mean error |",
        "|---" * 5 + "|",
    ]
    lines += ["| {errors} | {n} | {true:.3f} | {expected:.3f} | {error:.3f} |".format(**row) for row in rows]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    parser.add_argument("--trees", type=int, default=367, help="generated labels to learn from")
    parser.add_argument("--seed", type=int, default=9100)
    parser.add_argument("--test-trees", type=int, default=180, help="generated labels to measure on")
    parser.add_argument("--test-seed", type=int, default=31)
    parser.add_argument("--truth", help="true label maps to measure on")
    parser.add_argument("--hearts", type=int, default=24, help="generated hearts to learn from")
    parser.add_argument("--test-hearts", type=int, default=10, help="generated hearts to measure on")
    parser.add_argument("--set-only", action="store_true", help="only the checks of a set")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args(arguments)
    make_folder(options.output)
    if options.set_only:
        planted = planted_table()
        write_text(options.output / "sets.md", planted)
        print(planted)
        return
    rows = partial(rows_of, kept=options.output / "examples.jsonl", workers=options.workers)
    recipes: list[Recipe] = [Generated(options.seed, number).drawn() for number in range(options.trees)]
    auditor = learn(rows(recipes))
    sets = {"generated trees": rows([Generated(options.test_seed, n).drawn() for n in range(options.test_trees)])}
    if options.truth:
        sets["true labels"] = rows(true_recipes(options.truth, 777))
    found = {of: figures(some, auditor) for of, some in sets.items()}
    write_json(options.output / "scores.json", found)
    text = [table(found), *(kinds_table(of, by_kind(some, auditor)) for of, some in sets.items())]
    kept = options.output / "hearts.jsonl"
    organs = audit_hearts.learn(audit_hearts.rows_of(options.seed, options.hearts, kept))
    text.append(audit_hearts.table(audit_hearts.rows_of(options.test_seed, options.test_hearts, kept), organs))
    write_json(options.output / "audit.json", {VESSEL.name: auditor.to_row(), ORGANS: organs.to_row()})
    write_text(options.output / "table.md", "\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
