"""To measure: label maps whose truth is known, and scores against a truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from near_monai.commands.shared_options import LabelOption, Output, Quiet, label_of
from near_monai.errors import NearError, some


def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PRED", help="Refined label maps.")],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="True label maps, same names.")],
    output: Output,
    baseline: Annotated[Path | None, typer.Option(help="The noisy labels, for a paired comparison.")] = None,
    label: LabelOption = "auto",
    quiet: Quiet = False,
) -> None:
    """Score label maps against the truth.

    The output folder gets summary.json and scores.csv, and a table is printed.

    Example: near-monai evaluate refined/ truth/ -o scores/ --baseline my_labels/
    """
    from near_monai.metrics.score_tables import evaluate_folders, format_table

    summary = evaluate_folders(predictions, truth, output, baseline, label_of(label), quiet)
    typer.echo(format_table(summary))
    if failed := list(summary["failed"]):
        raise NearError(f"{len(failed)} of {summary['n']} cases cannot be scored, and count as NaN: {some(failed)}")


def phantom(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write to.")],
    number: Annotated[int, typer.Option("-n", min=1, help="Number of cases.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same cases.")] = 0,
    noise: Annotated[str, typer.Option(help="none, mild, moderate, severe, or a number from 0 to 1.5.")] = "moderate",
    hearts: Annotated[bool, typer.Option("--hearts", help="Whole hearts of ten classes.")] = False,
    quiet: Quiet = False,
) -> None:
    """Make noisy test data whose truth is known.

    Generated coronary trees, or whole hearts: labelsTr (noisy), truthTr and dataset.json.

    Example: near-monai phantom trees/ -n 16 --noise severe
    """
    from near_monai.datasets.coronary_cases import parse_level, write_phantoms
    from near_monai.datasets.heart_cases import write_hearts

    (write_hearts if hearts else write_phantoms)(output, number, seed, parse_level(noise), quiet)
