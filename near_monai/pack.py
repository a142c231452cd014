"""A bundle to share: one zip that runs wherever MONAI does, with this package or without it.

The zip holds the bundle (configurations, weights, model card, licence) and, beside its folders, the source of the
package, where MONAI finds it: ``monai.bundle`` puts the folder of a bundle on Python's path. What was learned goes in,
whom it was learned from does not: no code of a case, no path, no name, no optimiser.
"""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import torch
import yaml

from near_monai.encoder import LabelEncoder
from near_monai.errors import NearError
from near_monai.resources import bundle_dir
from near_monai.storage import replacing
from near_monai.weights import describe, load_network

#: Weights of the bundle, and the configurations that describe their network.
DESCRIBED = {
    "model.pt": ("train.json", "inference.json", "evaluate.json"),
    "heart.pt": ("heart.json", "heart_inference.json"),
    "organs.pt": (),
}
#: The same input makes the same bytes.
TIME = (1980, 1, 1, 0, 0, 0)


def pack(path: str | Path, weights: str | Path | None = None) -> None:
    """Write a bundle as ``path``; its top folder has the name of the file.

    Args:
        path: a new ``.zip``.
        weights: a run's ``best.pt``, which takes the place of ``model.pt`` (a function of one structure) or
            ``heart.pt`` (of several); ``None`` for the shipped weights.

    Raises:
        NearError: ``path`` is there already or no ``.zip``, the weights are unusable or hold codes of cases, or a
            configuration of the bundle names a data set.
    """
    path = Path(path)
    if path.suffix != ".zip":
        raise NearError(f"{path}: expected a name that ends in .zip, such as coronary_near.zip")
    if path.exists():
        raise NearError(f"{path}: is there already; give a new name, so that nothing is overwritten")
    files = _bundle_files() | _package_files()
    if weights is not None:
        files |= _own_weights(weights, files)
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
    files |= {f"models/{name}": _weights_file(load_network(root / "models" / name, "cpu")[0]) for name in DESCRIBED}
    metadata = json.loads(files["configs/metadata.json"])
    metadata["required_packages_version"].pop("near_monai", None)
    return files | {"configs/metadata.json": _json(metadata)}


def _package_files() -> dict[str, bytes]:
    """The source of the package; its table as JSON, which can be read without a library."""
    package = Path(__file__).parent
    files = {f"{package.name}/{path.name}": path.read_bytes() for path in package.glob("*.py")}
    table = package / "anatomy.yaml"
    return files | {f"{package.name}/{table.name}": _json(yaml.safe_load(table.read_bytes()))}


def _own_weights(weights: str | Path, files: dict[str, bytes]) -> dict[str, bytes]:
    """The user's weights, and the configurations of ``files`` that describe them, changed to do so."""
    network, _ = load_network(weights, "cpu")
    if not isinstance(network.source, LabelEncoder):
        raise NearError(
            f"{weights}: holds a code of every case that it was trained on, and these are not shared; "
            "pack weights of a network with an encoder (any --config but recipe)"
        )
    name = "model.pt" if network.field.heads == 1 else "heart.pt"
    changed = {f"models/{name}": _weights_file(network)}
    description = describe(weights)
    for config in (f"configs/{config}" for config in DESCRIBED[name]):
        content = json.loads(files[config])
        changed[config] = _json(content | {key: value for key, value in description.items() if key in content})
    return changed


def _weights_file(network: torch.nn.Module) -> bytes:
    """A flat state dict, and nothing else: a copy of every tensor, without the storage that it may be a part of."""
    stream = BytesIO()
    torch.save({key: value.clone() for key, value in network.state_dict().items()}, stream)
    return stream.getvalue()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=4) + "\n").encode()
