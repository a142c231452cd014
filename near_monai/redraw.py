"""Saved codes drawn anew, as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from near_monai.anatomy import table_of
from near_monai.codes import redraw
from near_monai.errors import NearError
from near_monai.io import LabelMap, write_label
from near_monai.merging import by_priority


def redraw_files(
    source: str | Path,
    output: str | Path,
    weights: str | None,
    resolution: int | None,
    device: str = "auto",
    table: str | None = None,
) -> int:
    """Draw saved codes anew, as ``NAME.nii.gz``: 1 where F is above 0.5, or the label map of a function of all classes.

    Args:
        source: a code file or a folder of them.
        output: folder to write to.
        weights: weights that the codes were made with; ``None`` for the shipped ones.
        resolution: N for cubes of N^3 voxels; ``None`` for the grid of the label.
        device: see :func:`near_monai.weights.pick_device`.
        table: anatomy table of a function of all classes; ``None`` for the heart's.

    Returns:
        The number of masks.

    Raises:
        NearError: no codes, codes that do not fit the weights, or a mask is there already.
    """
    source = Path(source)
    paths = sorted(source.rglob("*.npz")) if source.is_dir() else [source]
    if not paths:
        raise NearError(f"{source}: no code files; expected NAME.npz as --save-codes writes them")
    anatomy = table_of(table)
    for path in paths:
        place = path.relative_to(source).parent if source.is_dir() else Path()
        target = Path(output) / place / f"{path.stem}.nii.gz"
        if target.exists():
            raise NearError(f"{target}: is there already; give another folder")
        probability, affine = redraw(path, weights, resolution, device)
        drawn = by_priority(probability, anatomy) if probability.ndim == 4 else (probability > 0.5).astype(np.uint8)
        file = LabelMap.from_array(drawn, affine)
        write_label(target, file.array, file)
    return len(paths)
