"""Three pictures of a case, from the front, the left and the feet, before and after, changes in colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from near_monai.geometry.boxes import Box, occupied
from near_monai.geometry.coordinates import Grid
from near_monai.review.undoable_edits import Edit

#: Okabe and Ito's bluish green and vermilion: told apart by colour-blind readers, too.
ADDED, REMOVED = (0, 158, 115), (213, 94, 0)
#: Grey of what is near to the viewer and of what is far.
NEAR, FAR = 70.0, 205.0
#: Pixels of the longer side of a picture, and voxels around what is shown.
PIXELS, RIM = 360, 4
#: Name and, in RAS voxel order, the axis one looks along, from its low end (+1) or its high end (-1); then the axes
#: that run right and down in the picture, and their signs. As radiologists have it, the patient's right is on the left.
VIEWS = (("front", (1, -1), (0, -1), (2, -1)), ("left", (0, 1), (1, -1), (2, -1)), ("feet", (2, 1), (0, -1), (1, -1)))


@dataclass(frozen=True)
class View:
    """One direction.

    Attributes:
        name: ``"front"``, ``"left"`` or ``"feet"``.
        before: PNG of the label, what is removed in :data:`REMOVED`.
        after: PNG of the refined label, what is added in :data:`ADDED`.
        marks: per edit (the wall excepted) where its centre is: per cent from the left and from the top.
    """

    name: str
    before: bytes
    after: bytes
    marks: dict[str, tuple[float, float]]


def three_views(
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    edits: Iterable[Edit],
    grid: Grid,
    affine: NDArray[np.float64],
) -> list[View]:
    """Draw a case; the nearer to the viewer, the darker.

    Args:
        before: ``(X, Y, Z)`` what was refined, not empty.
        after: the same, refined.
        edits: what differs, see :func:`near_monai.review.undoable_edits.find_edits`. Shifts of the wall are not
            coloured.
        grid: their grid.
        affine: its 4 x 4 world affine, RAS.
    """
    box = occupied(before | after).grow(RIM, grid.shape)
    placed = [edit for edit in edits if edit.kind != "wall"]
    removed = _voxels((edit for edit in placed if edit.kind == "removed"), box)
    added = _voxels((edit for edit in placed if edit.kind != "removed"), box)
    turn = nib.io_orientation(affine)
    order = np.argsort(turn[:, 0])
    spacing, shape = np.asarray(grid.spacing)[order], np.asarray(box.shape)[order]
    old, new, removed, added = (
        nib.apply_orientation(part, turn) for part in (before[box.slices()], after[box.slices()], removed, added)
    )
    centres = {edit.name: (grid.to_voxel(edit.place) - box.start)[order] for edit in placed}
    forward = turn[order, 1] > 0
    centres = {name: np.where(forward, centre, shape - 1 - centre) for name, centre in centres.items()}
    views = []
    for name, *sides in VIEWS:
        _, across, down = sides
        marks = {n: (_percent(centre, across, shape), _percent(centre, down, shape)) for n, centre in centres.items()}
        pictures = _draw(old, removed, REMOVED, spacing, sides), _draw(new, added, ADDED, spacing, sides)
        views.append(View(name, *pictures, marks))
    return views


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
    mask: NDArray[np.bool_],
    changed: NDArray[np.bool_],
    colour: tuple[int, int, int],
    spacing: NDArray[np.floating],
    sides: Sequence[tuple[int, int]],
) -> bytes:
    """A projection in RAS voxel order as PNG: the depth of ``mask`` in grey, ``changed`` in ``colour`` in front."""
    (depth, near), (across, right), (down, below) = sides
    to_picture = (depth, down, across)
    steps = tuple(slice(None, None, sign) for sign in (near, below, right))
    mask, changed = (np.transpose(part, to_picture)[steps] for part in (mask, changed))
    first = mask.argmax(0)
    grey = np.where(mask.any(0), NEAR + (FAR - NEAR) * first / max(len(mask) - 1, 1), 255.0).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, 2)
    picture[changed.any(0)] = colour
    extent = spacing[down] * mask.shape[1], spacing[across] * mask.shape[2]
    height, width = (max(1, round(PIXELS * side / max(extent))) for side in extent)
    buffer = BytesIO()
    small = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
    small.quantize(64).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
