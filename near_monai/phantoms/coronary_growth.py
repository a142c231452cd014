"""How a coronary tree grows on a heart: trunks and branches along the grooves, none in another's way.

Sources of the numbers: see :mod:`near_monai.phantoms.coronary`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from near_monai.geometry.coordinates import FloatArray
from near_monai.phantoms.exact_shapes import RoundCones
from near_monai.phantoms.vessel_courses import (
    STEP,
    Branch,
    Heart,
    calibre,
    gaps,
    resample,
    unit_vector,
    wander,
)

LEFT, RIGHT = 0, 1

_BRANCH_GAP = 1.2  # mm between the walls of two branches of a tree, so that voxels of 0.5 mm keep them apart
_TREE_GAP = 2.5  # mm between the walls of the two trees
_SHARED = 12.0  # mm that two branches may run in one another after a bifurcation
_TRIES = 8
_FEWEST = 9  # points: shorter stubs are left out


@dataclass
class CoronaryTree:
    """Both trees while they grow; a branch that would touch another one is tried again, shortened or left out.

    Attributes:
        rng: source of all randomness.
        heart: the surface that they lie on.
        size: factor of all calibres.
        wall: mm that annotations are drawn outside the lumen.
        branches: what has grown, by name.
        parents: of each of them the name of the branch that it leaves; ``None`` for the left main and the RCA.
        root: centre of the aortic root, ``(3,)`` mm.
    """

    rng: Generator
    heart: Heart
    size: float
    wall: float
    branches: dict[str, Branch] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)
    root: FloatArray = field(default_factory=lambda: np.zeros(3))

    def cones(self, pose: FloatArray) -> RoundCones:
        """The trees as round cones, in the frame turned by ``pose (3, 3)``."""
        return _round_cones(list(self.branches.values()), pose)

    def grow_trunks(self, left_dominant: bool) -> None:
        """Left main (LM), LAD, LCX and RCA."""
        rng, heart = self.rng, self.heart
        thick = rng.normal()  # wide vessels come together

        def bore(mean: float, deviation: float) -> float:
            z = np.clip(0.7 * thick + 0.7 * rng.normal(), -2.5, 2.5)
            return float(self.size * (mean + deviation * z))

        fork = heart.at(rng.normal(36, 3), rng.normal(6, 3))
        outward = Rotation.from_euler("z", rng.normal(15, 12), degrees=True).apply(unit_vector(fork * [1, 1, 0]))
        tilt = np.array([0, 0, rng.normal(0, 0.15)])
        left_ostium = fork - np.clip(rng.normal(8.5, 1.4), 6, 11.6) * unit_vector(outward + tilt)
        self.root = left_ostium - rng.normal(14, 1.2) * outward
        right = Rotation.from_euler("z", rng.normal(-125, 12), degrees=True).apply(outward)
        right_ostium = self.root + rng.normal(14, 1.2) * right + [0, 0, rng.normal(-2, 2)]

        main = bore(4.5, 0.5)
        line = resample(np.linspace(left_ostium, fork, 4))
        self._add("LM", lambda: self._vessel(line, main, 0.95 * main, LEFT, level=0.1), ())
        lad = [(20, 0), (0, 0), (-25, 0), (-50, 0), (-75, 0), (-80, 180), (-62, 180)]
        bores = (min(bore(3.7, 0.4), 0.93 * main), bore(1.9, 0.4))
        self._trunk("LAD", [fork], lad, bores, LEFT, rng.uniform(0.62, 0.95), ("LM",))
        lcx = [(26, 32), (17, 60), (12, 90), (10, 120), (8, 150), (5, 176), (-20, 182), (-45, 180)]
        reach = rng.uniform(0.78, 1) if left_dominant else rng.uniform(0.25, 0.56)
        bores = (min(bore(3.4 + 0.5 * left_dominant, 0.5), 0.93 * main), bore(1.8, 0.3))
        self._trunk("LCX", [fork], lcx, bores, LEFT, reach, ("LM", "LAD"))
        rca = [(26, -66), (18, -85), (12, -108), (8, -130), (6, -155), (4, -178), (-12, -196), (-32, -206)]
        reach = rng.uniform(0.25, 0.6) if left_dominant else rng.uniform(0.78, 1)
        bores = (bore(2.8, 0.5), bore(1.5, 0.2)) if left_dominant else (bore(3.9, 0.6), bore(1.8, 0.3))
        stub = right_ostium + 6 * unit_vector(right + np.array([0, 0, 0.2]))
        self._trunk("RCA", [right_ostium, stub], rca, bores, RIGHT, reach, ())

    def grow_left(self) -> None:
        """Ramus, diagonals, septals, obtuse marginals and their forks, and the descending branch of a dominant LCX."""
        rng = self.rng
        extent = np.clip(rng.normal(1, 0.25), 0.3, 1.6)
        if rng.random() < 0.25:
            self._side("ramus", "LM", (50, 50), (-65, 55), rng.normal(50, 15) * extent)
        for name, chance, where, length in (
            ("D1", 0.99, (8, 28), 52),
            ("D2", 0.6, (32, 58), 38),
            ("D3", 0.15, (62, 85), 24),
        ):
            if rng.random() < chance:
                self._side(name, "LAD", where, (-70, 50), rng.normal(length, 15) * extent)
        if rng.random() < 0.25:
            self._side("septal", "LAD", (10, 35), None, rng.normal(16, 4))
        for name, chance, where, length in (("OM1", 0.88, (14, 40), 45), ("OM2", 0.5, (45, 70), 36)):
            if rng.random() < chance:
                self._side(name, "LCX", where, (-65, 95), rng.normal(length, 14) * extent)
        self._side("left PLB", "LCX", (118, 135), (-60, 150), rng.normal(35, 12))
        for name in ("D1", "OM1", "ramus"):
            if rng.random() < 0.2:
                self._side(name + " fork", name, (12, 25), (-65, 70), rng.normal(22, 7))

    def grow_right(self) -> None:
        """Conus branch, acute marginals, posterior descending and posterolateral branches."""
        rng = self.rng
        extent = np.clip(rng.normal(1, 0.25), 0.3, 1.6)
        if rng.random() < 0.2:
            self._side("conus", "RCA", (7, 16), (10, -20), rng.normal(20, 7) * extent)
        for name, chance, where, length in (
            ("AM1", 0.75, (38, 58), 32),
            ("AM2", 0.4, (62, 80), 28),
            ("AM3", 0.12, (85, 100), 22),
        ):
            if rng.random() < chance:
                self._side(name, "RCA", where, (-60, -70), rng.normal(length, 11) * extent)
        self._side("PDA", "RCA", (118, 134), (-75, -178), rng.normal(50, 14) * extent)
        if rng.random() < 0.4:
            self._side("PLB", "RCA", (140, 156), (-40, 165), rng.normal(25, 10) * extent)

    def _trunk(
        self,
        name: str,
        begin: list[FloatArray],
        angles: Sequence[tuple[float, float]],
        bores: tuple[float, float],
        side: int,
        reach: float,
        family: tuple[str, ...],
    ) -> None:
        """Add a vessel through the points ``begin`` and surface angles, cut to the share ``reach`` of its length."""
        rng = self.rng
        if rng.random() < 0.06:  # poor contrast: the annotation stops early
            reach *= rng.uniform(0.3, 0.7)

        def draw() -> Branch:
            way = [self.heart.at(lat + rng.normal(0, 3), lon + rng.normal(0, 3)) for lat, lon in angles]
            line = resample(np.array([*begin, *way]))
            return self._vessel(line[: int(reach * len(line))], *bores, side)

        self._add(name, draw, family)

    def _side(
        self, name: str, parent: str, where: tuple[float, float], goal: tuple[float, float] | None, length: float
    ) -> None:
        """Add a side branch that leaves ``parent`` between two arc lengths ``where`` (mm) and steers to ``goal``.

        ``goal`` is (latitude, longitude) on the surface, None for a septal branch, which dives into the wall. Without
        parent, or if the parent ends before it, there is no side branch; those of the left main leave at its end.
        """
        rng, trunk = self.rng, self.branches.get(parent)
        if trunk is None or length < 8 or (parent != "LM" and (len(trunk.points) - 2) * STEP < where[0]):
            return
        target = self.heart.at(*(np.add(goal, rng.normal(0, 9, 2)))) if goal else np.zeros(3)

        def draw() -> Branch:
            at = min(int(rng.uniform(*where) / STEP), len(trunk.points) - 1)
            ahead = unit_vector(trunk.points[at] - trunk.points[at - 5])
            line = self._walk(trunk.points[at], ahead, target, length, on_surface=goal is not None)
            radius = trunk.radius[at - 4 : at + 5].mean() - self.wall
            bore = 2 * radius * np.clip(rng.normal(0.76 if goal else 0.5, 0.08), 0.4, 0.95)
            return self._vessel(line, bore, max(bore * rng.uniform(0.5, 0.75), 1.1), trunk.side)

        self._add(name, draw, ("LM", "LAD", "LCX") if parent == "LM" else (parent,))

    def _walk(
        self, origin: FloatArray, ahead: FloatArray, target: FloatArray, length: float, on_surface: bool
    ) -> FloatArray:
        """Path that leaves ``origin`` at a random angle to ``ahead`` and turns towards ``target``, points in mm."""
        normal = self.heart.normal(origin) if on_surface else unit_vector(self.rng.normal(size=3))
        across = np.cross(normal, ahead)
        across *= np.sign(across @ (target - origin)) or 1.0
        angle = np.deg2rad(np.clip(self.rng.normal(75, 23), 45, 125))
        heading = unit_vector(np.cos(angle) * ahead + np.sin(angle) * unit_vector(across))
        path = [origin]
        for _ in range(max(int(length / 2), 4)):
            step = path[-1] + 2 * heading
            if on_surface:  # settle onto the surface within a few steps: a fork may lie above or below it
                step = step + 0.4 * (self.heart.project(step) - step)
            heading = unit_vector(unit_vector(step - path[-1]) + 0.12 * unit_vector(target - step))
            path.append(step)
        return resample(np.array(path))

    def _vessel(self, line: FloatArray, first: float, last: float, side: int, level: float | None = None) -> Branch:
        """Give a path (from :func:`resample`) tortuosity and a lumen from diameter ``first`` to ``last`` (mm)."""
        level = self.rng.beta(1.2, 2.2) if level is None else level
        points = resample(wander(self.rng, line, self.heart.normal(line), level))
        radius = calibre(self.rng, len(points), first / 2, last / 2)
        return Branch(points[: len(radius)], radius + self.wall, side)

    def _add(self, name: str, draw: Callable[[], Branch], family: tuple[str, ...]) -> None:
        """Add the first of a few drawn branches that is free over most of its length, else the longest free part."""
        best = None
        for _ in range(_TRIES):
            branch = draw()
            if len(branch.points) < _FEWEST:
                continue
            free = branch.cut(self._free(branch, family))
            if best is None or len(free.points) > len(best.points):
                best = free
            if len(free.points) >= 0.8 * len(branch.points):
                break
        if best is not None and len(best.points) >= _FEWEST:
            self.branches[name] = best
            self.parents[name] = next((other for other in family if other in self.branches), None)

    def _free(self, new: Branch, family: tuple[str, ...]) -> int:
        """Number of leading points of ``new`` that touch neither itself nor any branch but, at its root, a relative."""
        arc = np.arange(len(new.points)) * STEP
        apart = np.abs(arc[:, None] - arc) > 1.5 * (new.radius[:, None] + new.radius) + 2
        blocked = np.any(apart & (gaps(new, new) < _BRANCH_GAP), axis=1)
        for name, other in self.branches.items():
            touching = gaps(new, other).min(1) < (_BRANCH_GAP if other.side == new.side else _TREE_GAP)
            if name in family:
                shared = len(arc) if touching.all() else int(np.argmin(touching))
                if shared * STEP > _SHARED:
                    return 0
                touching[:shared] = _closes_ring(new, other)[:shared]
            blocked |= touching
        return int(np.argmax(blocked)) if blocked.any() else len(arc)


def _closes_ring(new: Branch, other: Branch) -> NDArray[np.bool_]:
    """Which points of ``new`` meet its relative ``other`` in a way that a fork alone does not explain, ``(N,)``.

    Either they touch a part of it that they cannot have reached by running along it from the fork (another bend), or
    the walls come closer again after they had parted.
    """
    wall = gaps(new, other)
    fork = np.argmin(np.linalg.norm(other.points - new.points[0], axis=1))
    walked = np.abs(np.arange(len(other.points)) - fork) * STEP
    slack = _BRANCH_GAP + 1.0
    far = walked > np.arange(len(new.points))[:, None] * STEP + new.radius[:, None] + other.radius + slack
    gap = wall.min(1)
    widest = np.maximum.accumulate(gap)
    bends: NDArray[np.bool_] = np.any(far & (wall < _BRANCH_GAP), axis=1)
    returns: NDArray[np.bool_] = (widest > 0) & (gap < widest - 0.1)
    return bends | returns


def _round_cones(branches: list[Branch], pose: FloatArray) -> RoundCones:
    """Chain the points of every branch into round cones, in the frame turned by ``pose (3, 3)``."""
    count = [len(b.points) - 1 for b in branches]
    return RoundCones(
        start=np.concatenate([b.points[:-1] for b in branches]) @ pose.T,
        end=np.concatenate([b.points[1:] for b in branches]) @ pose.T,
        r0=np.concatenate([b.radius[:-1] for b in branches]),
        r1=np.concatenate([b.radius[1:] for b in branches]),
        branch=np.repeat(np.arange(len(branches)), count),
        side=np.repeat([b.side for b in branches], count),
    )
