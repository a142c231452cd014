"""``near-monai train``: the bundle's training, behind a door that refuses what it does not know."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser, ConfigWorkflow

from near_monai.errors import NearError, known_error
from near_monai.networks.weight_files import DESCRIBES
from near_monai.runs.configuration import check_keys, keys_of, unknown_key
from near_monai.shipped_files import bundle_dir

#: Keys that MONAI's tracking adds to the configuration.
TRACKING_KEYS = ("tracking_uri", "experiment_name", "run_name")
#: Keys of the configuration that have an option of their own.
DOORS = {"output_dir": "-o", "dataset_dir": "--dataset-dir", "bundle_root": "the installed bundle", "model_dir": "-o"}


def run_training(
    output: Path, dataset_dir: str, configs: Sequence[Path], arguments: Sequence[str], tracking: str | None = None
) -> None:
    """Train with the bundle's configuration.

    Args:
        output: folder of the run: configuration, checkpoints, TensorBoard, held-out figures.
        dataset_dir: the user's labels; empty for generated trees alone.
        configs: configurations (JSON, YAML) laid over ``train.json``, in order; a bare name is looked up in the bundle.
        arguments: overrides ``--key value``, see :func:`parse_overrides`; ``#`` between levels.
        tracking: ``"mlflow"`` to record the run there as well: in ``mlruns.db`` and ``mlruns`` of ``output``, or where
            ``--tracking_uri`` says.

    Raises:
        NearError: an unknown key or missing value, or whatever goes wrong while setting up.
    """
    folder = bundle_dir() / "configs"
    files = [folder / "train.json", *(_configuration(folder, name) for name in configs)]
    if tracking == "mlflow" and find_spec("mlflow") is None:
        raise NearError("--tracking mlflow: MLflow is not installed; pip install near_monai[mlflow]")
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    check_keys(parser.get(), {*keys_of(ConfigParser.load_config_file(str(files[0]))), *DESCRIBES})
    override = parse_overrides(arguments, parser, TRACKING_KEYS if tracking else ())
    override |= {
        "output_dir": str(output),
        "dataset_dir": dataset_dir,
        "bundle_root": str(bundle_dir()),
        "model_dir": "",
    }
    try:
        workflow = ConfigWorkflow(
            [str(file) for file in files],
            meta_file=str(folder / "metadata.json"),
            logging_file=str(folder / "logging.conf"),
            workflow_type="train",
            tracking=tracking,
            **override,
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    except Exception as error:
        known = known_error(error)
        if known is None:
            raise
        raise known from error


def _configuration(folder: Path, name: Path) -> Path:
    """A file of the user's, or else the one of that name in the ``folder`` of the bundle."""
    for file in (name, folder / name.with_suffix(".json")):
        if file.is_file():
            return file
    raise NearError(f"{name}: no such configuration; expected a file, or a name in bundle/configs such as recipe")


def parse_overrides(arguments: Sequence[str], parser: ConfigParser, more: Sequence[str] = ()) -> dict[str, Any]:
    """``--key value`` and ``--key=value`` to a mapping; values are read as YAML, so ``true`` and ``null`` mean it.

    An option is spelled with dashes, the key that it stands for with underscores.

    Raises:
        NearError: a key that neither ``parser`` nor ``more`` holds, or a key without a value.
    """
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    found: dict[str, Any] = {}
    for position in range(0, len(words), 2):
        key = words[position].removeprefix("--").replace("-", "_")
        if not words[position].startswith("--") or position + 1 == len(words):
            raise NearError(f"{words[position]!r}: expected pairs --key value")
        if key not in parser and key not in more:
            raise unknown_key(words[position][2:], [_option(own) for own in keys_of(parser.get())], "--")
        if key in DOORS:
            raise NearError(f"{words[position]}: use {DOORS[key]} instead")
        found[key] = _value(key, words[position + 1])
    return found


def _option(key: str) -> str:
    return key.replace("_", "-")


def _value(key: str, text: str) -> Any:
    try:
        return json.loads(text)  # before YAML, which takes 5e-4 for a word
    except ValueError:
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise NearError(f"--{_option(key)}: {text!r} is neither JSON nor YAML") from error
