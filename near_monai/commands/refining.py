"""To clean label maps, to make one map of them, and to draw masks from saved codes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from near_monai.commands.reviewing import write_page
from near_monai.commands.shared_options import LabelOption, Output, Quiet, Table, as_text, cube_of, label_of
from near_monai.errors import NearError, some


def refine(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Label file, folder, dataset.json or datalist.")],
    output: Output,
    label: LabelOption = "auto",
    weights: Annotated[str | None, typer.Option(help="Weights (.safetensors); the shipped ones if not given.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda[:N].")] = "auto",
    resolution: Annotated[str, typer.Option(help="native, or N for a cube of N^3 voxels around the label.")] = "native",
    save_codes: Annotated[bool, typer.Option("--save-codes", help="Also write z of every case.")] = False,
    save_probability: Annotated[bool, typer.Option("--save-probability", help="Also write F on the grid.")] = False,
    no_clean: Annotated[bool, typer.Option("--no-clean", help="Neither join nor drop pieces.")] = False,
    join_above: Annotated[float, typer.Option(min=0, max=1, help="Join pieces from this probability.")] = 0.4,
    propose_above: Annotated[float, typer.Option(min=0, max=1, help="List joints from this probability.")] = 0.15,
    drop_below: Annotated[float, typer.Option(min=0, max=1, help="Drop pieces less probably vessel than this.")] = 0.15,
    structure: Annotated[str | None, typer.Option(help="What the class is, by its name in the anatomy table.")] = None,
    all_labels: Annotated[bool, typer.Option("--all-labels", help="Refine and fuse every class of the table.")] = False,
    table: Table = None,
    shard: Annotated[str, typer.Option(help="i/n: every n-th case from case i (0 to n-1) on, for job arrays.")] = "",
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one per core.")] = 0,
    report: Annotated[
        bool, typer.Option("--report", help="Also write report.html, as near-monai report does.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Repair noisy label maps.

    The output folder gets files of the same names, grids and headers, and run.json. Finished cases are skipped.

    Example: near-monai refine my_labels/ -o refined/ --report
    """
    from near_monai.data.class_selection import ALL, AUTO
    from near_monai.data.shards import given_shard, launched_shard
    from near_monai.refinement.many_files import refine_files, summary_of
    from near_monai.refinement.options import Options
    from near_monai.repair.judge import Bounds

    part = given_shard(shard) if shard else launched_shard()
    cube = cube_of(resolution)
    which = label_of(label)
    if all_labels:
        of_one_class = which is not AUTO or cube or save_probability or no_clean or structure
        _check_all_labels(bool(of_one_class), save_codes, weights)
    clean = False if no_clean else Bounds(join_above, propose_above, drop_below)
    chosen = ALL if all_labels else which
    options = Options(chosen, weights, device, cube, save_codes, save_probability, clean, as_text(table), structure)
    run = refine_files(source, output, options, quiet, part, workers or None)
    if report:
        write_page(output, quiet)
    if not quiet:
        typer.echo(summary_of(run, output))
    failed = [case["name"] for case in run["cases"] if case["status"] == "failed"]
    if failed:
        raise NearError(f"{len(failed)} of {run['of']} cases failed: {some(failed)}; see {output}/run.json")


def _check_all_labels(of_one_class: bool, save_codes: bool, weights: str | None) -> None:
    if of_one_class:
        raise typer.BadParameter("goes with --weights, --table, --device, --save-codes", param_hint="--all-labels")
    if save_codes and not weights:
        raise typer.BadParameter(
            "needs one function of all classes: --weights heart.safetensors", param_hint="--save-codes"
        )


def fuse(
    refined: Annotated[list[Path], typer.Argument(metavar="REFINED_DIR...", help="Folders of label maps.")],
    output: Output,
    table: Table = None,
    quiet: Quiet = False,
) -> None:
    """Make one map per case of classes refined one by one.

    Overlaps are decided, slits and small holes are filled, and fuse.json lists what breaks a rule of the anatomy table.

    Example: near-monai fuse refined_6/ refined_9/ -o fused/
    """
    from near_monai.refinement.folder_fusion import fuse_folders

    fuse_folders(refined, output, table, quiet)


def redraw(
    codes: Annotated[Path, typer.Argument(metavar="CODES", help="Code file, or a folder of them.")],
    output: Output,
    weights: Annotated[
        str | None, typer.Option(help="Weights the codes were made with, if they are not shipped.")
    ] = None,
    resolution: Annotated[str, typer.Option(help="native, or N for a cube of N^3 voxels.")] = "native",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda[:N].")] = "auto",
) -> None:
    """Draw masks from saved codes, at any resolution.

    The codes are those of refine --save-codes. The repair that follows F in refine is not done.

    Example: near-monai redraw refined/codes/ -o finer/ --resolution 512
    """
    from near_monai.refinement.redrawing import redraw_files

    cube = cube_of(resolution)
    typer.echo(f"{redraw_files(codes, output, weights, cube, device)} masks written to {output}")


def structures(table: Table = None) -> None:
    """List the structures of a table, and the shipped weights.

    Their names are what --structure and --weights take.

    Example: near-monai structures
    """
    from near_monai.networks.catalogue import structures_and_weights

    typer.echo(structures_and_weights(table))


def consensus(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR DIR...", help="Folders of label maps.")],
    output: Output,
    label: LabelOption = "auto",
    all_labels: Annotated[bool, typer.Option("--all-labels", help="Every class of the table, made one map.")] = False,
    structure: Annotated[str | None, typer.Option(help="What the class is, by its name in the anatomy table.")] = None,
    table: Table = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda[:N].")] = "auto",
    quiet: Quiet = False,
) -> None:
    """Make one map per case of what several maps agree on.

    Of readers, networks or time points. agreement/ says where they agree, consensus.json where they do not.

    Example: near-monai consensus reader_1/ reader_2/ -o agreed/
    """
    from near_monai.data.class_selection import ALL
    from near_monai.refinement.consensus_folders import consensus_folders

    if all_labels and (label != "auto" or structure):
        raise typer.BadParameter("goes without --label and --structure", param_hint="--all-labels")
    which = ALL if all_labels else label_of(label)
    run = consensus_folders(folders, output, which, structure, table, device, quiet)
    if not quiet:
        typer.echo(f"{len(run['cases'])} cases written to {output}")
