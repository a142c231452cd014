"""Pages of many cases that need no network: an index, and beside it a file per case that is loaded when it is opened.

Browsers do not let a page from a file fetch another file, but they let it run a script: the file of a case is one, and
hands its content to the page.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from near_monai.formats.atomic_writing import to_json, write_text
from near_monai.review.projections import View

#: In the folder beside a page: what draws in 3-D, and the folder of the files of cases.
PLOTLY_FILE, CASE_FOLDER = "plotly.js", "cases"
#: Text, kind and place in per cent of a mark in a picture.
Mark = dict[str, Any]
Order = Literal["ascending", "descending"]


@dataclass(frozen=True)
class Column:
    """A column of the index.

    Attributes:
        title: its head.
        first: the order in which what is worst comes first.
        hint: what it means.
    """

    title: str
    first: Order = "ascending"
    hint: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of the index.

    Attributes:
        text: what it says.
        value: what the column is sorted by instead of ``text``: a number, or NaN for what is not known.
        note: what stands below, small.
        trouble: whether it is a warning.
    """

    text: str
    value: float | None = None
    note: str = ""
    trouble: bool = False

    @property
    def sorted_by(self) -> float | str | None:
        """``value`` as the page reads it: empty for NaN."""
        if self.value is None:
            return None
        if math.isinf(self.value):
            return "Infinity"
        return "" if math.isnan(self.value) else self.value


@dataclass(frozen=True)
class Entry:
    """A row of the index.

    Attributes:
        name: the case.
        cells: one per column, after that of the name.
        shown: whether there is a file of the case.
    """

    name: str
    cells: tuple[Cell, ...]
    shown: bool


@dataclass(frozen=True)
class Details:
    """What a case shows.

    Attributes:
        name: the case.
        trouble: warnings that the index does not have.
        parts: figures per structure, as in ``run.json``.
        links: files, relative to the page, by what they are called.
        colours: CSS colours of classes, by name.
        views: what :func:`shown_view` gives.
        scene: what :func:`near_monai.review.surface_scene.packed` gives.
        edits: what can be taken back.
        more: edits that are not listed.
        places: captions, and per caption rows with a ``text`` and ``spots``: how each is called, and its world mm.
    """

    name: str
    trouble: Sequence[str] = ()
    parts: Sequence[Mapping[str, Any]] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    colours: Sequence[tuple[str, str]] = ()
    views: Sequence[Mapping[str, Any]] = ()
    scene: Mapping[str, Any] = field(default_factory=dict)
    edits: Sequence[Mapping[str, Any]] = ()
    more: int = 0
    places: Sequence[tuple[str, Sequence[Mapping[str, Any]]]] = ()


def shown_view(view: View, marks: Mapping[str, Sequence[Mark]]) -> dict[str, Any]:
    """A view for the page, with the ``marks`` of every moment."""
    pictures = [{"moment": moment, "png": _uri(png), "marks": marks[moment]} for moment, png in view.pictures.items()]
    return {"name": view.name, "sides": view.sides, "pictures": pictures}


def case_file(page: str, name: str) -> str:
    """The file of a case, from the folder of the ``page``."""
    return f"{_folder(page)}/{CASE_FOLDER}/{name}.js"


def write_case(page: Path, case: Details, kept: object = None) -> None:
    """Write the file of a case beside ``page``, and into it what :func:`kept_of` gives."""
    html = _templates().get_template("case.html").render(case=case)
    head, name, content = (json.dumps(to_json(x)) for x in (kept, case.name, {"html": html, "scene": case.scene}))
    write_text(page.parent / case_file(page.name, case.name), f"// {head}\nnearCase({name}, {content});\n")


def kept_of(page: Path, name: str) -> Any:
    """What was written into the file of a case for whoever writes the page again; ``None`` if there is none."""
    try:
        with (page.parent / case_file(page.name, name)).open(encoding="utf-8") as file:
            return json.loads(file.readline().removeprefix("// "))
    except (OSError, ValueError):
        return None


def write_index(
    page: Path,
    title: str,
    place: str,
    about: Sequence[str],
    columns: Sequence[Column],
    entries: Sequence[Entry],
    run: str | None = None,
) -> None:
    """Write the index of cases, whatever is put into it escaped, and what draws them in 3-D.

    Args:
        page: the file.
        title: what it shows.
        place: of what.
        about: what a reader has to know, one paragraph each.
        columns: those after rank and name.
        entries: rows, the worst first.
        run: the folder of a run whose edits can be taken back.
    """
    plotly = f"{_folder(page.name)}/{PLOTLY_FILE}"
    if not (page.parent / plotly).is_file():
        write_text(page.parent / plotly, get_plotlyjs())
    web = files("near_monai.review") / "web"
    css, *js = ((web / name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "curve.js", "scene.js"))
    text = (
        _templates()
        .get_template("page.html")
        .render(
            title=title,
            place=place,
            about=about,
            columns=columns,
            entries=entries,
            run=run,
            plotly=quote(plotly),
            file_of=lambda name: quote(case_file(page.name, name)),
            css=Markup(css),
            js=Markup("".join(js)),
        )
    )
    write_text(page, text)


def drop_others(page: Path, names: set[str]) -> None:
    """Remove the files of cases beside ``page`` that have none of ``names``: nobody shall hand them on unawares."""
    kept = {page.parent / case_file(page.name, name) for name in names}
    for path in (page.parent / _folder(page.name) / CASE_FOLDER).rglob("*.js"):
        if path not in kept:
            path.unlink()


def _folder(page: str) -> str:
    """The folder beside a page that holds all that is not in it."""
    return Path(page).stem


@cache
def _templates() -> Environment:
    loader = PackageLoader("near_monai.review", "web")
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters["url"] = quote
    return found


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
