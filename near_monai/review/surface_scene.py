"""Surfaces of a case for the report's 3-D view: coarse enough for a page of a hundred cases, in world mm."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from near_monai.data.class_selection import mask_of
from near_monai.geometry.boxes import crop_box
from near_monai.geometry.coordinates import FloatArray, Grid, sample_axes
from near_monai.geometry.distance import signed_distance
from near_monai.review.class_looks import Look
from near_monai.review.undoable_edits import Edit

#: Edge of a cell of the surfaces in mm, for a structure of scale 1.
CELL_MM = 1.0
#: What thinner vessels are drawn wider by, or they would fall through the cells; changes wrap what they lie on.
WIDER_MM, WRAP_MM = 0.1, 0.25
#: One unit of the stored coordinates in mm: 16 bits reach 1.3 m.
UNIT_MM = 0.02


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh.

    Attributes:
        name: ``"before"``, ``"after"``, ``"label"``, ``"added"``, ``"bridged"`` or ``"removed"``, and the class if it
            has a name.
        vertices: ``(V, 3)`` world mm.
        faces: ``(F, 3)`` vertex indices.
        colour: red, green, blue 0..255, if it has one of its own.
        clear: whether one looks through it at the centrelines.
    """

    name: str
    vertices: NDArray[np.floating]
    faces: NDArray[np.integer]
    colour: tuple[int, ...] | None = None
    clear: bool = False


def changes_in(edits: Sequence[Edit], shape: tuple[int, ...], grid: Grid, affine: NDArray[np.float64]) -> list[Mesh]:
    """The surfaces of what was added, bridged and removed in a map of ``shape``; shifts of the wall are not drawn."""
    drawn = []
    for kind in ("added", "bridged", "removed"):
        changed = np.zeros(shape, bool)
        for edit in edits:
            if edit.kind == kind:
                changed[tuple(edit.voxels.T)] = True
        drawn.append(_part(kind, changed, grid, affine, CELL_MM, WRAP_MM))
    return [part for part in drawn if part is not None]


def classes_in(
    array: NDArray[np.uint8], when: str, looks: Sequence[Look], grid: Grid, affine: NDArray[np.float64]
) -> list[Mesh]:
    """The surfaces of the classes of a map; what holds no voxel has none.

    Args:
        array: ``(X, Y, Z)`` the map.
        when: what it is called, such as ``"before"``.
        looks: its classes.
        grid: its grid.
        affine: its 4 x 4 world affine.
    """
    drawn = [
        _part(
            f"{when} {look.name}".rstrip(),
            mask_of(array, look.label),
            grid,
            affine,
            look.scale * CELL_MM,
            WIDER_MM,
            look.colour,
        )
        for look in looks
    ]
    return [part for part in drawn if part is not None]


def _part(
    name: str,
    mask: NDArray[np.bool_],
    grid: Grid,
    affine: NDArray[np.float64],
    cell: float,
    wider: float,
    colour: tuple[int, ...] | None = None,
) -> Mesh | None:
    """The surface of ``mask``, ``wider`` mm outside it, in cells of ``cell`` mm; ``None`` if there is nothing."""
    if not mask.any():
        return None
    reach = 2 * cell + max(grid.spacing)
    box = crop_box(mask, grid.spacing, reach)
    distance = signed_distance(mask[box.slices()], grid.spacing, reach)
    meshed = level_set(distance, box.grid(grid), cell, wider)
    if meshed is None:
        return None
    points, faces = meshed
    return Mesh(name, apply_affine(affine, grid.to_voxel(points)), faces, colour)


def level_set(
    distance: NDArray[np.float32], grid: Grid, cell: float, level: float = 0.0
) -> tuple[FloatArray, NDArray[np.integer]] | None:
    """Where a ``distance`` ``(X, Y, Z)`` on ``grid`` is ``level``, in cells of ``cell`` mm: points in mm, and faces.

    What the grid cuts is closed there, even a mask that fills it; ``None`` if nothing is within ``level``.
    """
    cells = grid.isotropic(cell)
    sampled = sample_axes(torch.as_tensor(distance)[None, None], cells.axes_in(grid))[0, 0].numpy()
    field = np.pad(sampled, 1, constant_values=max(float(distance.max()), level + cell))
    if field.min() >= level:
        return None
    vertices, faces, _, _ = marching_cubes(field, level)
    return cells.to_mm(vertices - 1), faces


def packed(parts: Iterable[Mesh]) -> dict[str, Any]:
    """Surfaces as plain JSON: names and counts, and all numbers, deflated, in base64.

    Per surface come V x 3 little-endian int16 (in units from ``origin``), then F x 3 int32; each row is the difference
    from the one before, which is easier to deflate.
    """
    parts = list(parts)
    everything = np.concatenate([s.vertices for s in parts]) if parts else np.zeros((1, 3))
    origin = (everything.min(0) + everything.max(0)) / 2
    payload = b"".join(_steps(np.round((s.vertices - origin) / UNIT_MM), "<i2") + _steps(s.faces, "<i4") for s in parts)
    return {
        "origin": [round(float(x), 3) for x in origin],
        "unit": UNIT_MM,
        "surfaces": [
            {"name": s.name, "vertices": len(s.vertices), "faces": len(s.faces), "colour": s.colour, "clear": s.clear}
            for s in parts
        ],
        "data": base64.b64encode(zlib.compress(payload)).decode("ascii"),
    }


def _steps(table: NDArray[np.generic], dtype: str) -> bytes:
    """Differences down every column, as 16- or 32-bit numbers that may wrap around."""
    whole = table.astype(np.int64)
    return np.diff(whole, axis=0, prepend=0).astype(dtype).tobytes()
