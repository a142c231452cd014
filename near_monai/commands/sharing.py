"""To give results to others: surfaces, data sets with refined labels, packed bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from near_monai.commands.shared_options import LabelOption, Output, Quiet, Table, label_of


def surface(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Label file, folder, dataset.json or datalist.")],
    output: Output,
    label: LabelOption = "auto",
    kind: Annotated[Literal["stl", "ply", "vtp"], typer.Option("--format", help="STL, PLY or VTP.")] = "stl",
    smooth: Annotated[bool, typer.Option("--smooth", help="Without staircase.")] = False,
    caps: Annotated[bool, typer.Option("--caps", help="Smooth, and cut flat at the ends of vessels.")] = False,
    triangle: Annotated[float | None, typer.Option(min=0.02, help="Smooth, with edges of so many mm at most.")] = None,
    extensions: Annotated[
        float, typer.Option(min=0, metavar="N", help="For flow: smooth, and ends prolonged by N of their diameters.")
    ] = 0,
    wall: Annotated[
        float, typer.Option(min=0, metavar="MM", help="For printing: smooth hollow vessels, with a wall of MM outside.")
    ] = 0,
    table: Table = None,
    quiet: Quiet = False,
) -> None:
    """Write label maps as closed surfaces: STL, PLY or VTP.

    They are in mm of the world (RAS) and have the volume of the label. Of a map of several classes each gets its own,
    NAME_CLASS.stl, unless --label chooses one.

    Example: near-monai surface refined/ -o surfaces/ --smooth --format ply
    """
    from near_monai.exports.surface_meshes import Kind, write_surfaces

    how = Kind(smooth, caps, triangle, extensions, wall)
    count = write_surfaces(source, output, label_of(label), kind, quiet, table, how)
    typer.echo(f"{count} surfaces written to {output}")


def dataset(
    refined: Annotated[Path, typer.Argument(metavar="REFINED", help="Refined label maps.")],
    source: Annotated[
        Path, typer.Argument(metavar="DATASET", help="MSD or nnU-Net data set that they were made from.")
    ],
    output: Output,
    ignore_uncertain: Annotated[
        float | None, typer.Option(metavar="P", help="What F is less sure of than P gets the label ignore.")
    ] = None,
) -> None:
    """Put refined labels in the place of those of a data set.

    The output folder gets the data set (MSD or nnU-Net); what else it holds, such as images, is linked, not copied.
    With --ignore-uncertain .8, training leaves out what nobody knows (refine with --save-probability before).

    Example: near-monai dataset refined/ Dataset001/ -o Dataset501/
    """
    from near_monai.exports.relabelled_dataset import exchange_labels

    typer.echo(f"{exchange_labels(refined, source, output, ignore_uncertain)} labels written to {output}")


def pack(
    output: Annotated[Path, typer.Option("-o", "--output", help="A new .zip, such as coronary_near.zip.")],
    weights: Annotated[Path | None, typer.Option(help="Your weights; the shipped ones if not given.")] = None,
    data: Annotated[str | None, typer.Option(help="Whose data made your weights, for the model card.")] = None,
    authors: Annotated[str | None, typer.Option(help="Who made them.")] = None,
    version_name: Annotated[str | None, typer.Option(help="Version of the bundle.")] = None,
) -> None:
    """Pack a MONAI bundle to share, as a zip.

    It runs with this package or without it, and nothing of the training cases goes in. The configurations of a bundle,
    and its source, are programs: run only those of people whom you trust.

    Example: near-monai pack -o mine.zip --weights runs/mine/best.safetensors
    """
    from near_monai.exports.packed_bundle import Provenance
    from near_monai.exports.packed_bundle import pack as write_pack

    write_pack(output, weights, Provenance(data, authors, version_name))
