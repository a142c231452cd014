"""near_monai: noisy coronary labels in, clean ones out, by an implicit function F(z, p)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public names and where they live. They load on first use: `near-monai --help` should not wait for torch.
_HOMES = {
    "CodeEncoder": "encoder",
    "CodeTable": "table",
    "CorruptLabel": "corruption",
    "Grid": "coords",
    "NearError": "errors",
    "NearInferer": "inference",
    "NearNetwork": "network",
    "OccupancyField": "field",
    "PointDataset": "datasets",
    "coronary_tree": "coronary",
    "load_network": "weights",
    "redraw": "codes",
    "refine": "refinement",
    "score": "metrics",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"near_monai.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'near_monai' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
