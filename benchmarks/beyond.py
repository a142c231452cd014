"""Labels beyond what F was trained on, all through ``near_monai.refine``: is any result worse than what went in?

    python -m benchmarks.beyond -o OUT [-n 200] [--seed S] [--only KIND] [--side 200] [--workers 2]

Every kind of :data:`benchmarks.beyond_inputs.KINDS` in turn, scored against the known truth. Writes ``table.md`` and
``scores.json``, the worst first. Exit code 1 if any input loses more than 0.01 of its Dice or is refused. One row alone
again: ``-n 1 --only KIND --seed SEED``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import near_monai
from benchmarks.beyond_inputs import KINDS, Mask, far_volume, largest, make
from benchmarks.repair import mapper
from near_monai.formats.atomic_writing import claim_empty, write_json, write_text
from near_monai.metrics.mask_metrics import Pair, dice

Row = dict[str, Any]
#: No result may lose more Dice than this.
ALLOWED = 0.01
#: mm from the largest piece of the input, and from all of it, beyond which what was added is told.
FAR_MM = 3.0
#: The worst rows in the table.
WORST = 20


def attempt(job: tuple[str, int], side: int) -> Row:
    """Refine and score one input; what goes wrong stands in the row as ``error``."""
    made = make(*job, side=side)
    row: Row = {"kind": made.kind, "seed": made.seed, "shape": made.noisy.shape, "spacing": made.spacing}
    row |= {"parameters": made.parameters, "dice_before": dice(Pair(made.noisy, made.truth, made.spacing))}
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            after = near_monai.refine(made.noisy.astype(np.uint8), made.spacing) > 0
        except Exception as error:
            return row | {"error": f"{type(error).__name__}: {error}", "dice_after": 0.0, "change": -row["dice_before"]}
    row["seconds"] = time.perf_counter() - start
    row["warnings"] = [str(warning.message) for warning in said]
    row["dice_after"] = dice(Pair(after, made.truth, made.spacing))
    row["change"] = row["dice_after"] - row["dice_before"]
    row |= _volumes(made.noisy, after, made.truth, made.spacing)
    return row


def _volumes(before: Mask, after: Mask, truth: Mask, spacing: tuple[float, float, float]) -> Row:
    """Volumes over that of the truth, and what was added far from anything."""
    whole, added = np.count_nonzero(truth), after & ~before
    return {
        "volume_before": np.count_nonzero(before) / whole,
        "volume_after": np.count_nonzero(after) / whole,
        "far_from_largest_mm3": far_volume(added, largest(before), spacing, FAR_MM),
        "far_from_label_mm3": far_volume(added, before, spacing, FAR_MM),
    }


def lost(row: Row) -> bool:
    """Whether a result is worse than it may be."""
    return "error" in row or row["change"] < -ALLOWED


def summary(rows: Sequence[Row]) -> Row:
    """Figures of some rows."""
    change = np.array([row["change"] for row in rows])
    return {
        "n": len(rows),
        "dice_before": float(np.mean([row["dice_before"] for row in rows])),
        "dice_after": float(np.mean([row["dice_after"] for row in rows])),
        "change": float(change.mean()),
        "change_sd": float(change.std()),
        "worst": float(change.min()),
        "lost": sum(map(lost, rows)),
        "warned": sum(bool(row.get("warnings")) for row in rows),
        "far_from_label_mm3": float(max(row.get("far_from_label_mm3", 0.0) for row in rows)),
        "seconds": float(np.mean([row.get("seconds", np.nan) for row in rows])),
    }


def by_kind(rows: Sequence[Row]) -> dict[str, Row]:
    """:func:`summary` of every kind that is there, and of all."""
    groups = {kind: [row for row in rows if row["kind"] == kind] for kind in KINDS}
    return {name: summary(group) for name, group in [*groups.items(), ("all", list(rows))] if group}


def table(rows: Sequence[Row]) -> str:
    """Markdown: a line per kind, then the worst inputs."""
    head = ["kind", "inputs", "Dice before", "after", "change", "worst", f"lose > {ALLOWED}", "warned"]
    lines = [_line([*head, f"added > {FAR_MM:g} mm from the label, most mm3", "s"]), "|---" * 10 + "|"]
    for kind, entry in by_kind(rows).items():
        change = f"{entry['change']:+.4f} ± {entry['change_sd']:.4f}"
        cells = [kind, entry["n"], f"{entry['dice_before']:.4f}", f"{entry['dice_after']:.4f}", change]
        cells += [f"{entry['worst']:+.4f}", entry["lost"], entry["warned"], f"{entry['far_from_label_mm3']:.1f}"]
        lines.append(_line([*cells, f"{entry['seconds']:.1f}"]))
    lines += ["", f"The worst {min(WORST, len(rows))}; volumes over that of the truth:", ""]
    head = ["kind", "seed", "Dice before", "after", "change", "volume before", "after", "far from largest piece, mm3"]
    lines += [_line([*head, "voxels", "mm", "parameters", "said"]), "|---" * 12 + "|"]
    return "\n".join([*lines, *map(_worst, rows[:WORST])]) + "\n"


def _worst(row: Row) -> str:
    cells = [row["kind"], row["seed"], f"{row['dice_before']:.4f}", f"{row['dice_after']:.4f}", f"{row['change']:+.4f}"]
    cells += [f"{row.get(key, np.nan):.2f}" for key in ("volume_before", "volume_after", "far_from_largest_mm3")]
    cells += [" x ".join(f"{n:g}" for n in row[key]) for key in ("shape", "spacing")]
    drawn = [f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row["parameters"].items()]
    return _line([*cells, "; ".join(drawn), row.get("error", "; ".join(row.get("warnings", [])))])


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def jobs_of(count: int, seed: int, only: str | None = None) -> list[tuple[str, int]]:
    """Kind and seed of every input: the kinds in turn, or ``only`` one."""
    kinds = [only] if only else list(KINDS)
    return [(kinds[number % len(kinds)], seed + number) for number in range(count)]


def run(options: argparse.Namespace) -> Mapping[str, Row]:
    """Measure all inputs and write what was found; returns the figures by kind."""
    claim_empty(options.output)
    jobs = jobs_of(options.n, options.seed, options.only)
    with mapper(options.workers) as apply:
        rows = list(tqdm(apply(partial(attempt, side=options.side), jobs), total=len(jobs), unit="input"))
    rows.sort(key=lambda row: (not lost(row), row["change"]))
    figures = by_kind(rows)
    write_json(options.output / "scores.json", {"options": vars(options), "kinds": figures, "inputs": rows})
    write_text(options.output / "table.md", table(rows))
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder")
    parser.add_argument("-n", type=int, default=200, help="inputs in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=KINDS, help="one kind alone")
    parser.add_argument("--side", type=int, default=200, help="most voxels per axis")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    figures = run(options)
    print((options.output / "table.md").read_text(encoding="utf-8"))
    if figures["all"]["lost"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
