"""From measured cases to table.md, scores.csv and summary.json.

Every row is compared, case by case, with the noisy input and with the Gaussian whose setting was chosen leave-one-out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.calibration import curve, expected_calibration_error
from benchmarks.diameter import NAMES
from benchmarks.measure import Measured
from benchmarks.methods import LEAVE_ONE_OUT, NOISY
from benchmarks.sets import CaseSet
from near_monai.formats.atomic_writing import write_json, write_text
from near_monai.metrics.mask_metrics import METRICS
from near_monai.metrics.score_tables import BASELINE, PREDICTION, interval95, summarise

#: Columns of the Markdown table.
COLUMNS = {
    "dice": "Dice",
    "cldice": "clDice",
    "surface_dice_0.5mm": "surface Dice 0.5 mm",
    "surface_dice_1mm": "surface Dice 1 mm",
    "hd95_mm": "HD95 (mm)",
    "betti0_error": "Betti-0 error",
    "loops_added": "loops added",
    "volume_ratio": "volume ratio",
}


@dataclass(frozen=True)
class SetResult:
    """A set, its measured cases, and the Gaussian's settings: Dice per case and setting, and those taken."""

    of: CaseSet
    cases: Sequence[Measured]
    gaussian_dice: Mapping[str, Mapping[str, float]]
    leave_one_out: Mapping[str, str]
    oracle: str

    @property
    def rows(self) -> list[str]:
        """Names of the methods, in order."""
        return list(self.cases[0].scores)


def write_report(results: Sequence[SetResult], options: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Write the three files and return what ``summary.json`` holds: per set its rows, per row its figures."""
    sets = {result.of.name: _set_summary(result) for result in results}
    summary = {"options": dict(options), "sets": sets}
    write_json(out / "summary.json", summary)
    write_text(out / "scores.csv", _csv(results))
    write_text(out / "table.md", "\n".join(_table(name, entry) for name, entry in sets.items()))
    return summary


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean of the finite values and its 95 % t-interval (None below two)."""
    finite = np.array([v for v in values if np.isfinite(v)])
    mean = float(finite.mean()) if len(finite) else float("nan")
    return {"mean": mean, "ci95": interval95(finite), "n": len(finite)}


def _set_summary(result: SetResult) -> dict[str, Any]:
    settings = next(iter(result.gaussian_dice.values()))
    return {
        "n": len(result.cases),
        "level": result.of.level,
        "errors": result.of.errors,
        "gaussian": {
            "oracle": result.oracle,
            "leave_one_out": dict(result.leave_one_out),
            "mean_dice": {s: float(np.mean([c[s] for c in result.gaussian_dice.values()])) for s in settings},
        },
        "rows": {row: _row_summary(result, row) for row in result.rows},
        "calibration": {row: _calibration(result, row) for row in result.cases[0].reliability},
    }


def _row_summary(result: SetResult, row: str) -> dict[str, Any]:
    """Means, paired differences, the case that lost most against its own input, and Dice by diameter."""
    against = {}
    for name, base in (("against_noisy", NOISY), ("against_gaussian", LEAVE_ONE_OUT)):
        paired = summarise({c.name: {PREDICTION: c.scores[row], BASELINE: c.scores[base]} for c in result.cases})
        against[name] = paired["metrics"]
    change = {c.name: c.scores[row]["dice"] - c.scores[NOISY]["dice"] for c in result.cases}
    worst = min(change, key=lambda name: change[name])
    return {
        "metrics": {metric: against["against_noisy"][metric][PREDICTION] for metric in METRICS},
        **{name: {metric: entry[metric]["difference"] for metric in METRICS} for name, entry in against.items()},
        "worst_case": {"name": worst, "dice_change": change[worst]},
        "dice_by_diameter": {name: interval([c.diameters[row][name] for c in result.cases]) for name in NAMES},
    }


def _calibration(result: SetResult, row: str) -> dict[str, Any]:
    bins = [case.reliability[row] for case in result.cases]
    total = np.sum(bins, axis=0)
    probability, vessel = curve(total)
    return {
        "pooled": expected_calibration_error(total),
        "per_case": interval([expected_calibration_error(case) for case in bins]),
        "bins": {"voxels": total[:, 0], "probability": probability, "vessel": vessel},
    }


def _csv(results: Sequence[SetResult]) -> str:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["set", "level", "errors", "method", "case", *METRICS, *(f"dice {name}" for name in NAMES)])
    for result in results:
        for row in result.rows:
            for case in result.cases:
                values = [case.scores[row][m] for m in METRICS] + [case.diameters[row][n] for n in NAMES]
                lines.writerow([result.of.name, result.of.level, result.of.errors, row, case.name, *values])
    return text.getvalue()


def _table(name: str, entry: Mapping[str, Any]) -> str:
    """One set as Markdown."""
    differences = ["Dice - noisy [95 %]", "better", "Dice - Gaussian l. o. o. [95 %]", "better", "worst case - noisy"]
    header = ["", *COLUMNS.values(), *differences]
    lines = [f"## {name}", "", f"{entry['n']} cases; mean ± standard deviation. Differences are of Dice.", ""]
    lines += ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for row, figures in entry["rows"].items():
        cells = [row, *(_mean(figures["metrics"][metric]) for metric in COLUMNS)]
        for against in ("against_noisy", "against_gaussian"):
            difference = figures[against]["dice"]
            cells += [_difference(difference), f"{difference['better']}/{difference['finite']}"]
        lines.append("| " + " | ".join([*cells, f"{figures['worst_case']['dice_change']:+.3f}"]) + " |")
    gaussian = entry["gaussian"]
    chosen = ", ".join(dict.fromkeys(gaussian["leave_one_out"].values()))
    source = "leave one out took" if entry["n"] > 1 else "one case alone has none to choose on and took"
    lines += ["", f"Gaussian: {source} {chosen}; the oracle {gaussian['oracle']}."]
    for row, error in entry["calibration"].items():
        spread = _difference(error["per_case"]).lstrip("+")
        lines.append(f"Expected calibration error of {row} within 2 mm of a wall: {spread}.")
    return "\n".join([*lines, ""])


def _mean(entry: Mapping[str, Any]) -> str:
    text = f"{entry['mean']:.3f}" + (f" ± {entry['sd']:.3f}" if entry["finite"] > 1 else "")
    return text if entry["finite"] == entry["n"] else f"{text} ({entry['finite']}/{entry['n']})"


def _difference(entry: Mapping[str, Any]) -> str:
    return f"{entry['mean']:+.3f}" + ("" if entry["ci95"] is None else " [{:+.3f}, {:+.3f}]".format(*entry["ci95"]))
