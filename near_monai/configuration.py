"""The configuration in force: what a run of the bundle was told, file and overrides together, kept with its results."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import ignite.distributed as idist
from monai.bundle import ConfigParser

from near_monai.errors import NearError
from near_monai.io import write_json
from near_monai.weights import CONFIG_NAME

#: Keys that may differ between the parts of one run.
FREE_KEYS = ("bundle_root", "device", "num_workers", "output_dir", "save_execute_config")


def claim_folder(folder: str | Path) -> None:
    """Write the configuration in force, overrides included, to ``folder``/config.json.

    Called from a bundle configuration: no expression can name the whole configuration that it is part of, so the
    parser that evaluates the call is looked up among the callers.

    Raises:
        NearError: the folder holds a run with another configuration.
    """
    frame = inspect.currentframe()
    while frame is not None and not isinstance(frame.f_locals.get("self"), ConfigParser):
        frame = frame.f_back
    if frame is None:
        raise NearError("claim_folder was called outside a MONAI configuration; use it in the steps of a run")
    config = json.loads(json.dumps(frame.f_locals["self"].get(), default=str))
    path = Path(folder) / CONFIG_NAME
    if path.is_file() and any(path.parent.glob("*.pt")):  # it says what those weights are
        before = json.loads(path.read_text(encoding="utf-8"))
        keys = [k for k in {**before, **config} if k not in FREE_KEYS and before.get(k) != config.get(k)]
        if keys:
            raise NearError(
                f"{folder}: holds a run with another configuration ({', '.join(sorted(keys))}); give another "
                "output_dir, or delete that folder to start anew"
            )
    if idist.get_rank() == 0:
        write_json(path, config)
