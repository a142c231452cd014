"""Anatomy of a label map: what breaks the table's rules, and which of it can be put right without a person.

A rule flags rather than deletes: a piece goes only if it is small *and* far from the rest of its structure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from near_monai.anatomy import HEART, Anatomy, Structure
from near_monai.data.class_selection import structures_in
from near_monai.fusion.map_changes import Change
from near_monai.geometry.boxes import Box, box_of, voxels_of
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.specks import FAR_MM, LONG_MM, SMALL_MM3
from near_monai.inferers.shared_cores import shared_cores

#: Corrections make room for others; it never took more rounds than three.
ROUNDS = 10


@dataclass(frozen=True)
class Violation:
    """One place that breaks a rule.

    Attributes:
        change: what and where; its action says whether it can be corrected.
        box: voxels around it.
        where: its voxels in the box.
        becomes: the class that corrects it; None if a person has to look.
    """

    change: Change
    box: Box
    where: NDArray[np.bool_]
    becomes: int | None


def correct(
    array: NDArray[np.uint8], grid: Grid, anatomy: Anatomy = HEART
) -> tuple[NDArray[np.uint8], list[Change], list[Change]]:
    """Put right what is small and certain.

    Args:
        array: label map ``(X, Y, Z)``.
        grid: its grid.
        anatomy: the table; classes that it does not have are left alone.

    Returns:
        The corrected map, what was changed, and the violations that are left. A second call changes nothing.
    """
    out, done = array.copy(), []
    for _ in range(ROUNDS):
        found = violations(out, grid, anatomy)
        certain = [violation for violation in found if violation.becomes is not None]
        if not certain:
            break
        for violation in certain:
            out[violation.box.slices()][violation.where] = violation.becomes or 0
            done.append(violation.change)
        if all(violation.change.action == "filled" for violation in found):
            return out, done, []  # what fills a hole becomes part of its wall, and breaks no rule
    return out, done, [violation.change for violation in found if violation.becomes is None]


def violations(array: NDArray[np.uint8], grid: Grid, anatomy: Anatomy = HEART) -> list[Violation]:
    """Every place of a label map that breaks a rule; arguments as for :func:`correct`."""
    if not array.any():
        return []
    box = box_of(array > 0)
    inner, sub = array[box.slices()], box.grid(grid)
    present = structures_in(inner, anatomy)
    rules = [partial(_of_structure, inner, sub, s, anatomy) for s in present] + [partial(_holes, inner, sub, anatomy)]
    with shared_cores() as pool:
        found = list(pool.map(lambda rule: list(rule()), rules))
    return [replace(violation, box=violation.box.moved(box.start)) for some in found for violation in some]


def _of_structure(array: NDArray[np.uint8], grid: Grid, structure: Structure, anatomy: Anatomy) -> Iterator[Violation]:
    """Pieces of a structure beyond the expected number, and pieces that do not touch what they have to."""
    mask = array == structure.index
    region = box_of(mask)
    mask, sub = mask[region.slices()], region.grid(grid)
    found = Components.of(mask)
    volume = found.sizes * grid.voxel_volume
    diagonal = np.array([np.linalg.norm(np.multiply(box.shape, grid.spacing)) for box in found.boxes])
    small = (volume < structure.size.mm3(SMALL_MM3)) & (diagonal < structure.size.mm(LONG_MM))
    order = np.argsort(-volume, kind="stable").tolist()
    expected, rest = order[: structure.components], order[structure.components :]
    shells = _Shells(found, sub)

    def broken(rule: str, n: int, detail: str, goes: bool) -> Violation:
        where, box = found.mask(n), found.boxes[n]
        action = "removed" if goes else "flagged"
        change = Change.of(rule, structure.index, action, where, box.grid(sub), detail)
        return Violation(change, box.moved(region.start), where, 0 if goes else None)

    if rest:
        main = shells.tree([n for n in order if n in expected or not small[n]])
        for n in rest:
            away = shells.distance(n, main) if small[n] else 0.0
            goes = away > structure.size.mm(FAR_MM)
            apart = f", {away:.1f} mm from the rest" if small[n] else ""
            detail = f"{structure.name}: piece beyond the {structure.components} expected{apart}"
            yield broken("pieces", n, detail, goes)
    neighbours = [anatomy.by_name(name).index for name in structure.touches]
    around = region.grow(1, array.shape)
    beside = np.isin(array[around.slices()], neighbours)
    away_from = [n for n in expected if not _touch(found.mask(n, around.within(region)), beside)]
    others = np.isin(array, neighbours) if away_from else beside
    if not others.any():
        return
    target = _wall(others, grid)
    for n in away_from:
        away = shells.distance(n, target)
        if away > max(structure.near, float(np.linalg.norm(grid.spacing)) + 1e-6):
            detail = f"{structure.name}: {away:.1f} mm from {' or '.join(structure.touches)}"
            yield broken("touches", n, detail, False)


def _holes(array: NDArray[np.uint8], grid: Grid, anatomy: Anatomy) -> Iterator[Violation]:
    """Background that structures enclose on all sides; a small hole becomes what most of its wall is."""
    index, count = ndimage.label(np.pad(array == 0, 1, constant_values=True))
    if count < 2:
        return
    index = index[1:-1, 1:-1, 1:-1]
    for number, found in enumerate(ndimage.find_objects(index), 1):
        if number == 1 or found is None:  # the first holds the padded corner: the outside
            continue
        box = Box.of(found)
        wide = box.grow(1, array.shape)
        there = index[wide.slices()] == number
        wall = array[wide.slices()][ndimage.binary_dilation(there) & ~there]
        most = int(np.bincount(wall, minlength=2)[1:].argmax()) + 1
        structure = anatomy.by_index(most)
        if structure is None:
            continue
        where = index[box.slices()] == number
        fills = np.count_nonzero(where) * grid.voxel_volume < structure.size.mm3(SMALL_MM3)
        detail = f"hole in {structure.name}"
        change = Change.of("holes", most, "filled" if fills else "flagged", where, box.grid(grid), detail)
        yield Violation(change, box, where, most if fills else None)


class _Shells:
    """Surface voxels of components, for distances between them."""

    def __init__(self, components: Components, grid: Grid) -> None:
        self.components, self.grid = components, grid

    def points(self, n: int) -> NDArray[np.floating]:
        """Surface voxels of component ``n`` (from 0), ``(N, 3)`` mm."""
        return _shell(self.components.mask(n), self.components.boxes[n].grid(self.grid))

    def tree(self, numbers: list[int]) -> cKDTree:
        """Those of several components."""
        return cKDTree(np.concatenate([self.points(n) for n in numbers]))

    def distance(self, n: int, target: cKDTree) -> float:
        """Smallest distance in mm from component ``n`` to the voxels of ``target``, centre to centre."""
        return float(target.query(self.points(n))[0].min())


def _touch(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether two masks of a shape share a face somewhere: cheaper than a distance, and most that must touch do."""
    for axis in range(3):
        a, b = np.moveaxis(one, axis, 0), np.moveaxis(other, axis, 0)
        if (a[1:] & b[:-1]).any() or (a[:-1] & b[1:]).any():
            return True
    return False


def _wall(mask: NDArray[np.bool_], grid: Grid) -> cKDTree:
    box = box_of(mask)
    return cKDTree(_shell(mask[box.slices()], box.grid(grid)))


def _shell(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.floating]:
    surface = mask & ~ndimage.binary_erosion(mask)
    return grid.to_mm(voxels_of(surface))
