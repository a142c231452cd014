"""The audit on one page that needs no network: a table to sort and to filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from near_monai.review.page_template import page_template

#: Columns of scores on the page: their key in the table, and what they are called.
SHOWN = (
    ("dice", "Dice"),
    ("surface_dice_1mm", "Surface Dice 1 mm"),
    ("cldice", "clDice"),
    ("betti0_error", "Betti-0 error"),
)


def page_of(run: dict[str, Any], lines: Sequence[dict[str, Any]]) -> str:
    """The page, whatever is put into it escaped.

    Args:
        run: what ``audit.json`` holds.
        lines: those of ``audit.csv``, in order.
    """
    with_truth = any("dice_true" in line for line in lines)
    template = page_template("near_monai.audit", "audit")
    return template.render(run=run, lines=lines, shown=SHOWN, with_truth=with_truth)
