"""Edits: what refinement changed in a label map, place by place, so that a person can take single ones back.

Found anew from the files, before and after, whenever they are needed. An edit is known by the voxels that go back if it
is taken back: no other version and no other run can have another edit of the same name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from near_monai.data.class_selection import OneClass, mask_of
from near_monai.geometry.boxes import Box, occupied, voxels_of
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.scale import Scale
from near_monai.repair.findings_to_check import Piece, beyond_wall, listed_pieces, wall_reach

#: Kinds of edits and the letters that their names begin with.
LETTERS = {"bridged": "B", "added": "A", "removed": "R", "wall": "W"}
#: Hexadecimal digits of an identity in a name; more if two edits of a case would share one.
DIGITS = 6


@dataclass(frozen=True, eq=False)
class Edit:
    """One place, or all smaller changes of one class together, which are mostly shifts of its wall.

    Attributes:
        name: ``"LABEL/LETTER-DIGITS"``, such as ``"9/A-3f2c07"``: the first digits of ``identity``; unique in its case.
        kind: ``"bridged"``, ``"added"``, ``"removed"`` or ``"wall"``.
        label: class concerned.
        place: centre ``(x, y, z)`` of ``voxels`` in mm, in the frame of the grid.
        volume_mm3: volume of ``voxels``.
        voxels: ``(N, 3)`` indices of all voxels that go back if the edit is taken back.
        identity: hexadecimal digits that follow from class, kind, voxels and the shape of the grid.
    """

    name: str
    kind: str
    label: OneClass
    place: tuple[float, float, float]
    volume_mm3: float
    voxels: NDArray[np.intp]
    identity: str


@dataclass(frozen=True, eq=False)
class _Region:
    """An edit that has no name yet."""

    kind: str
    label: OneClass
    voxels: NDArray[np.intp]
    identity: str


def find_edits(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    bridges: NDArray[np.uint8] | None,
    grid: Grid,
    scales: Mapping[OneClass, float],
) -> list[Edit]:
    """Edits of one case, per class the largest first, the wall last.

    A place counts, as in :mod:`near_monai.repair.findings_to_check`, where it lies beyond the wall of what it differs
    from; what was changed between it and that wall belongs to it. Every bridge counts. All else is one edit, the wall.

    Args:
        before: ``(X, Y, Z)`` the label map.
        after: the refined one, same shape.
        bridges: not 0 in the bridges, same shape; ``None`` if there are none.
        grid: their grid.
        scales: per class that was refined, the scale of the structure that it is.
    """
    found: list[_Region] = []
    for label, scale in scales.items():
        old, new = mask_of(before, label), mask_of(after, label)
        box = occupied(old | new).grow(1, grid.shape)
        cut = box.slices()
        bridge = new[cut] & ~old[cut] & (bridges[cut] > 0) if bridges is not None else np.zeros(box.shape, bool)
        regions = list(_of_class(label, old[cut], new[cut], bridge, box, grid, scale))
        found += sorted(regions, key=lambda region: (list(LETTERS).index(region.kind), -len(region.voxels)))
    return _named(found, grid)


def take_back(before: NDArray[np.uint8], after: NDArray[np.uint8], edits: Iterable[Edit]) -> NDArray[np.uint8]:
    """A copy of ``after`` that is ``before`` wherever one of ``edits`` is."""
    out = after.copy(order="K")
    for edit in edits:
        there = tuple(edit.voxels.T)
        out[there] = before[there]
    return out


def _of_class(
    label: OneClass,
    old: NDArray[np.bool_],
    new: NDArray[np.bool_],
    bridge: NDArray[np.bool_],
    box: Box,
    grid: Grid,
    scale: float,
) -> Iterator[_Region]:
    """Regions of one class, given on ``box``, a part of ``grid``."""
    small = Scale(scale).shrunk(box.grid(grid))
    changed = old != new
    kinds = {
        "bridged": (bridge, bridge),
        "added": (beyond_wall(new & ~bridge, old, small), changed & new & ~bridge),
        "removed": (beyond_wall(old, new, small), changed & old),
    }
    for kind, (core, all_of_kind) in kinds.items():
        for piece in listed_pieces(kind, core, small):
            region = _region(piece, all_of_kind, small)
            changed[tuple(region.T)] = all_of_kind[tuple(region.T)] = False
            if len(region):  # two thin bridges side by side are one edit
                yield _known(kind, label, region + box.start, grid)
    wall = voxels_of(changed)
    if len(wall):
        yield _known("wall", label, wall + box.start, grid)


def _known(kind: str, label: OneClass, voxels: NDArray[np.intp], grid: Grid) -> _Region:
    """A region with its identity, whatever the order of its ``voxels``."""
    flat = np.sort(np.ravel_multi_index(tuple(voxels.T), grid.shape)).astype("<i8")
    content = f"{label} {kind} {grid.shape} ".encode() + flat.tobytes()
    return _Region(kind, label, voxels, hashlib.blake2b(content, digest_size=16).hexdigest())


def _named(regions: Sequence[_Region], grid: Grid) -> list[Edit]:
    digits = DIGITS
    while len({region.identity[:digits] for region in regions}) < len(regions):
        digits += 1
    found = []
    for region in regions:
        name = f"{region.label}/{LETTERS[region.kind]}-{region.identity[:digits]}"
        x, y, z = (float(v) for v in grid.to_mm(region.voxels.mean(0)))
        volume = len(region.voxels) * grid.voxel_volume
        found.append(Edit(name, region.kind, region.label, (x, y, z), volume, region.voxels, region.identity))
    return found


def _region(piece: Piece, changed: NDArray[np.bool_], grid: Grid) -> NDArray[np.intp]:
    """Voxels of ``changed`` in ``piece`` or within the reach of the wall of it."""
    reach = wall_reach(grid)
    near = piece.box.grow(max(reach) + 1, grid.shape)
    wide = np.zeros(near.shape, bool)
    wide[piece.box.within(near).slices()] = piece.mask
    return voxels_of(ndimage.maximum_filter(wide, [2 * n + 1 for n in reach]) & changed[near.slices()]) + near.start
