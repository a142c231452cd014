"""To train on labels of one's own, and to get data ready for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from near_monai.commands.shared_options import Output, as_text

Tracking = Literal["mlflow"]


def train(
    context: typer.Context,
    output: Output,
    dataset_dir: Annotated[str, typer.Option(help="Your labels; generated trees alone if not given.")] = "",
    config: Annotated[
        list[Path] | None,
        typer.Option(help="Laid over the bundle's train.json: recipe, organs, heart, or a file. May be repeated."),
    ] = None,
    initial_weights: Annotated[str | None, typer.Option(help="Weights to start from (fine-tuning).")] = None,
    label: Annotated[str | None, typer.Option(help="Class to train on: a number, fg or auto (the default).")] = None,
    table: Annotated[Path | None, typer.Option(help="With --config organs: anatomy table (YAML).")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; 0.002 if not given, less to fine-tune.")] = None,
    max_epochs: Annotated[int | None, typer.Option(help="Epochs; 10 if not given, which is a trial.")] = None,
    tracking: Annotated[Tracking | None, typer.Option(help="Record the run there, too.")] = None,
) -> None:
    """Make weights of your own for refine --weights.

    Every key of bundle/configs/train.json is an option, too: --val-interval 5, --train#dataset#window 32.

    Example: near-monai train --dataset-dir my_labels/ -o runs/mine --lr 0.0005
    """
    typer.echo(f"getting ready to train into {output} (Ctrl-C stops; the same command goes on)", err=True)
    from near_monai.training.train_command import run_training

    given = {
        "initial-weights": initial_weights, "label": label, "table": as_text(table), "lr": lr, "max-epochs": max_epochs
    }  # fmt: skip
    words = [word for key, value in given.items() if value is not None for word in (f"--{key}", str(value))]
    run_training(output, dataset_dir, list(config or []), words + context.args, tracking)


def prepare(
    ct_dir: Annotated[Path, typer.Argument(metavar="CT_DIR", help="CT images.")],
    label_dir: Annotated[Path, typer.Argument(metavar="LABEL_DIR", help="Label maps of the same names.")],
    output: Output,
    margin: Annotated[float, typer.Option(help="mm kept around the label.")] = 10.0,
    resolution: Annotated[int, typer.Option(help="Voxels per side of the cube.")] = 256,
) -> None:
    """Cut CT images and labels to cubes around the label.

    Both are cropped to the label plus a margin, and resized.

    Example: near-monai prepare ct/ labels/ -o cubes/ --margin 10
    """
    from near_monai.data.cubes import prepare as prepare_folders

    typer.echo(f"{len(prepare_folders(ct_dir, label_dir, output, margin, resolution))} cases written to {output}")
