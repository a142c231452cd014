"""Pictures of a case from the front, the left and the feet, at one moment or before and after, changes in colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from io import BytesIO
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from near_monai.geometry.boxes import Box, box_of, voxels_of
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
#: No voxels.
NOTHING = np.zeros((0, 3), np.intp)
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
    frame = _Frame.of(box, grid, affine)
    changed = {kind: np.concatenate([NOTHING, *(e.voxels for e in edits if e.kind == kind)]) for kind in COLOURS}
    layers = {kind: frame.turned(voxels - box.start) for kind, voxels in changed.items()}
    classes = {
        when: [(frame.turned(voxels_of(part.mask[box.slices()])), part.colour) for part in drawn]
        for when, drawn in moments.items()
    }
    centres = {name: frame.turned(grid.to_voxel(place) - box.start) for name, place in places.items()}
    views = []
    for name, *sides in VIEWS:
        _, across, down = sides
        marks = {n: (frame.percent(at, across), frame.percent(at, down)) for n, at in centres.items()}
        pictures = {
            when: _draw(drawn, {kind: layers[kind] for kind in COLOURS if MOMENTS[kind] == when}, frame, sides)
            for when, drawn in classes.items()
        }
        views.append(View(name, (*_letters(across), *_letters(down)), pictures, marks))
    return views


def _seen(moments: Mapping[str, Sequence[Drawn]], shape: tuple[int, int, int]) -> Box | None:
    """The box around all that is drawn, with a margin; ``None`` if that is nothing."""
    boxes = [box_of(part.mask) for drawn in moments.values() for part in drawn if part.mask.any()]
    return reduce(Box.around, boxes).grow(MARGIN, shape) if boxes else None


@dataclass(frozen=True, eq=False)
class _Frame:
    """A box whose axes are put into RAS order.

    Attributes:
        order: its axes in that order.
        forward: whether they lead to the right, the front and the head.
        shape: voxels along them.
        spacing: mm along them.
    """

    order: NDArray[np.intp]
    forward: NDArray[np.bool_]
    shape: NDArray[np.intp]
    spacing: NDArray[np.float64]

    @classmethod
    def of(cls, box: Box, grid: Grid, affine: NDArray[np.float64]) -> _Frame:
        turn = nib.io_orientation(affine)
        order = np.argsort(turn[:, 0])
        return cls(order, turn[order, 1] > 0, np.asarray(box.shape)[order], np.asarray(grid.spacing)[order])

    def turned(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """Voxels ``(..., 3)`` of the box, along these axes."""
        own = voxels[..., self.order]
        return np.where(self.forward, own, self.shape - 1 - own)

    def along(self, voxels: NDArray[np.intp], side: tuple[int, int]) -> NDArray[np.intp]:
        """Where voxels lie along an axis, from the end that its sign says."""
        axis, sign = side
        return voxels[:, axis] if sign > 0 else self.shape[axis] - 1 - voxels[:, axis]

    def percent(self, at: NDArray[np.floating], side: tuple[int, int]) -> float:
        """Where a place lies along an axis, in per cent."""
        axis, sign = side
        share = (float(at[axis]) + 0.5) / self.shape[axis]
        return round(100 * (share if sign > 0 else 1 - share), 1)


def _letters(side: tuple[int, int]) -> tuple[str, str]:
    """The patient's sides at both ends of a picture's axis."""
    axis, sign = side
    low, high = SIDES[axis]
    return (low, high) if sign > 0 else (high, low)


def _draw(
    classes: Sequence[tuple[NDArray[np.intp], tuple[int, ...] | None]],
    changes: Mapping[str, NDArray[np.intp]],
    frame: _Frame,
    sides: Sequence[tuple[int, int]],
) -> bytes:
    """A projection as PNG: of the voxels of the classes what is nearest, by depth; ``changes`` in their colours."""
    depth, across, down = sides
    deep, size = int(frame.shape[depth[0]]), (frame.shape[down[0]], frame.shape[across[0]])
    picture, nearest = np.full((*size, 3), 255, np.uint8), np.full(size, deep)
    for voxels, tint in classes:
        first = np.full(size, deep)
        np.minimum.at(first, (frame.along(voxels, down), frame.along(voxels, across)), frame.along(voxels, depth))
        seen = first < nearest
        picture[seen] = _shaded(tint, first[seen] / max(deep - 1, 1))
        nearest = np.minimum(nearest, first)
    for kind, voxels in changes.items():
        picture[frame.along(voxels, down), frame.along(voxels, across)] = COLOURS[kind]
    extent = [n * frame.spacing[axis] for n, (axis, _) in zip(size, (down, across), strict=True)]
    height, width = (max(1, round(PIXELS * side / max(extent))) for side in extent)
    buffer = BytesIO()
    small = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
    small.quantize(64 if len(classes) == 1 else 128).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _shaded(tint: tuple[int, ...] | None, far: NDArray[np.floating]) -> NDArray[np.floating]:
    """A colour, or grey, by depth from 0 (near) to 1 (far)."""
    if tint is None:
        return np.repeat((NEAR + (FAR - NEAR) * far)[:, None], 3, axis=1)
    bright = DARK + (BRIGHT - DARK) * far
    return np.minimum(bright[:, None] * np.asarray(tint, np.float64), 255)
