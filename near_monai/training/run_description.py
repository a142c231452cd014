"""What the weights of a training run are: from the run's configuration and the cases that it trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from near_monai.anatomy import Structure
from near_monai.datasets.training_case import TrainingCase
from near_monai.errors import NearError
from near_monai.networks.code_table import CodeTable
from near_monai.networks.definitions import build_network
from near_monai.networks.model_description import MARKS, Description, check_plain, space_of
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import CONFIG_NAME
from near_monai.version import __version__

#: Settings that go with the weights. Paths and names of cases are not among them: weights are shared, they are not.
SETTINGS = (
    "seed",
    "max_epochs",
    "val_interval",
    "lr",
    "batch_size",
    "accumulation_steps",
    "windows_per_epoch",
    "points",
    "band_mm",
    "curriculum",
    "max_noise",
    "clean_share",
    "texture_mm",
    "torn_trees",
)


def describe_run(folder: str | Path, network: NearNetwork, cases: Sequence[TrainingCase]) -> Description | None:
    """The description of what a run will leave; its fingerprint is still to be made. None if no configuration is there.

    Args:
        folder: folder of the run, with its ``config.json``.
        network: what is trained; if it began at weights that say what they are, it has their description.
        cases: what it is trained on.

    Raises:
        NearError: the configuration does not say in plain values what the network is.
    """
    path = Path(folder) / CONFIG_NAME
    if not path.is_file():
        return None
    config = json.loads(path.read_text(encoding="utf-8"))
    definition = config["network_def"]
    if isinstance(network.source, CodeTable):
        definition["source"]["cases"] = network.source.codes.num_embeddings
    check_plain([definition, config["space"]], f"{path}: network_def or space")
    space = {key: value for key, value in config["space"].items() if key != "_target_"}
    try:
        lengths = space_of(space)
    except ValueError as error:
        raise NearError(f"{path}: {error}") from error
    build_network(definition, path)  # what could not be read again is said before hours are spent
    return Description(
        structures_of(network, cases), lengths, definition, __version__, _training(config, network, cases), ""
    )


def structures_of(network: NearNetwork, cases: Sequence[TrainingCase]) -> tuple[Structure, ...]:
    """What was trained: a structure per head, or every one that the only head has seen."""
    if network.field.heads > 1:
        return cases[0].structures
    return tuple(dict.fromkeys(structure for case in cases for structure in case.structures))


def _training(config: dict[str, Any], network: NearNetwork, cases: Sequence[TrainingCase]) -> dict[str, Any]:
    own = sum(case.own for case in cases)
    settings = {key: config[key] for key in SETTINGS if key in config and not _is_marked(config[key])}
    before = network.description
    found: dict[str, Any] = {
        "data": data_in_words(own, len(cases) - own, before),
        "own_cases": own,
        "generated_cases": len(cases) - own,
        "date": datetime.now(UTC).date().isoformat(),
        "settings": settings,
    }
    return found if before is None else found | {"began_at": before.fingerprint}


def data_in_words(own: int, generated: int, before: Description | None = None) -> str:
    """Whose data made weights, for a person."""
    parts = [f"{own} label maps of the person who trained"] if own else []
    parts += [f"{generated} generated shapes"] if generated else []
    words = " and ".join(parts) or "unknown"
    return words if before is None else f"{words}; began at weights made from: {before.training.get('data', 'unknown')}"


def _is_marked(value: object) -> bool:
    return isinstance(value, str) and value.startswith(MARKS)
