"""``near-monai``: the users' door. Heavy modules load inside the commands, so that help comes at once."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from near_monai.commands.auditing import audit
from near_monai.commands.own_weights import prepare, train
from near_monai.commands.refining import consensus, fuse, redraw, refine, structures
from near_monai.commands.reviewing import apply, report
from near_monai.commands.scoring import evaluate, phantom
from near_monai.commands.sharing import dataset, pack, surface
from near_monai.commands.vessels import tree
from near_monai.errors import NearError, UsageError, in_one_line
from near_monai.version import __version__

app = typer.Typer(
    help="Noisy labels of the heart in, above all of its coronary arteries, clean ones out. A research tool, not for "
    "clinical use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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


#: In the order in which help lists them.
COMMANDS: tuple[Callable[..., None], ...] = (
    *(refine, report, apply, audit, consensus, fuse, redraw),
    *(train, evaluate, phantom, prepare),
    *(tree, surface, structures, dataset, pack),
)
for command in COMMANDS:
    others_too = {"allow_extra_args": True, "ignore_unknown_options": True} if command is train else None
    app.command(context_settings=others_too)(command)


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
