"""Paths as vessels: what goes straight on at a fork is one vessel, what leaves it a branch; spurs of the wall go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from near_monai.geometry.coordinates import FloatArray
from near_monai.trees.vessel_paths import Lumen

#: mm of a path that tell in which direction it leaves a fork.
AHEAD_MM = 6.0
#: By how much what leaves must go on better than what goes on now: the longer path is the vessel, if in doubt.
BETTER = 0.25
#: A spur leaves the lumen of its vessel by less than this many radii of it, or less than so many mm.
SPUR_RADII, SPUR_MM = 1.0, 1.0


@dataclass(eq=False)
class Vessel:
    """A path of voxels through forks.

    Attributes:
        path: voxels of a :class:`Lumen`; the first is the root, or lies on the parent.
        parent: the vessel that it leaves; ``None`` at the root.
        at: where in the path of ``parent``.
    """

    path: list[int]
    parent: Vessel | None = None
    at: int = 0


def vessels_of(lumen: Lumen, root: int) -> list[Vessel]:
    """The vessels of a component, each after its parent; none where nothing but ``root`` is there."""
    vessels: list[Vessel] = []
    where: dict[int, tuple[Vessel, int]] = {}
    for path in lumen.paths(root):
        parent, at = where.get(path[0], (None, 0))
        vessel = Vessel(path, parent, at)
        vessels.append(vessel)
        for index, voxel in enumerate(path):
            where.setdefault(voxel, (vessel, index))
    vessels = _without_spurs(vessels, lumen)
    for vessel in _from_the_root(vessels):  # a vessel is put right before those that leave it are looked at
        _let_go_on(vessel, vessels, lumen)
    return list(_from_the_root(vessels))


def _from_the_root(vessels: list[Vessel]) -> list[Vessel]:
    """``vessels``, which change while they are looked at, each after its parent."""
    order = [vessel for vessel in vessels if vessel.parent is None]
    for vessel in order:
        order += [other for other in vessels if other.parent is vessel]
    return order


def _without_spurs(vessels: list[Vessel], lumen: Lumen) -> list[Vessel]:
    kept = list(vessels)
    for vessel in reversed(vessels):  # a spur on a spur goes first
        parent = vessel.parent
        if parent is None or any(other.parent is vessel for other in kept):
            continue
        radius, deep = lumen.depth[parent.path], [voxel for voxel in vessel.path if lumen.depth[voxel] > lumen.shallow]
        apart, nearest = cKDTree(lumen.mm[parent.path]).query(lumen.mm[deep or vessel.path[:1]])
        outside = float(np.max(apart - radius[nearest]))
        if outside < max(SPUR_MM, SPUR_RADII * float(radius[vessel.at])):
            kept.remove(vessel)
    return kept


def _let_go_on(vessel: Vessel, vessels: list[Vessel], lumen: Lumen) -> None:
    """At every fork of ``vessel``, from its root on, exchange its rest for a branch if that goes on better."""
    done = 0
    while True:
        forks = [other for other in vessels if other.parent is vessel and other.at >= done]
        if not forks:
            return
        at = min(other.at for other in forks)
        done = at + 1
        before = lumen.mm[vessel.path[: at + 1][::-1]]
        if at == 0 or at >= len(vessel.path) - 1:
            continue
        here = [other for other in forks if other.at == at]
        best = max(here, key=lambda other: _going_on(lumen, before, other.path))
        if _going_on(lumen, before, best.path) > _going_on(lumen, before, vessel.path[at:]) + BETTER:
            _exchange(vessel, best, vessels)


def _exchange(vessel: Vessel, branch: Vessel, vessels: list[Vessel]) -> None:
    at, rest = branch.at, vessel.path[branch.at :]
    later = [other for other in vessels if other.parent is vessel and other.at > at]
    own = [other for other in vessels if other.parent is branch]
    vessel.path, branch.path = vessel.path[:at] + branch.path, rest
    for other in later:
        other.parent, other.at = branch, other.at - at
    for other in own:
        other.parent, other.at = vessel, other.at + at


def _going_on(lumen: Lumen, before: FloatArray, path: list[int]) -> float:
    """How well ``path`` goes on from points ``before`` a fork (nearest first): straight, and as thick."""
    after = lumen.mm[path]
    here = after[0]
    one, other = _mean_direction(here, before), _mean_direction(here, after)
    near = np.linalg.norm(after - here, axis=1)
    thick = lumen.depth[path]
    beyond = thick[(near > thick[0]) & (near <= thick[0] + AHEAD_MM)]
    return float(-one @ other) + float(np.median(beyond) if len(beyond) else 0.0) / float(thick[0])


def _mean_direction(here: FloatArray, points: FloatArray) -> FloatArray:
    """Unit vector from ``here`` to the middle of the points within :data:`AHEAD_MM`."""
    near = points[np.linalg.norm(points - here, axis=1) <= AHEAD_MM]
    way = near.mean(0) - here
    return np.asarray(way / max(float(np.linalg.norm(way)), 1e-9))
