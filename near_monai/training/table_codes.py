"""The codes of an auto-decoder's table, one file per training case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from near_monai.datasets.training_case import TrainingCase
from near_monai.formats.tensor_files import SUFFIX
from near_monai.inferers.case_code import table_code
from near_monai.inferers.saved_codes import SavedCode, described, save_code
from near_monai.networks.network import NearNetwork


def save_table_codes(folder: str | Path, network: NearNetwork, cases: Sequence[TrainingCase]) -> None:
    """Write z_i of every training case of a :class:`~near_monai.CodeTable` to ``folder``."""
    weights = described(network)
    for number, case in enumerate(cases):
        codes = (table_code(network, number, case.grid),)
        save_code(Path(folder) / f"{case.name}{SUFFIX}", SavedCode(codes, case.affine, weights, case.structures))
