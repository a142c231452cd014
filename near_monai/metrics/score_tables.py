"""Tables of scores: per case, mean and spread, and the paired difference to a baseline.

A baseline is what one had before, such as the noisy labels: a method is compared with it case by case, and the interval
is that of the mean paired difference.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from tqdm import tqdm

from near_monai.anatomy import CORONARY
from near_monai.data.case_lists import find_pairs
from near_monai.data.class_selection import AUTO, FOREGROUND, Wanted
from near_monai.data.failed_cases import Outcomes
from near_monai.errors import NearError
from near_monai.formats.atomic_writing import write_json, write_text
from near_monai.formats.text_tables import aligned, as_csv
from near_monai.metrics.compared_masks import CaseMasks, Chosen, compare
from near_monai.metrics.mask_metrics import IDEAL, METRICS, score

PREDICTION, BASELINE = "prediction", "baseline"

#: Per case: the scores of the prediction and, where there is one, of the baseline.
CaseScores = dict[str, dict[str, float]]


def evaluate_folders(
    pred: str | Path,
    truth: str | Path,
    out: str | Path,
    baseline: str | Path | None = None,
    label: Wanted = AUTO,
    quiet: bool = False,
) -> dict[str, Any]:
    """Score label maps against the truth of the same name, as :func:`evaluate` does; a bad case does not stop it.

    Args:
        pred: predicted label maps: folder, file or data list, see :func:`near_monai.data.case_lists.find_cases`.
        truth: true label maps, likewise; one without a prediction (or without a baseline, if there are any) is a case
            that cannot be scored.
        out: folder for ``summary.json`` and ``scores.csv``.
        baseline: label maps to compare with, likewise.
        label: class that is scored, see :func:`near_monai.metrics.compared_masks.compare`.
        quiet: no progress bar.

    Returns:
        The content of ``summary.json``: that of :func:`evaluate` and, under ``failed``, cases that cannot be scored and
        why. All their scores are NaN, so that they are counted.

    Raises:
        NearError: there is no prediction (or no baseline) of any case.
    """
    matched, without = find_pairs(pred, truth)
    earlier, missing = ([], []) if baseline is None else find_pairs(baseline, truth)
    before = {name: path for name, path, _ in earlier}
    nothing = dict.fromkeys([PREDICTION, *([BASELINE] if before else [])], dict.fromkeys(METRICS, np.nan))
    outcomes, scores, chosen = Outcomes(), dict[str, CaseScores](), dict[str, Chosen]()
    absent = dict.fromkeys(missing, f"{baseline}: no baseline of it") | dict.fromkeys(without, f"{pred}: no prediction")
    for name, message in absent.items():
        scores[name] = nothing
        outcomes.fail(name, message)
    there = [pair for pair in matched if pair[0] not in absent]
    for name, path, true in tqdm(there, "evaluate", unit="case", disable=quiet):
        scores[name] = nothing
        with outcomes.of(name):
            case, chosen[name] = compare(name, path, true, before.get(name), label)
            scores[name] = _scores(case)
            _tell_of_nothing(case, chosen[name])
    for name, message in _strangers(chosen).items():
        scores[name] = nothing
        outcomes.fail(name, message)
    summary = summarise(scores) | {"failed": outcomes.failed}
    write_summary(summary, out)
    return summary


def evaluate(cases: Iterable[CaseMasks], out: str | Path) -> dict[str, Any]:
    """Score every case and write ``summary.json`` and ``scores.csv`` to the folder ``out``.

    Args:
        cases: consumed one by one, so that a generator keeps one case in memory.
        out: folder; made if missing.

    Returns:
        The summary, see :func:`summarise`.

    Raises:
        NearError: there is no case, two have one name, or the masks of a case do not fit together.
    """
    scores: dict[str, CaseScores] = {}
    for case in cases:
        if case.name in scores:
            raise NearError(f"case {case.name}: given twice; case names must differ")
        try:
            scores[case.name] = _scores(case)
        except NearError as error:
            raise NearError(f"case {case.name}: {error}") from error
    summary = summarise(scores)
    write_summary(summary, out)
    return summary


def _scores(case: CaseMasks) -> CaseScores:
    masks = {PREDICTION: case.pred} | ({} if case.baseline is None else {BASELINE: case.baseline})
    return {source: score(mask, case.truth, case.spacing) for source, mask in masks.items()}


def _tell_of_nothing(case: CaseMasks, chosen: Chosen) -> None:
    """Say where there is nothing to compare, or nothing to compare it with."""
    if chosen.label is None:
        tqdm.write(f"{case.name}: the truth is empty, and what cannot be said of it is NaN", file=sys.stderr)
    elif not case.pred.any():
        tqdm.write(f"{case.name}: the prediction holds nothing of class {chosen.label}", file=sys.stderr)


def _strangers(cases: Mapping[str, Chosen]) -> dict[str, str]:
    """Cases scored on another class than the coronaries, because it is alone, where others hold several."""
    several = any(not case.alone for case in cases.values())
    return {
        name: f"its truth holds class {case.label} alone, and that of others several; say with --label which to score"
        for name, case in cases.items()
        if several and case.alone and case.label not in (None, FOREGROUND, CORONARY)
    }


def summarise(scores: Mapping[str, CaseScores]) -> dict[str, Any]:
    """Mean and spread over the cases, and the paired difference to the baseline.

    Values that are not finite are left out of every figure, and counted: ``finite`` of ``n`` went in.

    Args:
        scores: by case name.

    Returns:
        ``metrics``: per metric ``prediction`` and ``baseline`` with ``mean``, ``sd`` (sample standard deviation; NaN
        below two values), ``finite`` and ``n``; and ``difference`` (prediction - baseline in the cases where both are
        finite) with ``mean``, ``ci95`` (t-interval of the mean; None below two pairs), ``finite``, ``n``, and
        ``better`` and ``worse``: in how many cases the prediction is nearer to, or further from, the ideal value than
        the baseline (None where there is no ideal). Without a baseline both of these are absent.
        ``cases``: ``scores`` itself.

    Raises:
        NearError: there is no case.
    """
    if not scores:
        raise NearError("no cases to evaluate; expected at least one")
    metrics: dict[str, Any] = {}
    for name in METRICS:
        columns = {
            source: np.array([case[source][name] if source in case else np.nan for case in scores.values()])
            for source in (PREDICTION, BASELINE)
            if any(source in case for case in scores.values())
        }
        metrics[name] = {source: _spread(values) for source, values in columns.items()}
        if BASELINE in columns:
            metrics[name]["difference"] = _paired(columns[PREDICTION], columns[BASELINE], IDEAL.get(name))
    return {"n": len(scores), "metrics": metrics, "cases": dict(scores)}


def write_summary(summary: Mapping[str, Any], out: str | Path) -> None:
    """Write ``summary.json`` (strict: NaN is null) and ``scores.csv`` (one row per case and source) to ``out``."""
    rows = (
        {"case": name, "source": source} | {metric: values[metric] for metric in METRICS}
        for name, case in summary["cases"].items()
        for source, values in case.items()
    )
    write_text(Path(out) / "scores.csv", as_csv(rows, ["case", "source", *METRICS]))
    write_json(Path(out) / "summary.json", summary)


def format_table(summary: Mapping[str, Any]) -> str:
    """The summary as an aligned text table; ``(k/n)`` marks a figure that k of n cases went into."""
    compared = any("difference" in entry for entry in summary["metrics"].values())
    rows = [["", PREDICTION, BASELINE, "difference [95 % CI]", "better"] if compared else ["", PREDICTION]]
    for name, entry in summary["metrics"].items():
        row = [name] + [_cell(entry[source]) for source in (PREDICTION, BASELINE) if source in entry]
        if compared:
            difference = entry["difference"]
            better = difference["better"]
            row += [_cell(difference), "" if better is None else f"{better}/{difference['finite']}"]
        rows.append(row)
    return aligned(rows)


def _spread(values: NDArray[np.float64]) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    return {
        "mean": float(finite.mean()) if len(finite) else np.nan,
        "sd": float(finite.std(ddof=1)) if len(finite) > 1 else np.nan,
        "finite": len(finite),
        "n": len(values),
    }


def interval95(values: NDArray[np.float64]) -> list[float] | None:
    """95 % t-interval of the mean of finite ``values`` ``(N,)``: low and high; None below two."""
    if len(values) < 2:
        return None
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return [mean - half, mean + half]


def _paired(pred: NDArray[np.float64], base: NDArray[np.float64], ideal: float | None) -> dict[str, Any]:
    both = np.isfinite(pred) & np.isfinite(base)
    difference = (pred - base)[both]
    spread = _spread(difference)
    better = worse = None
    if ideal is not None:
        gain = np.abs(base[both] - ideal) - np.abs(pred[both] - ideal)
        better, worse = int((gain > 0).sum()), int((gain < 0).sum())
    return {
        "mean": spread["mean"],
        "ci95": interval95(difference),
        "finite": spread["finite"],
        "n": len(pred),
        "better": better,
        "worse": worse,
    }


def _cell(entry: Mapping[str, Any]) -> str:
    """``mean ± sd``, or ``mean [low, high]`` for a difference."""
    if "ci95" in entry:
        text = f"{entry['mean']:+.3f}"
        text += "" if entry["ci95"] is None else " [{:+.3f}, {:+.3f}]".format(*entry["ci95"])
    else:
        text = f"{entry['mean']:.3f}"
        text += f" ± {entry['sd']:.3f}" if entry["finite"] > 1 else ""
    return text if entry["finite"] == entry["n"] else f"{text} ({entry['finite']}/{entry['n']})"
