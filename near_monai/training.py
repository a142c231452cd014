"""``near-monai train``: the bundle's training, behind a door that refuses what it does not know."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser, ConfigWorkflow

from near_monai.errors import NearError
from near_monai.resources import bundle_dir

#: Keys of the configuration that have an option of their own.
DOORS = {"output_dir": "-o", "dataset_dir": "--dataset-dir", "bundle_root": "the installed bundle"}


def run_training(output: Path, dataset_dir: str, configs: Sequence[Path], arguments: Sequence[str]) -> None:
    """Train with the bundle's configuration.

    Args:
        output: folder of the run: configuration, checkpoints, TensorBoard, held-out figures.
        dataset_dir: the user's labels; empty for generated trees alone.
        configs: configurations (JSON, YAML) laid over ``train.json``, in order; a bare name is looked up in the bundle.
        arguments: overrides ``--key value`` for keys of that configuration, ``#`` between levels.

    Raises:
        NearError: an unknown key or missing value, or whatever goes wrong while setting up.
    """
    folder = bundle_dir() / "configs"
    files = [folder / "train.json", *(c if c.is_file() else folder / c.with_suffix(".json") for c in configs)]
    for file in files:
        if not file.is_file():
            raise NearError(f"{file}: no such configuration")
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    override = parse_overrides(arguments, parser)
    override |= {"output_dir": str(output), "dataset_dir": dataset_dir, "bundle_root": str(bundle_dir())}
    try:
        workflow = ConfigWorkflow(
            [str(file) for file in files],
            meta_file=str(folder / "metadata.json"),
            logging_file=str(folder / "logging.conf"),
            workflow_type="train",
            **override,
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    except Exception as error:
        known = _known(error)
        if known is None:
            raise
        raise known from error


def parse_overrides(arguments: Sequence[str], parser: ConfigParser) -> dict[str, Any]:
    """``--key value`` and ``--key=value`` to a mapping; values are read as YAML, so ``true`` and ``null`` mean it.

    Raises:
        NearError: a key that ``parser`` does not hold, or a key without a value.
    """
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    found: dict[str, Any] = {}
    for position in range(0, len(words), 2):
        key = words[position].removeprefix("--")
        if not words[position].startswith("--") or position + 1 == len(words):
            raise NearError(f"{words[position]!r}: expected pairs --key value")
        if key not in parser:
            close = difflib.get_close_matches(key, [k for k in parser.get() if isinstance(k, str)], 1)
            hint = f"did you mean --{close[0]}?" if close else "see bundle/configs/train.json for the keys"
            raise NearError(f"--{key}: the training configuration has no such key; {hint}")
        if key in DOORS:
            raise NearError(f"--{key}: use {DOORS[key]} instead")
        found[key] = _value(key, words[position + 1])
    return found


def _value(key: str, text: str) -> Any:
    try:
        return json.loads(text)  # before YAML, which takes 5e-4 for a word
    except ValueError:
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise NearError(f"--{key}: {text!r} is neither JSON nor YAML") from error


def _known(error: BaseException) -> NearError | None:
    """The domain error that MONAI wrapped in its own, if there is one: it says in one line what is wrong."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, NearError):
            return NearError(str(seen))
        seen = seen.__cause__ or seen.__context__
    return None
