"""To look at what a run changed, and to take single edits back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from near_monai.commands.shared_options import Quiet

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that refine wrote to.")]


def report(run: Run, quiet: Quiet = False) -> None:
    """Show what a run changed, on a page.

    RUN/report.html lists all cases, worst first, and opens each from RUN/report/: before, after, every edit and its
    place.

    Example: near-monai report refined/
    """
    write_page(run, quiet)


def apply(
    run: Run,
    reject: Annotated[list[str] | None, typer.Option(metavar="ID", help="CASE/LABEL/EDIT, as in the report.")] = None,
    accept: Annotated[list[str] | None, typer.Option(metavar="ID", help="An edit that was rejected before.")] = None,
) -> None:
    """Take single edits of a run back.

    RUN/reviewed gets all cases, without the rejected edits. Nothing else changes.

    Example: near-monai apply refined/ --reject case_1/9/B-3f2c07
    """
    from near_monai.review.reviewed_run import REVIEW_FOLDER, apply_review

    rejected = apply_review(run, reject or (), accept or ())
    count = sum(len(edits) for edits in rejected.values())
    typer.echo(f"edits rejected: {count}; all cases are in {run / REVIEW_FOLDER}")


def write_page(run: Path, quiet: bool) -> None:
    """Write the page of a run, and say where it is."""
    from near_monai.review.html_report import write_report

    page = write_report(run, quiet)
    if not quiet:
        typer.echo(f"{page} written")
