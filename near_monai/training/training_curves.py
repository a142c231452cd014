"""The history of a training run: a table of its epochs, and, where matplotlib is installed, a picture of it."""

from __future__ import annotations

import csv
import math
from importlib.util import find_spec
from io import BytesIO, StringIO
from pathlib import Path

from near_monai.formats.atomic_writing import replacing, write_text

#: Columns of the table and what they are called in the picture.
COLUMNS = {
    "epoch": "epoch",
    "loss": "loss (mean of the epoch)",
    "full_grid_dice": "full-grid Dice (validation)",
    "lr": "learning rate",
    "seconds": "seconds",
}


class History:
    """``history.csv`` and ``curves.png`` in the folder of a run; a run that is resumed goes on with them.

    Args:
        folder: folder of the run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def rows(self) -> list[dict[str, float]]:
        """One row per epoch, by :data:`COLUMNS`; NaN where nothing was measured."""
        path = self.folder / "history.csv"
        if not path.is_file():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            return [{name: float(row.get(name) or math.nan) for name in COLUMNS} for row in csv.DictReader(file)]

    def put(self, epoch: int, **values: float) -> None:
        """Set figures of an epoch. Later epochs go: the run was stopped after them and resumed before.

        Raises:
            NearError: the files cannot be written.
        """
        rows = {int(row["epoch"]): row for row in self.rows() if row["epoch"] <= epoch}
        rows[epoch] = dict.fromkeys(COLUMNS, math.nan) | rows.get(epoch, {}) | {"epoch": epoch} | values
        text = StringIO(newline="")
        table = csv.DictWriter(text, list(COLUMNS), lineterminator="\n")
        table.writeheader()
        table.writerows({k: "" if math.isnan(v) else f"{v:.6g}" for k, v in row.items()} for row in rows.values())
        write_text(self.folder / "history.csv", text.getvalue())
        if find_spec("matplotlib") is not None:  # a bundle does not ask for it
            self._draw(list(rows.values()))

    def _draw(self, rows: list[dict[str, float]]) -> None:
        from matplotlib.figure import Figure

        figure = Figure((10, 3.2), layout="constrained")
        for axis, name in zip(figure.subplots(1, 3), ("loss", "full_grid_dice", "lr"), strict=True):
            points = [(row["epoch"], row[name]) for row in rows if math.isfinite(row[name])]
            axis.plot([x for x, _ in points], [y for _, y in points], marker="o", markersize=3)
            axis.set(title=COLUMNS[name], xlabel="epoch")
            axis.grid(alpha=0.3)
        buffer = BytesIO()
        figure.savefig(buffer, dpi=100)
        with replacing(self.folder / "curves.png") as temporary:
            temporary.write_bytes(buffer.getvalue())
