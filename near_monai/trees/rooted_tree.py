"""Rooted trees of vessels in world mm: branches with their measures, and the plain records that files hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from near_monai.geometry.coordinates import FloatArray
from near_monai.trees.cross_sections import arc_of

Side = Literal["left", "right"]
#: mm of a branch that tell in which direction it leaves a fork, once it is out of the lumen of the fork.
LEAVING_MM = 5.0


@dataclass(frozen=True, eq=False)
class Branch:
    """What lies between two forks of a vessel, or a fork and an end.

    Attributes:
        id: its number in the tree, from 0; every branch comes after its parent.
        parent: the branch that ends where it begins; ``None`` at the root.
        points: ``(N, 3)`` its centreline in world mm (RAS), from the root on, half a mm apart.
        radius: ``(N,)`` of the circle that is as large as its cross-section, mm.
        generation: forks between it and the root.
        goes_on: whether it is the vessel of its parent, and not a branch that leaves that.
        angle: at its first point, between it and the branch beside it, in degrees; NaN where nothing is beside it.
        name: ``"LM"``, ``"LAD"``, ``"LCX"``, ``"RCA"``, ``"D"`` (diagonal), ``"OM"`` or ``"AM"`` (obtuse or acute
            marginal); ``None`` where nothing tells.
        name_probability: of ``name``.
        label: the class of the map that most of its centreline lies in, where several are taken as one tree.
    """

    id: int
    parent: int | None
    points: FloatArray
    radius: FloatArray
    generation: int
    goes_on: bool
    angle: float = float("nan")
    name: str | None = None
    name_probability: float | None = None
    label: int | None = None

    @cached_property
    def arc(self) -> FloatArray:
        """``(N,)`` mm from the first point."""
        return arc_of(self.points)

    @property
    def length(self) -> float:
        """Mm along the centreline."""
        return float(self.arc[-1])

    @property
    def mean_radius(self) -> float:
        """Mean radius over the length, mm."""
        return float(np.trapezoid(self.radius, self.arc) / self.length)

    @property
    def taper(self) -> float:
        """Mm of radius lost per mm of length, by least squares; below 0 where it becomes wider."""
        return float(-np.polyfit(self.arc, self.radius, 1)[0])

    @property
    def tortuosity(self) -> float:
        """Length over the distance of its ends; 1 for a straight one."""
        return self.length / max(float(np.linalg.norm(self.points[-1] - self.points[0])), 1e-9)

    @property
    def direction(self) -> FloatArray:
        """Unit vector ``(3,)`` in which it leaves its first point."""
        way = self.points[int(np.searchsorted(self.arc, min(LEAVING_MM, self.length)))] - self.points[0]
        return np.asarray(way / np.linalg.norm(way))

    def measures(self) -> dict[str, Any]:
        """Everything about it but its points, in plain types; mm but for the angle, which is in degrees."""
        return {
            "id": self.id,
            "parent": self.parent,
            "name": self.name,
            "name_probability": self.name_probability,
            "label": self.label,
            "generation": self.generation,
            "goes_on": self.goes_on,
            "length_mm": round(self.length, 3),
            "mean_radius_mm": round(self.mean_radius, 3),
            "min_radius_mm": round(float(self.radius.min()), 3),
            "taper": round(self.taper, 4),
            "tortuosity": round(self.tortuosity, 4),
            "angle_degrees": round(self.angle, 1),
        }


@dataclass(frozen=True, eq=False)
class RootedTree:
    """One tree.

    Attributes:
        branches: each after its parent; the first is the root's.
        root_at: ``"aorta"`` if the map has one there, else ``"thick end"``.
        side: of the body; ``None`` where the orientation is not known, or does not agree with the shape.
    """

    branches: tuple[Branch, ...]
    root_at: str
    side: Side | None = None

    @property
    def root(self) -> FloatArray:
        """``(3,)`` world mm."""
        return np.asarray(self.branches[0].points[0])

    @property
    def length(self) -> float:
        """Mm of all branches."""
        return sum(branch.length for branch in self.branches)

    def children(self, number: int) -> list[Branch]:
        """The branches that begin where branch ``number`` ends."""
        return [branch for branch in self.branches if branch.parent == number]

    def record(self) -> dict[str, Any]:
        """The tree in plain types, as files hold it."""
        return {
            "side": self.side,
            "root_mm": _rounded(self.root),
            "root_at": self.root_at,
            "length_mm": round(self.length, 3),
            "branches": [
                branch.measures() | {"points_mm": _rounded(branch.points), "radius_mm": _rounded(branch.radius)}
                for branch in self.branches
            ],
        }


def with_angles(branches: Sequence[Branch]) -> tuple[Branch, ...]:
    """``branches`` of a tree with the angles at their forks: to the vessel that goes on, or to the first branch."""
    found = []
    for branch in branches:
        beside = [b for b in branches if b.parent == branch.parent and b.id != branch.id and branch.parent is not None]
        if not beside:
            found.append(branch)
            continue
        other = max(beside, key=lambda b: (b.goes_on, -b.id))
        cosine = float(np.clip(branch.direction @ other.direction, -1, 1))
        found.append(replace(branch, angle=float(np.degrees(np.arccos(cosine)))))
    return tuple(found)


def _rounded(values: FloatArray) -> Any:
    return np.round(values, 3).tolist()
