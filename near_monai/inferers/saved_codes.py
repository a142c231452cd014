"""z_i as a file: saved per case, and enough, with F, to draw F at any resolution (without the repair that follows)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from near_monai.anatomy import Structure, row_of, structure_of
from near_monai.errors import NearError
from near_monai.formats.label_maps import LabelMap
from near_monai.formats.tensor_files import fingerprint_of, read_tensors, write_tensors
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.region_frames import Frame, Pose
from near_monai.inferers.case_code import CaseCode
from near_monai.inferers.decoding import decode_all
from near_monai.networks.model_description import Description, expect_keys, read_strict
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import find_shipped, find_weights, load_network

EXPECTED = "a code as --save-codes writes it"


@dataclass(frozen=True)
class SavedCode:
    """A case's code, where the case lies in the world, and what it takes to draw it.

    Attributes:
        codes: z of the case, per region, in the scale of its structure.
        affine: 4 x 4 world affine of the grid of the file, their ``reference``.
        weights: what the weights are that made it.
        structures: what they drew, one per head of F, with the threshold of each.
    """

    codes: tuple[CaseCode, ...]
    affine: NDArray[np.float64]
    weights: Description
    structures: tuple[Structure, ...]

    @property
    def reference(self) -> Grid:
        """The grid of the file, in the scale of the structure."""
        return self.codes[0].reference


def save_code(path: str | Path, saved: SavedCode) -> None:
    """Write a code as a ``.safetensors``; complete or not at all."""
    tensors: dict[str, torch.Tensor] = {}
    regions: list[dict[str, Any]] = []
    for number, code in enumerate(saved.codes):
        tensors |= {f"{number}.code{scale}": grid for scale, grid in enumerate(code.codes)}
        if code.blocks is not None:
            tensors[f"{number}.blocks"] = torch.as_tensor(code.blocks)
        regions.append({"grid": _rows(code.grid), "frame": None if code.frame is None else asdict(code.frame)})
    text = {
        "regions": regions,
        "reference": _rows(saved.reference),
        "affine": np.asarray(saved.affine, np.float64).tolist(),
        "weights": json.loads(saved.weights.to_json()),
        "structures": [row_of(structure) for structure in saved.structures],
        "fingerprint": fingerprint_of(tensors),
    }
    write_tensors(path, tensors, json.dumps(text, allow_nan=False, sort_keys=True))


def load_code(path: str | Path) -> SavedCode:
    """Read :func:`save_code`'s file.

    Raises:
        NearError: the file is missing, damaged or not a code.
    """
    tensors, text = read_tensors(path, EXPECTED)
    content = read_strict(text, path)
    try:
        expect_keys(content, ["regions", "reference", "affine", "weights", "structures", "fingerprint"])
        if content["fingerprint"] != fingerprint_of(tensors):
            raise ValueError("the numbers are not those that were written")
        weights = Description.from_json(json.dumps(content["weights"]), path)
        structures = tuple(structure_of(row, str(path)) for row in content["structures"])
        affine = LabelMap.from_array(np.empty((1, 1, 1)), content["affine"], Path(path)).affine
        reference, regions = _grid(content["reference"]), content["regions"]
        codes = tuple(_region(tensors, number, regions[number], reference) for number in range(len(regions)))
        if not codes or not structures:
            raise ValueError("a case has codes")
    except NearError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError) as error:
        raise NearError(f"{path}: damaged, or not a code; expected {EXPECTED}") from error
    return SavedCode(codes, affine, weights, structures)


def _region(tensors: dict[str, torch.Tensor], number: int, row: dict[str, Any], reference: Grid) -> CaseCode:
    """z of one region, from the contents of a file."""
    expect_keys(row, ["grid", "frame"])
    blocks = tensors.get(f"{number}.blocks")
    scales = sorted(name for name in tensors if name.startswith(f"{number}.code"))
    codes = tuple(tensors[name] for name in scales)
    if not codes or not all(c.ndim == 4 and c.is_floating_point() and c.isfinite().all() for c in codes):
        raise ValueError("codes are finite grids")
    if blocks is not None and (blocks.dtype != torch.bool or blocks.ndim != 3):
        raise ValueError("blocks are a mask")
    frame = None if row["frame"] is None else _frame(row["frame"])
    return CaseCode(codes, _grid(row["grid"]), None if blocks is None else blocks.numpy(), reference, frame)


def _frame(row: dict[str, Any]) -> Frame:
    expect_keys(row, ["origin", "step", "shape", "pose"])
    expect_keys(row["pose"], ["order", "flipped"])
    place = _grid([row["shape"], row["step"], row["origin"]])
    (a, b, c), (x, y, z) = row["pose"]["order"], row["pose"]["flipped"]
    if {a, b, c} != {0, 1, 2} or not all(isinstance(flag, bool) for flag in (x, y, z)):
        raise ValueError("axes have an order and a direction")
    return Frame(place.origin, place.spacing, place.shape, Pose((a, b, c), (x, y, z)))


def described(network: NearNetwork) -> Description:
    """What a network is.

    Raises:
        NearError: its weights came from nowhere that says so, and a code of it could never be drawn again.
    """
    if network.description is None:
        raise NearError("nothing says what the weights are; give the .safetensors of their run, or save no codes")
    return network.description


def network_for(saved: SavedCode, path: str | Path, weights: str | Path | None, device: str) -> NearNetwork:
    """The network that made a code.

    Args:
        saved: the code.
        path: its file, for messages.
        weights: weights; ``None`` for the shipped ones that made it.
        device: see :func:`near_monai.pick_device`.

    Raises:
        NearError: these are other weights, or no shipped ones made it.
    """
    wanted = saved.weights.fingerprint
    source = f"weights {wanted[:12]} ({', '.join(s.name for s in saved.structures)}; {saved.weights.version})"
    found = find_weights(weights) if weights is not None else find_shipped(wanted)
    if found is None:
        raise NearError(f"{path}: was made with {source}, which are not shipped; give their file with --weights")
    network, _ = load_network(found, device)
    own = described(network).fingerprint
    if own != wanted:
        raise NearError(f"{path}: was made with {source}, and {found} is {own[:12]}; give the weights that made it")
    return network


def redraw(
    path: str | Path, weights: str | Path | None = None, resolution: int | None = None, device: str = "auto"
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Occupancy probability of a saved code, drawn anew by F.

    Args:
        path: code file.
        weights: weights of the network that made it; ``None`` for the shipped ones that did.
        resolution: N for a cube of N^3 voxels over the box that the code spans; ``None`` for the grid of the file that
            was refined.
        device: ``"auto"``, ``"cpu"`` or a CUDA device.

    Returns:
        float32 ``(X, Y, Z)`` in [0, 1], or ``(C, X, Y, Z)`` from a function of C structures, and its world affine.

    Raises:
        NearError: unusable code, or other weights.

    Example:
        A code that ``near-monai refine --save-codes`` wrote:

        >>> import near_monai
        >>> probability, affine = near_monai.redraw("refined/codes/case_1.safetensors", resolution=64)
        >>> probability.shape, affine.shape
        ((64, 64, 64), (4, 4))
    """
    saved = load_code(path)
    network = network_for(saved, path, weights, device)
    target = span(saved).cube(resolution) if resolution else saved.reference
    probability = draw(saved, network, target, path)
    affine = target.affine_from(saved.affine, saved.reference)
    return probability[0] if len(probability) == 1 else probability, affine


def draw(saved: SavedCode, network: NearNetwork, target: Grid, path: str | Path) -> NDArray[np.floating]:
    """What F says of the regions of a code from a file, the surest of which counts.

    See :func:`near_monai.inferers.decoding.decode_all`.

    Raises:
        NearError: the file was changed: its numbers are none that F can read.
    """
    try:
        found: NDArray[np.floating] = np.maximum.reduce([decode_all(c, network.field, target) for c in saved.codes])
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise NearError(f"{path}: damaged: its codes do not fit F; make it anew with --save-codes") from error
    return found


def span(saved: SavedCode) -> Grid:
    """A grid over everything that the codes of a case span, in the mm frame of the case."""
    spans = [code.grid if code.frame is None else code.frame.place for code in saved.codes]
    low = np.min([np.subtract(span.origin, np.divide(span.spacing, 2)) for span in spans], 0)
    high = np.max([span.to_mm(np.asarray(span.shape) - 0.5) for span in spans], 0)
    step = np.asarray(spans[0].spacing)
    return Grid.of(np.ceil((high - low) / step - 1e-6), step, low + step / 2)


def _rows(grid: Grid) -> list[list[float]]:
    return [[float(value) for value in row] for row in (grid.shape, grid.spacing, grid.origin)]


def _grid(rows: Any) -> Grid:
    shape, spacing, origin = np.asarray(rows, np.float64)
    if not np.isfinite([shape, spacing, origin]).all() or (shape < 1).any() or (spacing <= 0).any():
        raise ValueError("a grid has voxels")
    return Grid.of(shape, spacing, origin)
