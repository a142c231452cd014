"""z_i as a file: saved per case, and enough, with F, to draw F at any resolution (without the repair that follows)."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from near_monai.coords import Grid
from near_monai.datasets import TrainingCase
from near_monai.errors import NearError
from near_monai.frames import Frame, Pose
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
        codes: z of the case, per region.
        affine: 4 x 4 world affine of the grid of the label, their ``reference``.
    """

    codes: tuple[CaseCode, ...]
    affine: NDArray[np.float64]


def save_code(path: str | Path, codes: Sequence[CaseCode], affine: ArrayLike) -> None:
    """Write the codes of a case as a compressed ``.npz`` of plain arrays (no pickles); complete or not at all."""
    path = Path(path)
    arrays: dict[str, Any] = {}
    for number, code in enumerate(codes):
        arrays |= {f"{number}.code{scale}": grid.numpy() for scale, grid in enumerate(code.codes)}
        arrays[f"{number}.grid"] = _rows(code.grid)
        if code.blocks is not None:
            arrays[f"{number}.blocks"] = code.blocks
        if code.frame is not None:
            frame = code.frame
            arrays[f"{number}.frame"] = np.array([frame.origin, frame.step, frame.shape, *astuple(frame.pose)], float)
    with replacing(path) as part:
        np.savez_compressed(part, **arrays, reference=_rows(codes[0].reference), affine=np.asarray(affine, np.float64))


def load_code(path: str | Path) -> SavedCode:
    """Read :func:`save_code`'s file.

    Raises:
        NearError: the file is missing, damaged or not a code.
    """
    try:
        # opened here: np.load leaves a damaged file open
        with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = dict(file)
        reference = _grid(arrays["reference"])
        affine = LabelMap.from_array(np.empty((1, 1, 1)), arrays["affine"]).affine
        count = len([name for name in arrays if name.endswith(".grid")])
        codes = tuple(_region(arrays, number, reference) for number in range(count))
        if not codes:
            raise ValueError("a case has codes")
        return SavedCode(codes, affine)
    except READ_ERRORS as error:
        raise NearError(f"{path}: missing, damaged or not a code file; expected what --save-codes writes") from error


def _region(arrays: dict[str, NDArray[Any]], number: int, reference: Grid) -> CaseCode:
    """z of one region, from the arrays of a file."""
    scales = sorted(name for name in arrays if name.startswith(f"{number}.code"))
    codes = tuple(torch.as_tensor(arrays[name]) for name in scales)
    if not codes or not all(code.is_floating_point() and code.isfinite().all() for code in codes):
        raise ValueError("codes are finite")
    frame = arrays.get(f"{number}.frame")
    grid = _grid(arrays[f"{number}.grid"])
    return CaseCode(codes, grid, arrays.get(f"{number}.blocks"), reference, None if frame is None else _frame(frame))


def _frame(rows: NDArray[np.float64]) -> Frame:
    place = _grid(rows[[2, 1, 0]])
    (a, b, c), (x, y, z) = rows[3].astype(int).tolist(), rows[4].astype(bool).tolist()
    if {a, b, c} != {0, 1, 2}:
        raise ValueError("axes have an order")
    return Frame(place.origin, place.spacing, place.shape, Pose((a, b, c), (x, y, z)))


def save_table_codes(folder: str | Path, network: NearNetwork, cases: Sequence[TrainingCase]) -> None:
    """Write z_i of every training case of a :class:`~near_monai.table.CodeTable` to ``folder``."""
    for number, case in enumerate(cases):
        save_code(Path(folder) / f"{case.name}.npz", [table_code(network, number, case.grid)], case.affine)


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
    reference = saved.codes[0].reference
    target = _span(saved.codes).cube(resolution) if resolution else reference
    try:
        probability = np.maximum.reduce([decode_all(code, network.field, target) for code in saved.codes])
    except RuntimeError as error:
        raise NearError(f"{path}: does not fit these weights; give the weights that the code was made with") from error
    if len(probability) == 1:
        probability = probability[0]
    return probability, target.affine_from(saved.affine, reference)


def _span(codes: Sequence[CaseCode]) -> Grid:
    """A grid over everything that codes span, in the mm frame of the case."""
    spans = [code.grid if code.frame is None else code.frame.place for code in codes]
    low = np.min([np.subtract(span.origin, np.divide(span.spacing, 2)) for span in spans], 0)
    high = np.max([span.to_mm(np.asarray(span.shape) - 0.5) for span in spans], 0)
    step = np.asarray(spans[0].spacing)
    return Grid.of(np.ceil((high - low) / step - 1e-6), step, low + step / 2)


def _rows(grid: Grid) -> NDArray[np.float64]:
    return np.asarray([grid.shape, grid.spacing, grid.origin], np.float64)


def _grid(rows: NDArray[np.float64]) -> Grid:
    shape, spacing, origin = rows
    if not np.isfinite(rows).all() or (shape < 1).any() or (spacing <= 0).any():
        raise ValueError("a grid has voxels")
    return Grid.of(shape, spacing, origin)
