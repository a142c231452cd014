"""near_monai: noisy coronary labels in, clean ones out, by an implicit function F(z, p)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from near_monai.version import __version__

if TYPE_CHECKING:
    from near_monai.codes import redraw
    from near_monai.coords import Grid
    from near_monai.coronary import coronary_tree
    from near_monai.corruption import CorruptLabel
    from near_monai.datasets import PointDataset
    from near_monai.encoder import CodeEncoder
    from near_monai.errors import NearError, NearWarning
    from near_monai.field import OccupancyField
    from near_monai.in_memory import RefinedLabel, refine
    from near_monai.inference import NearInferer
    from near_monai.metrics import score
    from near_monai.network import NearNetwork
    from near_monai.table import CodeTable
    from near_monai.weights import load_network

# Public names and where they live. They load on first use: `near-monai --help` should not wait for torch.
_HOMES = {
    "CodeEncoder": "encoder",
    "CodeTable": "table",
    "CorruptLabel": "corruption",
    "Grid": "coords",
    "NearError": "errors",
    "NearInferer": "inference",
    "NearNetwork": "network",
    "NearWarning": "errors",
    "OccupancyField": "field",
    "PointDataset": "datasets",
    "coronary_tree": "coronary",
    "load_network": "weights",
    "redraw": "codes",
    "RefinedLabel": "in_memory",
    "refine": "in_memory",
    "score": "metrics",
}

__all__ = [
    "CodeEncoder",
    "CodeTable",
    "CorruptLabel",
    "Grid",
    "NearError",
    "NearInferer",
    "NearNetwork",
    "NearWarning",
    "OccupancyField",
    "PointDataset",
    "RefinedLabel",
    "__version__",
    "coronary_tree",
    "load_network",
    "redraw",
    "refine",
    "score",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"near_monai.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'near_monai' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
