"""The configuration in force: what a run of the bundle was told, file and overrides together, kept with its results.

MONAI takes any key and says nothing. Here a key is refused that the shipped configurations do not have and that nothing
refers to: it would change nothing.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
import json
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from monai.bundle import ConfigParser

from near_monai.data.run_layout import RUN_FILE
from near_monai.errors import NearError, show_one_line
from near_monai.formats.atomic_writing import sweep, write_json
from near_monai.networks.weight_files import CONFIG_NAME
from near_monai.runs.run_records import RECORD_FOLDER
from near_monai.shipped_files import bundle_dir

logger = logging.getLogger("near_monai")

#: Keys that may differ between the parts of one run.
FREE_KEYS = ("bundle_root", "device", "num_workers", "model_dir", "output_dir", "save_execute_config")


def claim_folder(folder: str | Path, bundle_root: str | Path) -> None:
    """Check the configuration in force, overrides included, and write it to ``folder``/config.json.

    A client that hands over a list of items to train on, as MONAI Label does, starts a new run every time: an older one
    in ``folder`` is kept beside it. Called from a bundle configuration.

    Raises:
        NearError: the folder holds a run with another configuration, a key means nothing (see :func:`check_keys`), or
            ``bundle_root`` holds no bundle.
    """
    command = getattr(sys.modules["__main__"], "__spec__", None)
    if command is not None and command.name.startswith("monai.bundle"):
        show_one_line()  # MONAI's own command shows a traceback of every error
    config = configuration_of(parser_in_charge())
    shipped = (bundle_dir() / "configs").glob("*.json")
    check_keys(config, {key for file in shipped for key in keys_of(ConfigParser.load_config_file(str(file)))})
    if not (Path(bundle_root) / "configs" / "metadata.json").is_file():
        raise NearError(
            f"{bundle_root}: no bundle there; say with --bundle_root which folder holds its configs and models"
        )
    path = Path(folder) / CONFIG_NAME
    if is_handed_over(config) and path.is_file():
        _set_aside(path.parent)
    check_folder(path.parent, config)
    if idist.get_rank() == 0:
        sweep(path.parent)
        write_json(path, config)


def parser_in_charge() -> ConfigParser:
    """The parser that evaluates the configuration which called us.

    MONAI hands it to nobody, and no expression can name the whole configuration that it is part of: it is looked up
    among the callers, here and nowhere else.

    Raises:
        NearError: there is none.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(found := frame.f_locals.get("self"), ConfigParser):
            return found
        frame = frame.f_back
    raise NearError("claim_folder was called outside a MONAI configuration; use it in the steps of a run")


def configuration_of(parser: ConfigParser) -> dict[str, Any]:
    """What a parser was told, as JSON."""
    config: dict[str, Any] = json.loads(json.dumps(parser.get(), default=str))
    return config


def check_folder(folder: Path, config: dict[str, Any]) -> None:
    """Refuse a folder that holds results of something else.

    Raises:
        NearError: of ``near-monai refine``, or of a run whose configuration was not ``config``.
    """
    if (folder / RUN_FILE).is_file():
        raise NearError(f"{folder}: holds results of near-monai refine; give another output_dir")
    path, trained = folder / CONFIG_NAME, any(folder.glob("*.pt"))
    if not path.is_file() or not (trained or (folder / RECORD_FOLDER).is_dir()):
        return  # it says what weights or results are, and there are none
    free = FREE_KEYS if trained else (*FREE_KEYS, "dataset_dir")
    before = json.loads(path.read_text(encoding="utf-8"))
    keys = [k for k in {**before, **config} if k not in free and before.get(k) != config.get(k)]
    if keys:
        raise NearError(
            f"{folder}: holds a run with another configuration ({', '.join(sorted(keys))}); give another output_dir, "
            "or delete that folder to start anew"
        )


def is_handed_over(config: dict[str, Any]) -> bool:
    """Whether a client's list of items takes the place of the data set, and its weights are expected in the bundle."""
    return bool(config.get("model_dir")) and isinstance(config["train"]["dataset"]["data"], list)


def _set_aside(folder: Path) -> None:
    beside = (folder.with_name(f"{folder.name}.{number}") for number in itertools.count(1))
    free = next(path for path in beside if not path.exists())
    folder.rename(free)
    logger.info("%s: an older run, which is kept as %s", folder, free)


def check_keys(config: dict[str, Any], known: set[str]) -> None:
    """Refuse keys that are not ``known`` and that nothing in ``config`` refers to.

    The arguments of components are left to Python, which knows their names.

    Raises:
        NearError: there is one; the message names it.
    """
    text = json.dumps(config, default=str)
    for key in keys_of(config):
        if key not in known and not re.search(rf"[@%]{re.escape(key)}(?!\w)", text):
            raise unknown_key(key, [own for own in keys_of(config) if own in known])


def unknown_key(key: str, known: Iterable[str], dashes: str = "") -> NearError:
    """The error for a ``key`` that is not among ``known``."""
    close = difflib.get_close_matches(key, [*known], 1)
    hint = f"did you mean {dashes}{close[0]}?" if close else "see bundle/configs for the keys"
    return NearError(f"{dashes}{key}: the configuration has no such key; {hint}")


def keys_of(config: dict[str, Any], above: str = "") -> Iterator[str]:
    """Keys of a configuration, ``#`` between levels, down to its components; MONAI's own (``_meta_``) left out."""
    for key, value in config.items():
        if not key.startswith("_"):
            name = above + key.removeprefix("+")
            yield name
            if isinstance(value, dict) and "_target_" not in value:
                yield from keys_of(value, f"{name}#")
