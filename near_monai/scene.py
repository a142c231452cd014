"""Surfaces of a case for the report's 3-D view: coarse enough for a page of a hundred cases, in world mm."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from near_monai.anatomy import Anatomy
from near_monai.boxes import crop_box
from near_monai.coords import Grid, sample_axes
from near_monai.distance import signed_distance
from near_monai.edits import Edit
from near_monai.transforms import FOREGROUND, mask_of

#: Edge of a cell of the surfaces in mm, for a structure of scale 1.
CELL_MM = 1.0
#: What thinner vessels are drawn wider by, or they would fall through the cells; changes wrap what they lie on.
WIDER_MM, WRAP_MM = 0.1, 0.25
#: One unit of the stored coordinates in mm: 16 bits reach 1.3 m.
UNIT_MM = 0.02


@dataclass(frozen=True, eq=False)
class Surface:
    """A triangle mesh.

    Attributes:
        name: ``"before"``, ``"after"``, ``"added"``, ``"bridged"`` or ``"removed"``, and the class if it has a name.
        vertices: ``(V, 3)`` world mm.
        faces: ``(F, 3)`` vertex indices.
    """

    name: str
    vertices: NDArray[np.floating]
    faces: NDArray[np.integer]


def scene_of(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    edits: Iterable[Edit],
    grid: Grid,
    affine: NDArray[np.float64],
    labels: Iterable[int | str],
    anatomy: Anatomy,
) -> list[Surface]:
    """All surfaces of a case; what holds no voxel has none.

    Args:
        before: ``(X, Y, Z)`` the label map.
        after: the refined one.
        edits: what differs; shifts of the wall are not drawn apart.
        grid: their grid.
        affine: its 4 x 4 world affine.
        labels: the classes that were refined.
        anatomy: their names, and how coarse each may be drawn.
    """
    changed = {kind: np.zeros(before.shape, bool) for kind in ("added", "bridged", "removed")}
    for edit in edits:
        if edit.kind != "wall":
            changed[edit.kind][tuple(edit.voxels.T)] = True
    parts = [(kind, mask, CELL_MM, WRAP_MM) for kind, mask in changed.items()]
    for label in labels:
        structure = None if label == FOREGROUND else anatomy.by_index(int(label))
        cell = CELL_MM * (structure.scale if structure else 1)
        name = f" {structure.name}" if structure and label != FOREGROUND else ""
        parts += [(f"{when}{name}", mask_of(a, label), cell, WIDER_MM) for when, a in _states(before, after)]
    drawn = (_surface(name, mask, grid, affine, cell, wider) for name, mask, cell, wider in parts if mask.any())
    return [surface for surface in drawn if surface is not None]


def _states(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> tuple[tuple[str, NDArray[np.uint8]], ...]:
    return (("before", before), ("after", after))


def _surface(
    name: str, mask: NDArray[np.bool_], grid: Grid, affine: NDArray[np.float64], cell: float, wider: float
) -> Surface | None:
    reach = 2 * cell + max(grid.spacing)
    box = crop_box(mask, grid.spacing, reach)
    near = box.grid(grid)
    cells = near.isotropic(cell)
    distance = torch.as_tensor(signed_distance(mask[box.slices()], grid.spacing, reach))[None, None]
    field = np.pad(sample_axes(distance, cells.axes_in(near))[0, 0].numpy(), 1, constant_values=reach)
    if field.min() >= wider:
        return None
    vertices, faces, _, _ = marching_cubes(field, wider)
    return Surface(name, apply_affine(affine, grid.to_voxel(cells.to_mm(vertices - 1))), faces)


def packed(surfaces: Iterable[Surface]) -> dict[str, Any]:
    """Surfaces as plain JSON: names and counts, and all numbers, deflated, in base64.

    Per surface come V x 3 little-endian int16 (in units from ``origin``), then F x 3 int32; each row is the difference
    from the one before, which is easier to deflate.
    """
    surfaces = list(surfaces)
    everything = np.concatenate([s.vertices for s in surfaces]) if surfaces else np.zeros((1, 3))
    origin = (everything.min(0) + everything.max(0)) / 2
    payload = b"".join(
        _steps(np.round((s.vertices - origin) / UNIT_MM), "<i2") + _steps(s.faces, "<i4") for s in surfaces
    )
    return {
        "origin": [round(float(x), 3) for x in origin],
        "unit": UNIT_MM,
        "surfaces": [{"name": s.name, "vertices": len(s.vertices), "faces": len(s.faces)} for s in surfaces],
        "data": base64.b64encode(zlib.compress(payload, 9)).decode("ascii"),
    }


def _steps(table: NDArray[np.generic], dtype: str) -> bytes:
    """Differences down every column, as 16- or 32-bit numbers that may wrap around."""
    whole = table.astype(np.int64)
    return np.diff(whole, axis=0, prepend=0).astype(dtype).tobytes()
