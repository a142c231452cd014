"""To find out which labels are bad, without changing any."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from near_monai.commands.shared_options import LabelOption, Output, Quiet, Table, as_text, label_of
from near_monai.errors import NearError, some


def audit(
    source: Annotated[Path, typer.Argument(metavar="LABELS", help="Label file, folder, dataset.json or datalist.")],
    output: Output,
    label: LabelOption = "auto",
    all_labels: Annotated[bool, typer.Option("--all-labels", help="Every class of the table, by itself.")] = False,
    structure: Annotated[str | None, typer.Option(help="What the class is, by its name in the anatomy table.")] = None,
    truth: Annotated[Path | None, typer.Option(help="True label maps: their scores are given, too.")] = None,
    table: Table = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda[:N].")] = "auto",
    shard: Annotated[str, typer.Option(help="i/n: every n-th case from case i (0 to n-1) on, for job arrays.")] = "",
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one per core.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Say which labels of a set are bad, the worst first.

    No label is changed: audit.csv, audit.json and audit.html say what each would score against the truth, as far as
    shape alone can tell, why, and what does not fit the rest of the set; audit/ holds what the page shows of each.
    Finished cases are skipped.

    Example: near-monai audit my_labels/ -o audit/
    """
    from near_monai.audit.audited_set import audit_files, summary_of
    from near_monai.data.class_selection import ALL
    from near_monai.data.shards import given_shard, launched_shard
    from near_monai.refinement.options import Options

    if all_labels and (label != "auto" or structure):
        raise typer.BadParameter("goes without --label and --structure", param_hint="--all-labels")
    part = given_shard(shard) if shard else launched_shard()
    which = ALL if all_labels else label_of(label)
    options = Options(which, device=device, table=as_text(table), structure=structure)
    run = audit_files(source, output, options, truth, quiet, part, workers or None)
    if not quiet:
        typer.echo(summary_of(run, output))
    failed = [case["name"] for case in run["cases"] if case["status"] == "failed"]
    if failed:
        raise NearError(f"{len(failed)} of {run['of']} cases failed: {some(failed)}; see {output}/audit.json")
