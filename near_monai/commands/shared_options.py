"""Options that several commands have, and what their words mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, errors only.")]
Table = Annotated[Path | None, typer.Option(help="Anatomy table (YAML); the heart's if not given.")]
LabelOption = Annotated[str, typer.Option(help="Class to work on: a number, fg (everything above 0), or auto.")]


def as_text(path: Path | None) -> str | None:
    """A path as records and configurations hold it."""
    return None if path is None else str(path)


def label_of(text: str) -> int | str:
    """What --label chooses."""
    return text if text in ("auto", "fg") else _whole_number(text, "--label", 1, 65535)


def cube_of(text: str) -> int | None:
    """Voxels per side that --resolution asks for; None for the grid of the file."""
    return None if text == "native" else _whole_number(text, "--resolution", 8, 1024)


def _whole_number(text: str, option: str, low: int, high: int) -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise typer.BadParameter(f"{text!r}; expected a whole number from {low} to {high}", param_hint=option)
    return int(text)
