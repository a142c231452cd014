"""``near-monai``: the users' door. A thin layer; heavy modules load inside the commands so that help comes at once."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from near_monai.errors import NearError, UsageError, in_one_line, some
from near_monai.version import __version__

app = typer.Typer(
    help="Noisy labels of the heart in, above all of its coronary arteries, clean ones out. A research tool, not for "
    "clinical use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Output = Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, errors only.")]
Table = Annotated[Path | None, typer.Option(help="Anatomy table (YAML); the heart's if not given.")]
Tracking = Literal["mlflow"]
LabelOption = Annotated[str, typer.Option(help="Class to work on: a number, fg (everything above 0), or auto.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"near-monai {__version__}")
        raise typer.Exit


@app.callback()
def _before(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command()
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
    from near_monai.data.shards import given_shard, launched_shard
    from near_monai.refinement.many_files import refine_files, summary_of
    from near_monai.refinement.one_file import Options
    from near_monai.repair.judge import Bounds

    part = given_shard(shard) if shard else launched_shard()
    cube = None if resolution == "native" else _whole_number(resolution, "--resolution", 8, 1024)
    which = _label(label)
    if all_labels:
        if which != "auto" or cube or save_probability or no_clean or structure:
            raise typer.BadParameter("goes with --weights, --table, --device, --save-codes", param_hint="--all-labels")
        if save_codes and not weights:
            raise typer.BadParameter(
                "needs one function of all classes: --weights heart.safetensors", param_hint="--save-codes"
            )
        which = "all"
    clean = False if no_clean else Bounds(join_above, propose_above, drop_below)
    options = Options(which, weights, device, cube, save_codes, save_probability, clean, _text(table), structure)
    run = refine_files(source, output, options, quiet, part, workers or None)
    if report:
        _report(output, quiet)
    if not quiet:
        typer.echo(summary_of(run, output))
    failed = [case["name"] for case in run["cases"] if case["status"] == "failed"]
    if failed:
        raise NearError(f"{len(failed)} of {run['of']} cases failed: {some(failed)}; see {output}/run.json")


Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that refine wrote to.")]


@app.command()
def report(run: Run, quiet: Quiet = False) -> None:
    """Show what a run changed, on one page.

    RUN/report.html has every case before and after, worst first, and every edit with its place.

    Example: near-monai report refined/
    """
    _report(run, quiet)


@app.command()
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


@app.command()
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


@app.command()
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

    cube = None if resolution == "native" else _whole_number(resolution, "--resolution", 8, 1024)
    typer.echo(f"{redraw_files(codes, output, weights, cube, device)} masks written to {output}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
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
        "initial-weights": initial_weights, "label": label, "table": _text(table), "lr": lr, "max-epochs": max_epochs
    }  # fmt: skip
    words = [word for key, value in given.items() if value is not None for word in (f"--{key}", str(value))]
    run_training(output, dataset_dir, list(config or []), words + context.args, tracking)


@app.command()
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

    summary = evaluate_folders(predictions, truth, output, baseline, _label(label), quiet)
    typer.echo(format_table(summary))
    if failed := list(summary["failed"]):
        raise NearError(f"{len(failed)} of {summary['n']} cases cannot be scored, and count as NaN: {some(failed)}")


@app.command()
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


@app.command()
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


@app.command()
def surface(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Label file, folder, dataset.json or datalist.")],
    output: Output,
    label: LabelOption = "auto",
    kind: Annotated[Literal["stl", "ply"], typer.Option("--format", help="Binary STL or PLY.")] = "stl",
    table: Table = None,
    quiet: Quiet = False,
) -> None:
    """Write label maps as closed surfaces, STL or PLY.

    They are in mm of the world (RAS) and have the volume of the label. Of a map of several classes each gets its own,
    NAME_CLASS.stl, unless --label chooses one.

    Example: near-monai surface refined/ -o surfaces/ --format ply
    """
    from near_monai.exports.surface_meshes import write_surfaces

    count = write_surfaces(source, output, _label(label), kind, quiet, table)
    typer.echo(f"{count} surfaces written to {output}")


@app.command()
def structures(table: Table = None) -> None:
    """List the structures of a table, and the shipped weights.

    Their names are what --structure and --weights take.

    Example: near-monai structures
    """
    from near_monai.networks.catalogue import structures_and_weights

    typer.echo(structures_and_weights(table))


@app.command()
def dataset(
    refined: Annotated[Path, typer.Argument(metavar="REFINED", help="Refined label maps.")],
    source: Annotated[
        Path, typer.Argument(metavar="DATASET", help="MSD or nnU-Net data set that they were made from.")
    ],
    output: Output,
) -> None:
    """Put refined labels in the place of those of a data set.

    The output folder gets the data set (MSD or nnU-Net); what else it holds, such as images, is linked, not copied.

    Example: near-monai dataset refined/ Dataset001/ -o Dataset501/
    """
    from near_monai.exports.relabelled_dataset import exchange_labels

    typer.echo(f"{exchange_labels(refined, source, output)} labels written to {output}")


@app.command()
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


def _report(run: Path, quiet: bool) -> None:
    from near_monai.review.html_report import write_report

    page = write_report(run, quiet)
    if not quiet:
        typer.echo(f"{page} written")


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _label(text: str) -> int | str:
    return text if text in ("auto", "fg") else _whole_number(text, "--label", 1, 65535)


def _whole_number(text: str, option: str, low: int, high: int) -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise typer.BadParameter(f"{text!r}; expected a whole number from {low} to {high}", param_hint=option)
    return int(text)


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: 0 success, 1 failure (one line on stderr), 2 wrong usage, 130 stopped by Ctrl-C."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("near_monai").setLevel(logging.INFO)
    try:
        app(args=arguments, prog_name="near-monai")
    except NearError as error:
        print(f"near-monai: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, UsageError) else 1) from None
    except Exception as error:  # nobody's traceback: python -X dev -m near_monai shows it
        if sys.flags.dev_mode:
            raise
        print(f"near-monai: {in_one_line(error)}", file=sys.stderr)
        raise SystemExit(1) from None
