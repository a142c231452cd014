"""Saved codes drawn anew, as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import Anatomy
from near_monai.errors import NearError
from near_monai.formats.label_maps import LabelMap, write_label
from near_monai.formats.tensor_files import SUFFIX
from near_monai.fusion.overlaps import by_priority
from near_monai.geometry.boxes import Box
from near_monai.geometry.coordinates import Grid
from near_monai.inferers.saved_codes import SavedCode, draw, load_code, network_for, span
from near_monai.networks.network import NearNetwork


def redraw_files(
    source: str | Path,
    output: str | Path,
    weights: str | None,
    resolution: int | None,
    device: str = "auto",
) -> int:
    """Draw saved codes anew, as ``NAME.nii.gz``: a mask, or the label map of a function of all classes.

    Thresholds, class numbers and the grid are those of the code.

    Args:
        source: a code file or a folder of them.
        output: folder to write to.
        weights: weights that the codes were made with; ``None`` for the shipped ones that did.
        resolution: N for cubes of N^3 voxels; ``None`` for the grid of the file that was refined.
        device: see :func:`near_monai.pick_device`.

    Returns:
        The number of masks.

    Raises:
        NearError: no codes, codes of other weights, or a mask is there already.
    """
    source = Path(source)
    paths = sorted(source.rglob(f"*{SUFFIX}")) if source.is_dir() else [source]
    if not paths:
        raise NearError(f"{source}: no code files; expected NAME{SUFFIX} as --save-codes writes them")
    for path in paths:
        place = path.relative_to(source).parent if source.is_dir() else Path()
        target = Path(output) / place / f"{path.name.removesuffix(SUFFIX)}.nii.gz"
        if target.exists():
            raise NearError(f"{target}: is there already; give another folder")
        saved = load_code(path)
        network = network_for(saved, path, weights, device)
        grid = span(saved).cube(resolution) if resolution else saved.reference
        affine = grid.affine_from(saved.affine, saved.reference)
        file = LabelMap.from_array(label_map(saved, network, grid, path), affine)
        write_label(target, file.array, file)
    return len(paths)


def label_map(saved: SavedCode, network: NearNetwork, grid: Grid, path: Path) -> NDArray[np.uint8]:
    """What F says on ``grid``, with the thresholds of the code: 1 for one structure, the class numbers of several."""
    array = np.zeros(grid.shape, np.uint8)
    box = _reach(span(saved), grid)  # F says nothing elsewhere, and a scan is large
    probability = draw(saved, network, box.grid(grid), path)
    if len(probability) != len(saved.structures):
        raise NearError(f"{path}: damaged: F draws {len(probability)} structures, the code names another number")
    if len(probability) == 1:
        array[box.slices()] = probability[0] > saved.structures[0].threshold
    else:
        array[box.slices()] = by_priority(probability, Anatomy(saved.structures))
    return array


def _reach(spanned: Grid, target: Grid) -> Box:
    """Voxels of ``target`` in the box that a code spans."""
    low = np.floor(target.to_voxel(spanned.to_mm([-0.5] * 3)))
    high = np.ceil(target.to_voxel(spanned.to_mm(np.asarray(spanned.shape) - 0.5))) + 1
    a, b, c = (int(n) for n in np.clip(low, 0, np.asarray(target.shape) - 1))
    x, y, z = (int(n) for n in np.clip(high, 1, target.shape))
    return Box((a, b, c), (max(x, a + 1), max(y, b + 1), max(z, c + 1)))
