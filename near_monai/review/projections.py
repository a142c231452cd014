"""Pictures of a case from the front, the left and the feet, at one moment or before and after, changes in colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from io import BytesIO

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from near_monai.geometry.boxes import Box, box_of
from near_monai.geometry.coordinates import Grid
from near_monai.review.undoable_edits import Edit

#: Okabe and Ito's bluish green and vermilion, and Tol's purple: told apart by colour-blind readers, too.
COLOURS = {"added": (0, 158, 115), "bridged": (170, 51, 119), "removed": (213, 94, 0)}
#: When each of them is seen.
MOMENTS = {"added": "after", "bridged": "after", "removed": "before"}
#: Grey of what is near to the viewer and of what is far.
NEAR, FAR = 70.0, 205.0
#: The patient's sides at the low and the high end of the axes of RAS.
SIDES = (("L", "R"), ("P", "A"), ("I", "S"))
#: How bright a coloured class is near to the viewer and far.
DARK, BRIGHT = 0.7, 1.1
#: Pixels of the longer side of a picture, and voxels around what is shown.
PIXELS, MARGIN = 360, 4
#: Name and, in RAS voxel order, the axis one looks along, from its low end (+1) or its high end (-1); then the axes
#: that run right and down in the picture, and their signs. As radiologists have it, the patient's right is on the left.
VIEWS = (("front", (1, -1), (0, -1), (2, -1)), ("left", (0, 1), (1, -1), (2, -1)), ("feet", (2, 1), (0, -1), (1, -1)))


@dataclass(frozen=True)
class View:
    """One direction.

    Attributes:
        name: ``"front"``, ``"left"`` or ``"feet"``.
        sides: letters of the patient's sides at the left, right, top and bottom of the picture.
        pictures: PNG by moment, what was changed in the colour of :data:`COLOURS`.
        marks: per place where it is: per cent from the left and from the top.
    """

    name: str
    sides: tuple[str, str, str, str]
    pictures: dict[str, bytes]
    marks: dict[str, tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A class of a case at one moment.

    Attributes:
        mask: ``(X, Y, Z)``.
        colour: red, green, blue 0..255; ``None`` for grey.
    """

    mask: NDArray[np.bool_]
    colour: tuple[int, ...] | None = None


def three_views(
    moments: Mapping[str, Sequence[Drawn]],
    edits: Sequence[Edit],
    places: Mapping[str, ArrayLike],
    grid: Grid,
    affine: NDArray[np.float64],
) -> list[View]:
    """Draw a case, if there is anything of it; the nearer to the viewer, the darker.

    Args:
        moments: its classes ``"before"`` and ``"after"`` it was refined, or at any one moment.
        edits: what differs, see :func:`near_monai.review.undoable_edits.find_edits`. Shifts of the wall are not
            coloured.
        places: what is marked, by its name: ``(x, y, z)`` in mm, in the frame of ``grid``.
        grid: the grid of all masks.
        affine: its 4 x 4 world affine, RAS.
    """
    box = _seen(moments, grid.shape)
    if box is None:
        return []
    turn = nib.io_orientation(affine)
    order = np.argsort(turn[:, 0])
    spacing, shape = np.asarray(grid.spacing)[order], np.asarray(box.shape)[order]
    changed = {kind: [edit for edit in edits if edit.kind == kind] for kind in COLOURS}
    layers = {kind: nib.apply_orientation(_voxels(found, box), turn) for kind, found in changed.items() if found}
    numbers = {moment: nib.apply_orientation(_numbers(drawn, box), turn) for moment, drawn in moments.items()}
    centres = {name: (grid.to_voxel(place) - box.start)[order] for name, place in places.items()}
    forward = turn[order, 1] > 0
    centres = {name: np.where(forward, centre, shape - 1 - centre) for name, centre in centres.items()}
    views = []
    for name, *sides in VIEWS:
        _, across, down = sides
        marks = {n: (_percent(centre, across, shape), _percent(centre, down, shape)) for n, centre in centres.items()}
        pictures = {}
        for moment, drawn in moments.items():
            changes = {kind: layer for kind, layer in layers.items() if MOMENTS[kind] == moment}
            pictures[moment] = _draw(numbers[moment], [part.colour for part in drawn], changes, spacing, sides)
        views.append(View(name, (*_letters(across), *_letters(down)), pictures, marks))
    return views


def _seen(moments: Mapping[str, Sequence[Drawn]], shape: tuple[int, int, int]) -> Box | None:
    """The box around all that is drawn, with a margin; ``None`` if that is nothing."""
    boxes = [box_of(part.mask) for drawn in moments.values() for part in drawn if part.mask.any()]
    return reduce(Box.around, boxes).grow(MARGIN, shape) if boxes else None


def _numbers(drawn: Sequence[Drawn], box: Box) -> NDArray[np.uint16]:
    """Which of the classes a voxel of ``box`` belongs to, counted from 1."""
    numbers = np.zeros(box.shape, np.uint16)
    for number, part in enumerate(drawn, 1):
        numbers[part.mask[box.slices()]] = number
    return numbers


def _letters(side: tuple[int, int]) -> tuple[str, str]:
    """The patient's sides at both ends of a picture's axis."""
    axis, sign = side
    low, high = SIDES[axis]
    return (low, high) if sign > 0 else (high, low)


def _voxels(edits: Iterable[Edit], box: Box) -> NDArray[np.bool_]:
    """The voxels of ``edits`` on ``box``."""
    mask = np.zeros(box.shape, bool)
    for edit in edits:
        mask[tuple((edit.voxels - box.start).T)] = True
    return mask


def _percent(centre: NDArray[np.floating], side: tuple[int, int], shape: NDArray[np.integer]) -> float:
    axis, sign = side
    share = (float(centre[axis]) + 0.5) / shape[axis]
    return round(100 * (share if sign > 0 else 1 - share), 1)


def _draw(
    numbers: NDArray[np.uint16],
    tints: Sequence[tuple[int, ...] | None],
    changes: Mapping[str, NDArray[np.bool_]],
    spacing: NDArray[np.floating],
    sides: Sequence[tuple[int, int]],
) -> bytes:
    """A projection in RAS voxel order as PNG: what is nearest, by depth; ``changes`` in their colours in front."""
    (depth, near), (across, right), (down, below) = sides
    to_picture = (depth, down, across)
    steps = tuple(slice(None, None, sign) for sign in (near, below, right))
    numbers = np.transpose(numbers, to_picture)[steps]
    first = (numbers > 0).argmax(0)
    seen = np.take_along_axis(numbers, first[None], 0)[0]
    far = first / max(len(numbers) - 1, 1)
    picture = np.full((*seen.shape, 3), 255, np.uint8)
    for number, tint in enumerate(tints, 1):
        shades = (NEAR + (FAR - NEAR) * far)[..., None] if tint is None else _shaded(tint, far)
        picture = np.where((seen == number)[..., None], shades, picture).astype(np.uint8)
    for kind, changed in changes.items():
        picture[np.transpose(changed, to_picture)[steps].any(0)] = COLOURS[kind]
    extent = spacing[down] * seen.shape[0], spacing[across] * seen.shape[1]
    height, width = (max(1, round(PIXELS * side / max(extent))) for side in extent)
    buffer = BytesIO()
    small = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
    small.quantize(64 if len(tints) == 1 else 128).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _shaded(tint: tuple[int, ...], far: NDArray[np.floating]) -> NDArray[np.floating]:
    """A colour by depth, from 0 (near) to 1 (far)."""
    bright = DARK + (BRIGHT - DARK) * far
    return np.minimum(bright[..., None] * np.asarray(tint, np.float64), 255)
