"""Options that several commands have, and what their words mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from near_monai.errors import NearError

if TYPE_CHECKING:
    from near_monai.data.class_selection import Wanted

Output = Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, errors only.")]
Table = Annotated[Path | None, typer.Option(help="Anatomy table (YAML); the heart's if not given.")]
LabelOption = Annotated[str, typer.Option(help="Class to work on: a number, fg (everything above 0), or auto.")]


def as_text(path: Path | None) -> str | None:
    """A path as records and configurations hold it."""
    return None if path is None else str(path)


def label_of(text: str) -> Wanted:
    """What --label chooses."""
    from near_monai.data.class_selection import parse_class

    try:
        return parse_class(text)
    except NearError as error:
        raise typer.BadParameter(str(error), param_hint="--label") from None


def cube_of(text: str) -> int | None:
    """Voxels per side that --resolution asks for; None for the grid of the file."""
    if text == "native":
        return None
    if not text.isdecimal() or not 8 <= int(text) <= 1024:
        raise typer.BadParameter(f"{text!r}; expected a whole number from 8 to 1024", param_hint="--resolution")
    return int(text)
