"""To measure vessels: trees of centrelines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from near_monai.commands.shared_options import LabelOption, Output, Quiet, Table, as_text, label_of
from near_monai.errors import NearError, some


def tree(
    source: Annotated[Path, typer.Argument(metavar="LABELS", help="Label file, folder, dataset.json or datalist.")],
    output: Output,
    label: LabelOption = "auto",
    write_labels: Annotated[
        bool, typer.Option("--write-labels", help="Also write maps of left and right, and of names if known.")
    ] = False,
    table: Table = None,
    shard: Annotated[str, typer.Option(help="i/n: every n-th case from case i (0 to n-1) on, for job arrays.")] = "",
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one per core.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Measure vessels: rooted trees of centrelines.

    The output folder gets CASE.json and CASE.vtp (centrelines in mm, radii, branches), branches.csv of all cases, and
    trees.json. Finished cases are skipped.

    Example: near-monai tree refined/ -o trees/
    """
    from near_monai.data.shards import given_shard, launched_shard
    from near_monai.trees.many_files import write_all

    part = given_shard(shard) if shard else launched_shard()
    run = write_all(source, output, label_of(label), as_text(table), write_labels, quiet, part, workers or None)
    done = [row for row in run["cases"] if row["status"] == "done"]
    if not quiet:
        count, branches = (sum(row[key] for row in done) for key in ("trees", "branches"))
        typer.echo(f"{len(done)} of {run['of']} cases done, in {output} (trees: {count}, branches: {branches})")
    failed = [row["name"] for row in run["cases"] if row["status"] == "failed"]
    if failed:
        raise NearError(f"{len(failed)} of {run['of']} cases failed: {some(failed)}; see {output}/trees.json")
