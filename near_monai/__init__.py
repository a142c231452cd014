"""near_monai: noisy coronary labels in, clean ones out, by an implicit function F(z, p).

The wings in the order of their imports: each imports only what stands above it.

- ``errors``, ``version``, ``names``, ``shipped_files``: what everybody needs.
- ``geometry``: where things are, in voxels and in mm.
- ``anatomy``: what a label map holds.
- ``formats``: files on disk, read strictly and written whole.
- ``data``: which label maps, and which class of them.
- ``phantoms``: generated hearts and coronary trees, whose truth is known.
- ``corruption``: realistic errors of labels.
- ``networks``: z and F, and the weights that make them.
- ``inferers``: from a label to z, from z to a probability.
- ``repair``: from a probability to the mask of one structure.
- ``fusion``: from the masks of all structures to one consistent map.
- ``metrics``: how well a mask agrees with the truth.
- ``runs``: what a run over many cases keeps: its settings and its records.
- ``trees``: from a mask to rooted trees, and what is measured of them.
- ``refinement``: an array, a file, a folder refined.
- ``transforms``: MONAI's transforms for all of this.
- ``datasets``: what F learns from.
- ``training``: how F learns.
- ``review``: a person looks, and takes edits back.
- ``audit``: which labels of a set are bad.
- ``exports``: what goes to others.
- ``commands``: what a user can do, by its purpose.
- ``cli``: the door.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from near_monai.names import HOMES
from near_monai.version import __version__

if TYPE_CHECKING:
    from near_monai.corruption.corrupt_label import CorruptLabel
    from near_monai.datasets.point_dataset import PointDataset
    from near_monai.errors import NearError, NearWarning
    from near_monai.exports.one_surface import surface
    from near_monai.geometry.coordinates import Grid
    from near_monai.inferers.near_inferer import NearInferer
    from near_monai.inferers.saved_codes import redraw
    from near_monai.metrics.mask_metrics import score
    from near_monai.networks.code_table import CodeTable
    from near_monai.networks.encoder import CodeEncoder
    from near_monai.networks.field import OccupancyField
    from near_monai.networks.network import NearNetwork
    from near_monai.networks.weight_files import load_network
    from near_monai.phantoms.coronary import coronary_tree
    from near_monai.refinement.consensus_map import Consensus, consensus
    from near_monai.refinement.one_array import RefinedLabel, refine
    from near_monai.trees.one_map import tree

__all__ = [
    "CodeEncoder",
    "CodeTable",
    "Consensus",
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
    "consensus",
    "coronary_tree",
    "load_network",
    "redraw",
    "refine",
    "score",
    "surface",
    "tree",
]


def __getattr__(name: str) -> Any:
    """Public names load on first use: ``near-monai --help`` should not wait for torch."""
    if name in HOMES:
        return getattr(import_module(f"near_monai.{HOMES[name]}"), name)
    raise AttributeError(f"module 'near_monai' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
