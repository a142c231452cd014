"""CT and label to cubes: crop both to the label's bounding box plus a margin, resize both to N^3.

The cube spans the crop from outer face to outer face, so its voxels need not be isotropic; the affine that is written
says so, and millimetres survive.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from near_monai.data.case_lists import DESCRIPTION, LABEL_FOLDER, Case, find_cases, plain_name
from near_monai.data.failed_cases import Outcomes
from near_monai.errors import NearError
from near_monai.formats.atomic_writing import claim_empty, write_json
from near_monai.formats.label_maps import LabelMap, read_label, read_volume, write_label, write_volume
from near_monai.formats.voxel_values import values_in
from near_monai.geometry.boxes import occupied, widen
from near_monai.geometry.distance import signed_distance

IMAGE_FOLDER = "imagesTr"


def prepare(
    ct_dir: str | Path, label_dir: str | Path, output: str | Path, margin: float = 10.0, resolution: int = 256
) -> list[Case]:
    """Write ``imagesTr``, ``labelsTr`` and ``dataset.json`` (MSD) with one cube of CT and label per case.

    Args:
        ct_dir: CT images, as for :func:`near_monai.data.case_lists.find_cases`. They belong to the label of the same
            name, where the endings ``_0000`` (nnU-Net), ``.img`` and ``.label`` (ImageCAS) do not count.
        label_dir: Label maps, likewise.
        output: Folder to write to.
        margin: Millimetres kept around the label, clipped at the edge of the scan.
        resolution: Voxels per side of the cube.

    Returns:
        The cases written; a label map that is empty is left out.

    Raises:
        NearError: If a label has no CT (nothing is written then), all label maps are empty, or grids differ or a file
            is unusable (all other cases are written).
    """
    if margin < 0 or resolution < 2:
        raise NearError(f"margin {margin} mm and resolution {resolution}; expected margin >= 0 and resolution >= 2")
    pairs = _pairs(ct_dir, label_dir)
    output = Path(output)
    claim_empty(output)
    outcomes, written = Outcomes(), dict[str, list[int]]()
    for name, ct_path, label_path in pairs:
        with outcomes.of(name):
            label, ct = read_label(label_path), read_volume(ct_path)
            ct.check_grid_of(label)
            if label.array.any():
                _write_cubes(name, ct, label, output, margin, resolution)
                written[name] = [value for value in values_in(label.array) if value]
            else:
                tqdm.write(f"{name}: {label_path}: the label map is empty; it is left out", file=sys.stderr)
    if written:
        write_json(output / DESCRIPTION, _description(list(written), sorted(set().union(*written.values()))))
    outcomes.check(len(pairs))
    if not written:
        raise NearError(f"{label_dir}: the label map is empty in all {len(pairs)} cases; there is nothing to crop to")
    return [Case(name, output / LABEL_FOLDER / f"{name}.nii.gz") for name in written]


def _write_cubes(name: str, ct: LabelMap, label: LabelMap, output: Path, margin: float, resolution: int) -> None:
    box = widen(occupied(label.array), label.grid.spacing, margin, label.grid.shape)
    crop, cube = box.slices(), box.grid(label.grid).cube(resolution)
    affine = cube.affine_from(label.affine, label.grid)
    classes = resize_label(label.array[crop], label.grid.spacing, resolution)
    write_label(output / LABEL_FOLDER / f"{name}.nii.gz", classes, label, affine)
    write_volume(output / IMAGE_FOLDER / f"{name}.nii.gz", resize_volume(ct.array[crop], resolution), ct, affine)


def resize_volume(array: NDArray[np.float32], resolution: int) -> NDArray[np.float32]:
    """Trilinear ``(X, Y, Z)`` to N^3 at the voxel centres of ``Grid.cube``; the edge is repeated."""
    source = torch.from_numpy(np.ascontiguousarray(array))[None, None]
    size = [resolution] * 3
    found = torch.nn.functional.interpolate(source, size=size, mode="trilinear", align_corners=False)
    result: NDArray[np.float32] = found[0, 0].numpy()
    return result


def resize_label(array: NDArray[np.uint8], spacing: tuple[float, float, float], resolution: int) -> NDArray[np.uint8]:
    """A label map ``(X, Y, Z)`` to N^3: every class as a signed distance, the innermost wins, else background.

    Nearest neighbour would cap the Dice of thin vessels (0.77 on coronaries) before any model has seen them.
    """
    innermost = np.zeros((resolution,) * 3, np.float32)
    out = np.zeros((resolution,) * 3, array.dtype)
    reach = float(np.linalg.norm(spacing))  # a cell that the surface crosses holds no larger distance
    for value in (value for value in values_in(array) if value):
        distance = resize_volume(signed_distance(array == value, spacing, reach), resolution)
        wins = distance < innermost
        out[wins], innermost[wins] = value, distance[wins]
    return out


def _pairs(ct_dir: str | Path, label_dir: str | Path) -> list[tuple[str, Path, Path]]:
    # ImageCAS keeps 90.img and 90.label in one folder: of two files of one stem the better name comes last and stays.
    images = sorted(find_cases(ct_dir, "image"), key=lambda case: not case.name.endswith(".label"))
    labels = sorted(find_cases(label_dir), key=lambda case: case.name.endswith(".label"))
    targets = {_stem(case.name): case.label for case in labels}
    found = {_stem(case.name): case.label for case in images}
    missing = [name for name, path in targets.items() if name not in found or found[name].samefile(path)]
    if missing:
        raise NearError(f"{ct_dir}: no CT for {len(missing)} of {len(targets)} labels: {', '.join(missing)}")
    return [(name, found[name], path) for name, path in sorted(targets.items())]


def _stem(name: str) -> str:
    return re.sub(r"(_0000|\.img|\.label)$", "", plain_name(name))


def _description(names: list[str], values: list[int]) -> dict[str, object]:
    return {
        "name": "near_monai prepared cubes",
        "modality": {"0": "CT"},
        "channel_names": {"0": "CT"},
        "labels": {"background": 0} | {f"class_{value}": value for value in values},
        "numTraining": len(names),
        "file_ending": ".nii.gz",
        "training": [
            {"image": f"./{IMAGE_FOLDER}/{name}.nii.gz", "label": f"./{LABEL_FOLDER}/{name}.nii.gz"} for name in names
        ],
    }
