"""The audit on one page that needs no network: a table to sort and to filter."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

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
    web = files("near_monai.audit") / "web"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {name: Markup((web / f"audit.{name}").read_text(encoding="utf-8")) for name in ("css", "js")}
    template = environment.from_string((web / "audit.html").read_text(encoding="utf-8"))
    with_truth = any("dice_true" in line for line in lines)
    return template.render(run=run, lines=lines, shown=SHOWN, with_truth=with_truth)
