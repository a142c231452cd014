"""Weights in files, and the networks that they make.

A file of weights is a ``.safetensors`` that holds its :class:`~near_monai.networks.model_description.Description`.
MONAI's handlers and clients write and read flat state dicts (``.pt``) instead: what such a file is, the
``.safetensors`` beside it says that holds the same numbers, or the configuration that it was made by.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from near_monai.anatomy import HEART, VESSEL, Anatomy, Structure, row_of, structure_of
from near_monai.data.shards import local_rank
from near_monai.errors import NearError, some
from near_monai.formats.atomic_writing import digest
from near_monai.formats.tensor_files import (
    SUFFIX,
    State,
    fingerprint_of,
    is_tensor_file,
    read_tensors,
    read_text,
    tensor_bytes,
    write_tensors,
)
from near_monai.geometry.working_space import WorkingSpace
from near_monai.networks.definitions import build_network
from near_monai.networks.model_description import Description, check_plain, space_of
from near_monai.networks.network import NearNetwork
from near_monai.shipped_files import bundle_dir

logger = logging.getLogger("near_monai")

#: Name of the configuration that training writes beside its weights.
CONFIG_NAME = "config.json"
#: Keys of a configuration that say what its weights are.
DESCRIBES = ("network_def", "space", "structures", "structure")
#: The learned codes of the training cases, one row each, see :class:`near_monai.CodeTable`.
TABLE = "source.codes.weight"
#: The weights of one structure that are taken where nothing else is said.
DEFAULT = VESSEL.weights
EXPECTED = "weights as training writes them (best.safetensors)"


def pick_device(name: str = "auto") -> torch.device:
    """``"auto"`` is a CUDA device if there is one, else the CPU; other names are torch's.

    Of several processes that a launcher started on one machine, each takes another device.

    Raises:
        NearError: torch does not know the device, or it is not there.
    """
    if name == "auto":
        count, rank = torch.cuda.device_count(), local_rank()
        if rank is not None and count > 1:
            return torch.device("cuda", rank % count)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise NearError(f"device {name!r} cannot be used here; expected auto, cpu or cuda[:N]") from error
    return device


def shipped(name: str) -> Path:
    """Where the bundle holds the weights ``name``, or would."""
    return bundle_dir() / "models" / name


def find_weights(weights: str | Path | None) -> Path:
    """The file of ``weights``; a bare name that is no file here is one of the bundle, ``None`` :data:`DEFAULT`."""
    path = shipped(DEFAULT) if weights is None else Path(weights)
    is_shipped = len(path.parts) == 1 and not path.is_file() and shipped(path.name).is_file()
    return shipped(path.name) if is_shipped else path


def weights_bytes(state: State, description: Description) -> bytes:
    """A file of weights; the fingerprint in the description is made anew."""
    return tensor_bytes(state, replace(description, fingerprint=fingerprint_of(state)).to_json())


def write_weights(path: str | Path, state: State, description: Description) -> Description:
    """Write :func:`weights_bytes`, complete or not at all; gives the description that the file holds."""
    written = replace(description, fingerprint=fingerprint_of(state))
    write_tensors(path, state, written.to_json())
    return written


def load_network(weights: str | Path | None = None, device: str = "auto") -> tuple[NearNetwork, WorkingSpace]:
    """A trained network, ready for inference, and the working space that it was trained in.

    Args:
        weights: file of weights; see :func:`find_weights` for bare names and ``None``.
        device: see :func:`pick_device`.

    Returns:
        The network, whose ``description`` says what it is, and its working space.

    Raises:
        NearError: the file is missing or damaged, nothing says what it is, or its tensors are not those of the network
            that is described.

    Example:
        >>> import near_monai
        >>> network, space = near_monai.load_network("coronary.safetensors")
        >>> network.description.names, space.spacing
        (('coronary',), 0.5)
    """
    where, path = pick_device(device), find_weights(weights)
    state, description = read_weights(path)
    if description is None:
        raise NearError(
            f"{path}: nothing says what these weights are; expected the .safetensors of the run, or its {CONFIG_NAME} "
            "beside them"
        )
    with torch.device("meta"):  # whatever sizes a foreign description has, nothing is allocated before they fit
        fit_state(build_network(description.network, path), state, path, try_only=True)
    network = build_network(description.network, path)
    fit_state(network, state, path)
    if network.field.heads > 1 and network.field.heads != len(description.structures):
        raise NearError(f"{path}: {network.field.heads} heads for {len(description.structures)} structures; damaged")
    network.description = description
    return network.to(where).eval(), description.space


def load_state(
    network: torch.nn.Module,
    path: str | Path,
    space: WorkingSpace | None = None,
    structure: Structure | None = None,
) -> None:
    """Put the weights of a file into a ``network`` of a configuration; every tensor must fit.

    TorchScript keeps the weights that it came with.

    Args:
        network: the network.
        path: file of weights.
        space: the working space of the configuration; ``None`` if it does not matter.
        structure: what the configuration is about; weights that are for another are warned of.

    Raises:
        NearError: see :func:`load_network`; or the weights were trained in another space.
    """
    if isinstance(network, torch.jit.ScriptModule):
        logger.info("network_def is TorchScript and brings its weights along; %s is not read", path)
        return
    state, description = read_weights(path)
    try:
        fit_state(network, state, path)
    except NearError as error:
        whose = f", for {some(description.names)}" if description else ""
        raise NearError(
            f"{path}: does not fit network_def of the configuration (the weights are of another network{whose}); "
            "near-monai pack makes a bundle of weights of your own"
        ) from error
    if description is None:
        return
    network.description = description  # type: ignore[assignment]  # torch takes it for a part
    if space is not None and space != description.space:
        raise NearError(f"{path}: was trained in {description.space}, and the configuration has {space}; set that key")
    for doubt in description.doubts(structure) if structure else ():
        logger.warning(f"{path}: {doubt}")


def describe(weights: str | Path | None = None) -> Description | None:
    """What a file of weights says of itself; of a ``.safetensors`` the numbers are not read.

    Raises:
        NearError: see :func:`load_network`.
    """
    path = find_weights(weights)
    if is_tensor_file(path):
        return Description.from_json(read_text(path, EXPECTED), path)
    return read_weights(path)[1]


def identity(weights: str | Path | None, anatomy: Anatomy) -> str:
    """Digits that change with everything about weights and table that can change a result.

    Args:
        weights: file of weights; ``None`` for the shipped ones that the table names.
        anatomy: the table.
    """
    named = {shipped(structure.weights) for structure in anatomy.structures} | {shipped(DEFAULT)}
    used = [find_weights(weights)] if weights is not None else sorted(path for path in named if path.is_file())
    said = [describe(path) or fingerprint_of(read_state(path)) for path in used]
    rows = [[row_of(row), row.weights] for table in (HEART, anatomy) for row in table.structures]
    return digest([[text if isinstance(text, str) else text.to_json() for text in said], rows])


def find_shipped(fingerprint: str) -> Path | None:
    """The shipped weights with these numbers, if they are there."""
    return _with_fingerprint(shipped(DEFAULT).parent, fingerprint)


def read_weights(path: str | Path) -> tuple[dict[str, torch.Tensor], Description | None]:
    """Tensors of a file of weights, without running any code in it, and what they are, if anything says so.

    Raises:
        NearError: see :func:`load_network`.
    """
    path = Path(path)
    if not is_tensor_file(path):
        state = read_state(path)
        return state, _described_beside(path, state)
    state, text = read_tensors(path, EXPECTED)
    description = Description.from_json(text, path)
    if description.fingerprint != fingerprint_of(state):
        raise NearError(f"{path}: its numbers are not those that it describes: damaged or changed; get the file anew")
    return state, description


def read_state(path: str | Path) -> dict[str, torch.Tensor]:
    """A flat state dict from a file of torch, without running any code in it.

    Raises:
        NearError: see :func:`load_network`.
    """
    if not Path(path).is_file():
        names = ", ".join(sorted(file.name for file in shipped(DEFAULT).parent.glob(f"*{SUFFIX}")))
        raise NearError(f"{path}: no such weights file; expected a path, or a name of the bundle: {names}")
    if Path(path).suffix == ".zip":
        raise NearError(f"{path}: is a packed bundle; unzip it and give the file in its folder models")
    try:
        with Path(path).open("rb") as file:  # by its content: torch goes by the name of a path
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything from KeyError to UnpicklingError on a damaged file
        raise NearError(f"{path}: damaged, or not a file of weights; expected {EXPECTED}") from error
    if not isinstance(state, dict) or not all(isinstance(key, str) and _is_dense(state[key]) for key in state):
        raise NearError(f"{path}: is not a flat state dict; expected best.pt of a run (latest.pt is for going on)")
    return state


def _is_dense(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized


def fit_state(network: torch.nn.Module, state: State, path: str | Path, try_only: bool = False) -> None:
    """Put ``state`` into ``network``; every tensor must fit.

    Raises:
        NearError: see :func:`load_network`.
    """
    own = network.state_dict()
    for name in sorted(own.keys() | state.keys()):
        if name not in state or name not in own or own[name].shape != state[name].shape:
            raise NearError(f"{path}: does not fit the network of its description ({name}); give the weights anew")
    if not try_only:
        network.load_state_dict(state)


def _described_beside(path: Path, state: State) -> Description | None:
    """What the weights in a ``.pt`` are: as a file beside it says, by their fingerprint, or a configuration."""
    twin = _with_fingerprint(path.resolve().parent, fingerprint_of(state))
    if twin is not None:
        return describe(twin)
    folder = path.resolve().parent
    for config in (folder / CONFIG_NAME, folder.parent / "configs" / "inference.json"):
        if config.is_file():
            return _described_by(config, state)
    return None


def _with_fingerprint(folder: Path, fingerprint: str) -> Path | None:
    for file in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            found = Description.from_json(read_text(file, EXPECTED), file)
        except NearError:  # someone else's file
            continue
        if found.fingerprint == fingerprint:
            return file
    return None


def _described_by(config: Path, state: State) -> Description:
    """The description that a configuration, of a run or of a bundle, gives of the weights ``state``."""
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        found: dict[str, Any] = {key: content[key] for key in DESCRIBES if key in content}
        network, space = found["network_def"], dict(found["space"])
        if isinstance(network["source"], dict) and "cases" in network["source"]:
            network["source"]["cases"] = len(state[TABLE])  # a table is as long as the one that was trained
        check_plain(found, config)
        space.pop("_target_", None)
        named = [HEART.by_name(name) for name in found.get("structures", ())]
        structures = [structure_of(found["structure"]["row"])] if "structure" in found else named
        return Description(tuple(structures), space_of(space), network, "unknown", {}, fingerprint_of(state))
    except NearError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise NearError(f"{config}: does not describe a network; expected a run's own {CONFIG_NAME}") from error
