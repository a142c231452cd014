"""z_i as a file: saved per case, and enough, with F, to draw F at any resolution (without the repair that follows)."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from near_monai.coords import Grid
from near_monai.datasets import TrainingCase
from near_monai.errors import NearError
from near_monai.inference import CaseCode, decode_all, table_code
from near_monai.io import LabelMap
from near_monai.network import NearNetwork
from near_monai.storage import replacing
from near_monai.weights import load_network

#: What numpy makes of a damaged or foreign ``.npz``.
READ_ERRORS = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    EOFError,
    RuntimeError,  # zipfile, for a file that calls itself encrypted
    zipfile.BadZipFile,
    zlib.error,
    MemoryError,
)


@dataclass(frozen=True)
class SavedCode:
    """A case's code and where the case lies in the world.

    Attributes:
        code: z of the case.
        affine: 4 x 4 world affine of ``code.reference``.
    """

    code: CaseCode
    affine: NDArray[np.float64]


def save_code(path: str | Path, code: CaseCode, affine: ArrayLike) -> None:
    """Write a code as a compressed ``.npz`` of plain arrays (no pickles); complete or not at all."""
    path = Path(path)
    arrays: dict[str, Any] = {f"code{scale}": grid.numpy() for scale, grid in enumerate(code.codes)}
    for name, grid in (("grid", code.grid), ("reference", code.reference)):
        arrays[name] = np.asarray([grid.shape, grid.spacing, grid.origin], np.float64)
    if code.blocks is not None:
        arrays["blocks"] = code.blocks
    with replacing(path) as part:
        np.savez_compressed(part, **arrays, affine=np.asarray(affine, np.float64))


def load_code(path: str | Path) -> SavedCode:
    """Read :func:`save_code`'s file.

    Raises:
        NearError: the file is missing, damaged or not a code.
    """
    try:
        # opened here: np.load leaves a damaged file open
        with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            scales = sorted(name for name in file.files if name.startswith("code"))
            grids = {name: _grid(file[name]) for name in ("grid", "reference")}
            codes = tuple(torch.as_tensor(file[name]) for name in scales)
            blocks = file["blocks"] if "blocks" in file.files else None
            affine = LabelMap.from_array(np.empty((1, 1, 1)), file["affine"]).affine
        if not codes or not all(code.is_floating_point() and code.isfinite().all() for code in codes):
            raise ValueError("codes are finite")
        return SavedCode(CaseCode(codes, grids["grid"], blocks, grids["reference"]), affine)
    except READ_ERRORS as error:
        raise NearError(f"{path}: missing, damaged or not a code file; expected what --save-codes writes") from error


def save_table_codes(folder: str | Path, network: NearNetwork, cases: Sequence[TrainingCase]) -> None:
    """Write z_i of every training case of a :class:`~near_monai.table.CodeTable` to ``folder``."""
    for number, case in enumerate(cases):
        save_code(Path(folder) / f"{case.name}.npz", table_code(network, number, case.grid), case.affine)


def redraw(
    path: str | Path, weights: str | Path | None = None, resolution: int | None = None, device: str = "auto"
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Occupancy probability of a saved code, drawn anew by F.

    Args:
        path: code file.
        weights: weights of the network that made it, as for :func:`near_monai.weights.load_network`.
        resolution: N for a cube of N^3 voxels over the box that the code spans; ``None`` for the grid of the label.
        device: ``"auto"``, ``"cpu"`` or a CUDA device.

    Returns:
        float32 ``(X, Y, Z)`` in [0, 1], or ``(C, X, Y, Z)`` from a function of C structures, and its world affine.

    Raises:
        NearError: unusable code or weights.
    """
    saved = load_code(path)
    network, _ = load_network(weights, device)
    target = saved.code.grid.cube(resolution) if resolution else saved.code.reference
    try:
        probability = decode_all(saved.code, network.field, target)
    except RuntimeError as error:
        raise NearError(f"{path}: does not fit these weights; give the weights that the code was made with") from error
    if len(probability) == 1:
        probability = probability[0]
    return probability, target.affine_from(saved.affine, saved.code.reference)


def _grid(rows: NDArray[np.float64]) -> Grid:
    shape, spacing, origin = rows
    if not np.isfinite(rows).all() or (shape < 1).any() or (spacing <= 0).any():
        raise ValueError("a grid has voxels")
    return Grid.of(shape, spacing, origin)
