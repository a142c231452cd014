"""A bundle to share: one zip that runs wherever MONAI does, with this package or without it.

The zip holds the bundle (configurations, weights, model card, licence) and, beside its folders, the source of the
package, where MONAI finds it: ``monai.bundle`` puts the folder of a bundle on Python's path. What was learned goes in,
whom it was learned from does not: no code of a case, no path, no name, no optimiser.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import torch
import yaml

from near_monai.anatomy import HEART, VESSEL, row_of
from near_monai.errors import NearError, some
from near_monai.exports.model_card import model_card
from near_monai.formats.atomic_writing import replacing
from near_monai.formats.tensor_files import SUFFIX, State
from near_monai.networks.encoder import LabelEncoder
from near_monai.networks.model_description import Description, check_plain
from near_monai.networks.weight_files import DEFAULT, find_weights, load_network, read_weights, shipped, weights_bytes
from near_monai.shipped_files import bundle_dir, package_dir

#: Flat state dict of the structure that the bundle is about: what MONAI's own tools look for.
MODEL = "models/model.pt"
#: Configurations that hold the network of the structure that the bundle is about, and of a function of all.
OF_ONE, OF_ALL = ("train", "inference", "evaluate"), ("heart", "heart_inference")
#: The same input makes the same bytes.
TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Provenance:
    """What a person says of weights of their own.

    Attributes:
        data: whose data made them; what training has noted if it is not given.
        authors: who made them.
        version: version of the bundle; that of near_monai if it is not given.
    """

    data: str | None = None
    authors: str | None = None
    version: str | None = None


def pack(path: str | Path, weights: str | Path | None = None, provenance: Provenance | None = None) -> None:
    """Write a bundle as ``path``; its top folder has the name of the file.

    Args:
        path: a new ``.zip``.
        weights: weights of one's own. The bundle is then about their structure; those of several structures take the
            place of the shipped ones of the same. ``None`` for the shipped weights.
        provenance: whose weights of one's own are.

    Raises:
        NearError: ``path`` is there already or no ``.zip``, the weights are unusable, do not say what they are or hold
            codes of cases, or a configuration of the bundle names a data set.
    """
    path = Path(path)
    if path.suffix != ".zip":
        raise NearError(f"{path}: expected a name that ends in .zip, such as coronary_near.zip")
    if path.exists():
        raise NearError(f"{path}: is there already; give a new name, so that nothing is overwritten")
    if weights is None and provenance not in (None, Provenance()):
        raise NearError("--data, --authors and --version-name are about weights of your own: give --weights, too")
    files = _bundle_files() | _package_files()
    if weights is not None:
        files |= _own_weights(weights, provenance or Provenance(), files)
    with replacing(path) as part, ZipFile(part, "w") as archive:
        for name, content in sorted(files.items()):
            info = ZipInfo(f"{path.stem}/{name}", TIME)
            info.external_attr = 0o644 << 16
            archive.writestr(info, content, ZIP_DEFLATED)


def _bundle_files() -> dict[str, bytes]:
    """The shipped bundle; its metadata do not ask for this package, which comes along."""
    root = bundle_dir()
    paths = [root / "LICENSE", *(root / "configs").iterdir(), *(root / "docs").iterdir()]
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in paths if path.is_file()}
    for name, content in files.items():
        if name.endswith(".json") and json.loads(content).get("dataset_dir"):
            raise NearError(f"{root / name}: names a data set; make its dataset_dir empty, so that no path is shared")
    for name in sorted({structure.weights for structure in HEART.structures} | {"heart" + SUFFIX}):
        files[f"models/{name}"] = weights_bytes(*_described(shipped(name)))
    files[MODEL] = _state_bytes(read_weights(shipped(DEFAULT))[0])
    metadata = json.loads(files["configs/metadata.json"])
    metadata["required_packages_version"].pop("near_monai", None)
    return files | {"configs/metadata.json": _json(metadata)}


def _package_files() -> dict[str, bytes]:
    """The source of the package, pages included; its table as JSON, which can be read without a library."""
    package = package_dir()
    kinds = (
        path for kind in ("**/*.py", "repair/judge.json", "review/web/*", "py.typed") for path in package.glob(kind)
    )
    files = {f"{package.name}/{path.relative_to(package).as_posix()}": path.read_bytes() for path in kinds}
    table = package / "anatomy.yaml"
    return files | {f"{package.name}/{table.name}": _json(yaml.safe_load(table.read_bytes()))}


def _own_weights(weights: str | Path, given: Provenance, files: dict[str, bytes]) -> dict[str, bytes]:
    """The user's weights, and of ``files`` those that say what they are, changed to do so."""
    weights = find_weights(weights)
    network, _ = load_network(weights, "cpu")
    if not isinstance(network.source, LabelEncoder):
        raise NearError(
            f"{weights}: holds a code of every case that it was trained on, and these are not shared; "
            "pack weights of a network with an encoder (any --config but recipe)"
        )
    state, description = _described(weights)
    said = {key: value for key, value in asdict(given).items() if value}
    check_plain(said, "--data, --authors, --version-name")
    description = replace(description, training=description.training | said)
    if network.field.heads == 1 and len(description.structures) == 1:
        changed = _about_one(state, description, files)
    else:
        changed = _in_place(weights, state, description, files, every=network.field.heads > 1)
    metadata = json.loads(changed.get("configs/metadata.json", files["configs/metadata.json"]))
    version = given.version or description.version
    metadata |= {
        "version": version,
        "changelog": {version: f"weights of {some(description.names)}: {_data(description)}"},
        "authors": given.authors or "the person who trained the weights",
        "data_source": _data(description),
    }
    return changed | {
        "configs/metadata.json": _json(metadata),
        "docs/README.md": model_card(description).encode(),
        "docs/near_monai.md": files["docs/README.md"],
    }


def _about_one(state: State, description: Description, files: dict[str, bytes]) -> dict[str, bytes]:
    """A bundle about one structure."""
    (structure,) = description.structures
    name = DEFAULT if structure.name == VESSEL.name else "own" + SUFFIX
    changed = {f"models/{name}": weights_bytes(state, description), MODEL: _state_bytes(state)}
    for config in (f"configs/{config}.json" for config in OF_ONE):
        content = json.loads(files[config]) | _space_and_network(description)
        if "structure" in content:
            content["structure"]["row"] = row_of(structure)
        changed[config] = _json(content)
    metadata = json.loads(files["configs/metadata.json"])
    title = f"{structure.name.replace('_', ' ')} label refinement"
    metadata |= {
        "name": title.capitalize(),
        "task": title,
        "description": f"Noisy label maps in, clean ones out: {title}",
    }
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"]["1"] = structure.name
    return changed | {"configs/metadata.json": _json(metadata)}


def _in_place(
    weights: str | Path, state: State, description: Description, files: dict[str, bytes], every: bool
) -> dict[str, bytes]:
    """The shipped bundle, with the user's weights of several structures in the place of the shipped ones."""
    places = {structure.weights for structure in HEART.structures if structure.name in description.names}
    known = {structure.name for structure in HEART.structures}
    if not known.issuperset(description.names) or (len(places) != 1 and not every):
        raise NearError(
            f"{weights}: is for {some(description.names)}; expected weights of one structure, or of those of the "
            "heart's table that one file refines"
        )
    name = "heart" + SUFFIX if every else places.pop()
    changed = {f"models/{name}": weights_bytes(state, description)}
    for config in (f"configs/{config}.json" for config in (OF_ALL if every else ())):
        changed[config] = _json(json.loads(files[config]) | _space_and_network(description))
    return changed


def _space_and_network(description: Description) -> dict[str, Any]:
    space = {"_target_": "near_monai.WorkingSpace", **asdict(description.space)}
    return {"space": space, "network_def": description.network}


def _described(weights: str | Path) -> tuple[State, Description]:
    state, description = read_weights(weights)
    if description is None or not description.structures:
        raise NearError(
            f"{weights}: nothing says which structure the weights are for; give the .safetensors of the run"
        )
    return state, description


def _data(description: Description) -> str:
    return str(description.training.get("data", "unknown"))


def _state_bytes(state: State) -> bytes:
    """A flat state dict, and nothing else: a copy of every tensor, without the storage that it may be a part of."""
    stream = BytesIO()
    torch.save({key: value.clone() for key, value in state.items()}, stream)
    return stream.getvalue()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=4) + "\n").encode()
