"""The surface of a label map in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from near_monai.anatomy import table_of
from near_monai.data.class_selection import AUTO, choose_label, parse_class
from near_monai.exports.surface_files import Surface
from near_monai.exports.surface_meshes import Kind, surface_in
from near_monai.formats.given_images import label_map


def surface(
    label: Any,
    spacing: ArrayLike | None = None,
    which: int | str = AUTO,
    table: str | Path | None = None,
    *,
    caps: bool = False,
    triangle: float | None = None,
    extensions: float = 0.0,
    wall: float = 0.0,
) -> Surface:
    """The smooth, closed surface of one class of a label map.

    Args:
        label: see :func:`near_monai.refine`: an array, an image of nibabel or SimpleITK, or the path of a file.
        spacing: ``(3,)`` voxel size in mm of an array; its vertices are in mm along its axes then.
        which: the class; ``"fg"`` for all above 0; ``"auto"`` for the only class, else coronary.
        table: anatomy table; ``None`` for the heart's.
        caps: cut vessels flat at their ends; faces of the cuts are patches then.
        triangle: mean length of the edges in mm, at most; ``None`` for about two thirds of a voxel.
        extensions: cut vessels flat, and prolong their ends by so many diameters, for simulations of flow.
        wall: make vessels hollow, open at their ends, with so many mm of wall around them, for printing.

    Returns:
        A :class:`near_monai.exports.surface_files.Surface` in world mm (RAS), of the volume of the label if nothing is
        cut or added.

    Raises:
        NearError: not a label map, no such class, one that is too small, or both extensions and a wall.

    Warns:
        NearWarning: an end could not be cut flat, or an extension is shorter than wanted.

    Example:
        >>> import near_monai
        >>> mesh = near_monai.surface("case_1.nii.gz")
        >>> mesh.vertices.shape[1], mesh.faces.shape[1], mesh.volume > 0
        (3, 3, True)
    """
    file, anatomy = label_map(label, spacing), table_of(table)
    chosen = choose_label(file.array, parse_class(which), "label map", anatomy)
    return surface_in(file, chosen, anatomy, Kind(True, caps, triangle, extensions, wall))
