"""Three pictures of a case, from the front, the left and the feet, before and after, changes in colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from near_monai.geometry.boxes import Box, occupied
from near_monai.geometry.coordinates import Grid
from near_monai.review.undoable_edits import Edit

#: Okabe and Ito's bluish green and vermilion, and Tol's purple: told apart by colour-blind readers, too.
COLOURS = {"added": (0, 158, 115), "bridged": (170, 51, 119), "removed": (213, 94, 0)}
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
        before: PNG of the label, what is removed in its colour of :data:`COLOURS`.
        after: PNG of the refined label, what is added and bridged likewise.
        marks: per edit (the wall excepted) where its centre is: per cent from the left and from the top.
    """

    name: str
    sides: tuple[str, str, str, str]
    before: bytes
    after: bytes
    marks: dict[str, tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A class of a case.

    Attributes:
        name: what it is.
        before: ``(X, Y, Z)`` the label.
        after: the same, refined.
        colour: red, green, blue 0..255; ``None`` for grey.
    """

    name: str
    before: NDArray[np.bool_]
    after: NDArray[np.bool_]
    colour: tuple[int, ...] | None = None


def three_views(
    classes: Sequence[Drawn],
    edits: Iterable[Edit],
    grid: Grid,
    affine: NDArray[np.float64],
) -> list[View]:
    """Draw a case; the nearer to the viewer, the darker.

    Args:
        classes: what was refined; none of a map that is empty.
        edits: what differs, see :func:`near_monai.review.undoable_edits.find_edits`. Shifts of the wall are not
            coloured.
        grid: their grid.
        affine: its 4 x 4 world affine, RAS.
    """
    drawn = np.zeros(grid.shape, bool)
    for part in classes:
        drawn |= part.before | part.after
    box = occupied(drawn).grow(MARGIN, grid.shape)
    placed = [edit for edit in edits if edit.kind in COLOURS]
    turn = nib.io_orientation(affine)
    order = np.argsort(turn[:, 0])
    spacing, shape = np.asarray(grid.spacing)[order], np.asarray(box.shape)[order]
    layers = {
        kind: nib.apply_orientation(_voxels((e for e in placed if e.kind == kind), box), turn) for kind in COLOURS
    }
    old, new = (
        nib.apply_orientation(_numbers([getattr(part, when) for part in classes], box), turn)
        for when in ("before", "after")
    )
    tints = [part.colour for part in classes]
    centres = {edit.name: (grid.to_voxel(edit.place) - box.start)[order] for edit in placed}
    forward = turn[order, 1] > 0
    centres = {name: np.where(forward, centre, shape - 1 - centre) for name, centre in centres.items()}
    views = []
    for name, *sides in VIEWS:
        _, across, down = sides
        marks = {n: (_percent(centre, across, shape), _percent(centre, down, shape)) for n, centre in centres.items()}
        before = _draw(old, tints, {"removed": layers["removed"]}, spacing, sides)
        after = _draw(new, tints, {kind: layers[kind] for kind in ("added", "bridged")}, spacing, sides)
        views.append(View(name, (*_letters(across), *_letters(down)), before, after, marks))
    return views


def _numbers(masks: Sequence[NDArray[np.bool_]], box: Box) -> NDArray[np.uint16]:
    """Which of ``masks`` a voxel of ``box`` belongs to, counted from 1."""
    numbers = np.zeros(box.shape, np.uint16)
    for number, mask in enumerate(masks, 1):
        numbers[mask[box.slices()]] = number
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
