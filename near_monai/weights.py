"""Networks from files: weights, and the bundle configuration that says which network they belong to."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from near_monai.errors import NearError
from near_monai.network import NearNetwork
from near_monai.resources import bundle_dir
from near_monai.space import WorkingSpace

logger = logging.getLogger("near_monai")

#: Name of the configuration that training writes beside its weights.
CONFIG_NAME = "config.json"
#: Its keys that say what the weights are.
DESCRIBES = ("network_def", "space", "structures")
#: Packages whose classes a description may name.
HOMES = ("near_monai", "benchmarks")
#: The learned codes of the training cases, one row each, see :class:`near_monai.table.CodeTable`.
TABLE = "source.codes.weight"


def pick_device(name: str = "auto") -> torch.device:
    """``"auto"`` is the first CUDA device if there is one, else the CPU; other names are torch's.

    Raises:
        NearError: torch does not know the device, or it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise NearError(f"device {name!r} cannot be used here; expected auto, cpu or cuda[:N]") from error
    return device


def find_weights(weights: str | Path | None) -> Path:
    """The file of ``weights``; a bare name that is no file here is one of the bundle, ``None`` its ``model.pt``."""
    path = shipped("model.pt") if weights is None else Path(weights)
    is_shipped = len(path.parts) == 1 and not path.is_file() and shipped(path.name).is_file()
    return shipped(path.name) if is_shipped else path


def load_network(weights: str | Path | None = None, device: str = "auto") -> tuple[NearNetwork, WorkingSpace]:
    """A trained network, ready for inference, and the working space that it was trained in.

    Args:
        weights: flat state dict (``best.pt``); the ``config.json`` beside it describes the network, else the bundle
            that it lies in, else the shipped one. See :func:`find_weights` for bare names and ``None``.
        device: see :func:`pick_device`.

    Raises:
        NearError: the file is missing or damaged, or its tensors do not fit the described network exactly.
    """
    path = find_weights(weights)
    where = pick_device(device)
    state = read_state(path)
    config, description = _description_of(path)
    try:
        if "cases" in description["network_def"]["source"]:  # a table is as long as the one that was trained
            description["network_def"]["source"]["cases"] = len(state[TABLE])
        _check_harmless(description, config)
        # only classes of ours are named, and they in full: to list MONAI's takes longer than the rest
        parser = ConfigParser(dict(description), excludes="monai")
        network, space = (parser.get_parsed_content(key) for key in ("network_def", "space"))
    except NearError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError) as error:
        raise _not_described(config, path) from error
    fit_state(network, state, path)
    network.structures = tuple(description.get("structures", ()))
    return network.to(where).eval(), space


def describe(weights: str | Path | None = None) -> dict[str, Any]:
    """What says which network ``weights`` belong to, see :func:`load_network`: the values of :data:`DESCRIBES`.

    Raises:
        NearError: there is no such description.
    """
    return _description_of(find_weights(weights))[1]


def _check_harmless(description: object, config: Path) -> None:
    """Refuse whatever could run foreign code: weights come from other people, with the file that describes them."""
    if isinstance(description, Mapping):
        target = description.get("_target_")
        if target is not None and not _is_own_class(target):
            raise NearError(f"{config}: names {target!r}, which is no class of near_monai; it is not run")
    if isinstance(description, str) and description.startswith(("$", "@", "%")):
        raise NearError(f"{config}: holds the expression {description!r}; expected plain values, it is not run")
    if isinstance(description, Mapping | list):
        for value in description.values() if isinstance(description, Mapping) else description:
            _check_harmless(value, config)


def _is_own_class(target: object) -> bool:
    """Is ``target`` the name of a class that is defined in a module of ours? Their imports do not count."""
    module, _, name = str(target).rpartition(".")
    if module.split(".")[0] not in HOMES:
        return False
    try:
        found = getattr(import_module(module), name, None)
    except ImportError:
        return False
    return isinstance(found, type) and found.__module__ == module


def _description_of(path: Path) -> tuple[Path, dict[str, Any]]:
    """The configuration file that describes the weights ``path``, and what it says of them."""
    around = path.resolve().parent.parent / "configs"
    configs = around if (around / "inference.json").is_file() else bundle_dir() / "configs"
    config, overlay = path.parent / CONFIG_NAME, configs / f"{path.stem}.json"  # heart.pt is the network of heart.json
    try:
        if config.is_file():
            found = json.loads(config.read_text(encoding="utf-8"))
        else:
            config = configs / "inference.json"
            found = json.loads(config.read_text(encoding="utf-8"))
            if configs == around and overlay.is_file():
                found |= json.loads(overlay.read_text(encoding="utf-8"))
        return config, {key: found[key] for key in DESCRIBES if key in found}
    except (ValueError, TypeError, OSError) as error:
        raise _not_described(config, path) from error


def _not_described(config: Path, path: Path) -> NearError:
    return NearError(f"{config}: does not describe the network of {path}; expected a run's own {CONFIG_NAME}")


def shipped(name: str) -> Path:
    """Where the bundle holds the weights ``name``, or would."""
    return bundle_dir() / "models" / name


def load_state(network: torch.nn.Module, path: str | Path) -> None:
    """Load a flat state dict into ``network``; every tensor must fit. TorchScript keeps the weights that it came with.

    Raises:
        NearError: see :func:`load_network`.
    """
    if isinstance(network, torch.jit.ScriptModule):
        logger.info("network_def is TorchScript and brings its weights along; %s is not read", path)
        return
    fit_state(network, read_state(path), path)


def read_state(path: str | Path) -> dict[str, torch.Tensor]:
    """A flat state dict from a file, without running any code in it.

    Raises:
        NearError: see :func:`load_network`.
    """
    if not Path(path).is_file():
        raise NearError(f"{path}: no such weights file; expected a path, or model.pt, organs.pt or heart.pt")
    if Path(path).suffix == ".zip":
        raise NearError(f"{path}: is a packed bundle; unzip it and give the file in its folder models")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything from KeyError to UnpicklingError on a damaged file
        raise NearError(f"{path}: damaged, or not a file of weights; expected best.pt as training saves it") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise NearError(f"{path}: is not a flat state dict; expected best.pt of a run (latest.pt is for going on)")
    return state


def fit_state(network: torch.nn.Module, state: dict[str, torch.Tensor], path: str | Path) -> None:
    """Put ``state`` into ``network``; every tensor must fit.

    Raises:
        NearError: see :func:`load_network`.
    """
    missing = network.state_dict().keys() - state.keys()  # torch lets some be absent
    if missing:
        raise NearError(f"{path}: does not fit the network of its configuration (no {min(missing)})")
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise NearError(f"{path}: does not fit the network of its configuration ({first[0].strip()[:160]})") from error
