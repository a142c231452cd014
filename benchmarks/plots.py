"""Plots of the benchmark: quality against noise level, Dice by diameter, reliability, and a case before and after."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from benchmarks.diameter import NAMES
from benchmarks.measure import OURS
from benchmarks.methods import LEAVE_ONE_OUT, NOISY
from near_monai.geometry.coordinates import Grid

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: Metrics of the quality plot and their axis titles.
QUALITY = {"dice": "Dice", "cldice": "clDice", "betti0_error": "Betti-0 error"}
#: What a reader looks for first is drawn strongly.
STRONG: dict[str, dict[str, Any]] = {
    NOISY: {"color": "black", "linestyle": "--", "linewidth": 2.0},
    LEAVE_ONE_OUT: {"color": "tab:blue", "linewidth": 2.2},
    OURS: {"color": "tab:red", "linewidth": 2.8},
}
#: The other rows: tab10 without blue and red, solid and then dotted.
WEAK = [
    {"color": f"C{k}", "linestyle": line, "linewidth": 1.2} for line in ("-", ":") for k in (1, 2, 4, 5, 6, 7, 8, 9)
]
#: Panels of Dice end this far below the strong rows: "keep 2" would squeeze all others into one line.
FAR_BELOW = 0.04
ADDED, REMOVED = (0.05, 0.60, 0.15), (0.90, 0.10, 0.10)

Summary = Mapping[str, Any]


def draw_all(summary: Summary, out: Path) -> None:
    """Every plot that ``summary`` (see :func:`benchmarks.report.write_report`) has figures for."""
    draw_quality(summary["sets"], out / "quality.png")
    draw_diameters(summary["sets"], out / "diameter.png")
    draw_reliability(summary["sets"], out / "reliability.png")


def draw_quality(sets: Summary, path: Path) -> None:
    """Mean against noise level: a row of panels per kind of errors, a column per metric."""
    levels = {name: entry["level"] for name, entry in sets.items()}
    kinds = [
        kind
        for kind in ("all", "random", "systematic")
        if len({v for n, v in levels.items() if _belongs(sets[n], kind)}) > 1
    ]
    if not kinds:
        return
    figure, axes = plt.subplots(len(kinds), len(QUALITY), figsize=(14, 3.6 * len(kinds)), sharex=True, squeeze=False)
    for kind, line in zip(kinds, axes, strict=True):
        chosen = sorted((name for name in sets if _belongs(sets[name], kind)), key=levels.__getitem__)
        for axis, (metric, title) in zip(line, QUALITY.items(), strict=True):
            for row, style in _styles(sets).items():
                values = [sets[name]["rows"][row]["metrics"][metric]["mean"] for name in chosen]
                axis.plot([levels[name] for name in chosen], values, marker="o", markersize=3, label=row, **style)
            if metric != "betti0_error":
                _leave_far_below(axis)
            axis.set_title(f"{title}, {kind} errors", fontsize=10)
            axis.set_xticks([levels[name] for name in chosen], [name.split(",")[0] for name in chosen])
            axis.grid(alpha=0.3)
    _finish(figure, axes[0, 0], path)


def draw_diameters(sets: Summary, path: Path) -> None:
    """Mean Dice in the bins of true vessel diameter, one panel per set."""
    figure, axes = _panels(len(sets))
    for axis, (name, entry) in zip(axes, sets.items(), strict=False):
        for row, style in _styles(sets).items():
            values = [entry["rows"][row]["dice_by_diameter"][bin_name]["mean"] for bin_name in NAMES]
            axis.plot(range(len(NAMES)), values, marker="o", markersize=3, label=row, **style)
        _leave_far_below(axis)
        axis.set_title(name, fontsize=10)
        axis.set_xticks(range(len(NAMES)), [bin_name.removesuffix(" mm") for bin_name in NAMES])
        axis.set_xlabel("true diameter (mm)")
        axis.set_ylabel("Dice")
        axis.grid(alpha=0.3)
    _finish(figure, axes[0], path)


def draw_reliability(sets: Summary, path: Path) -> None:
    """Share of vessel against probability within 2 mm of a wall: one panel per network, one line per set."""
    rows = list(next(iter(sets.values()))["calibration"])
    figure, axes = _panels(len(rows), height=4.6, width=6.4)
    for axis, row in zip(axes, rows, strict=False):
        axis.plot([0, 1], [0, 1], color="black", linestyle=":", label="perfect")
        for name, entry in sets.items():
            found = entry["calibration"][row]
            label = f"{name}: ECE {found['per_case']['mean']:.3f}"
            axis.plot(found["bins"]["probability"], found["bins"]["vessel"], marker="o", markersize=3, label=label)
        axis.set_title(row, fontsize=10)
        axis.set_xlabel("probability")
        axis.set_ylabel("share of vessel")
        axis.legend(fontsize=7, loc="upper left")
        axis.grid(alpha=0.3)
    _save(figure, path)


def render(path: Path, panels: Mapping[str, NDArray[np.bool_]], grid: Grid) -> None:
    """Masks of one case side by side, seen along the second axis; green and red: new and gone since the first.

    Args:
        path: PNG to write.
        panels: masks ``(X, Y, Z)`` by title; the first is the noisy one.
        grid: their grid.
    """
    first = next(iter(panels.values()))
    width, height = (n * s for n, s in zip(first.shape[::2], grid.spacing[::2], strict=True))
    size = (4.2 * len(panels), 4.2 * height / width + 0.8)
    figure, axes = plt.subplots(1, len(panels), figsize=size, facecolor="white", squeeze=False)
    for axis, (title, mask) in zip(axes[0], panels.items(), strict=True):
        axis.imshow(_projection(mask, first), origin="lower", aspect=grid.spacing[2] / grid.spacing[0])
        axis.set_title(title, fontsize=11)
        axis.axis("off")
    figure.text(
        0.5, 0.01, "seen from the side; green: added to the noisy label, red: removed from it", ha="center", fontsize=10
    )
    _save(figure, path)


def _projection(mask: NDArray[np.bool_], before: NDArray[np.bool_]) -> NDArray[np.float64]:
    """``(Z, X, 3)`` image: nearer is darker; where only one of the silhouettes is, its colour."""
    depth = np.where(mask, np.arange(mask.shape[1])[None, :, None], -1).max(1) / mask.shape[1]
    grey = np.where(depth < 0, 1.0, 0.85 - 0.75 * depth)
    image = np.repeat(grey[..., None], 3, axis=-1)
    now, then = mask.any(1), before.any(1)
    image[now & ~then] = ADDED
    image[then & ~now] = REMOVED
    return image.transpose(1, 0, 2)


def _leave_far_below(axis: Axes) -> None:
    """End the panel below the strong rows; call it when all are drawn."""
    lowest = np.nanmin([line.get_ydata() for line in axis.lines if line.get_label() in STRONG])
    axis.set_ylim(bottom=max(lowest - FAR_BELOW, axis.get_ylim()[0]))


def _belongs(entry: Summary, kind: str) -> bool:
    """Whether a set is a point on the curve of ``kind``; labels without noise are on every curve."""
    return entry["errors"] == kind or entry["level"] == 0


def _styles(sets: Summary) -> dict[str, dict[str, Any]]:
    """Line style per row, the same in every plot; strong ones are drawn last."""
    rows = list(next(iter(sets.values()))["rows"])
    weak = [row for row in rows if row not in STRONG]
    styles = {row: WEAK[k % len(WEAK)] for k, row in enumerate(weak)}
    return styles | {row: style for row, style in STRONG.items() if row in rows}


def _panels(count: int, width: float = 4.2, height: float = 3.4) -> tuple[Figure, list[Axes]]:
    columns = min(count, 4)
    lines = math.ceil(count / columns)
    figure, axes = plt.subplots(lines, columns, figsize=(width * columns, height * lines), squeeze=False)
    for axis in axes.flat[count:]:
        axis.axis("off")
    return figure, list(axes.flat)


def _finish(figure: Figure, axis: Axes, path: Path) -> None:
    """One legend for all panels, below them."""
    handles, labels = axis.get_legend_handles_labels()
    figure.tight_layout()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, fontsize=9)
    _save(figure, path, tight=False)


def _save(figure: Figure, path: Path, tight: bool = True) -> None:
    if tight:
        figure.tight_layout()
    figure.savefig(path, dpi=100, bbox_inches="tight")
    plt.close(figure)
