"""Random whole hearts in the ten-class numbering: chambers, great vessels, appendage, veins and coronary tree.

The frame is that of :class:`near_monai.phantoms.vessel_courses.Heart`: +z points to the base, longitude 0 (+x) is the
anterior groove, +y the left side. The left ventricle lies on the left of the plane y = 0, the right one on its right;
the atria sit on the base, the aorta leaves between them, and the coronary tree lies on the surface and leaves the
aortic root at two ostia. Sizes are those of normal adults to within a few mm; details of valves and trabeculae are not
modelled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from near_monai.anatomy import HEART, Anatomy
from near_monai.geometry.coordinates import FloatArray, Grid
from near_monai.geometry.specks import drop_specks
from near_monai.phantoms.coronary import grow_tree, random_pose
from near_monai.phantoms.exact_shapes import NamedShape, Phantom, RoundCones
from near_monai.phantoms.solids import Ellipsoid, Plane, tube

#: mm between the myocardium and the surface on which the arteries lie: fat.
FAT_MM = 2.0


def whole_heart(rng: Generator, anatomy: Anatomy = HEART) -> Phantom:
    """A random heart with all structures of :data:`near_monai.anatomy.HEART`, in a random pose.

    The shapes overlap: which structure a point belongs to follows from the fusion priority, see :func:`label_map`.

    Args:
        rng: source of all randomness; the same state gives the same heart.
        anatomy: table with the names of the ten structures.
    """
    tree = grow_tree(rng)
    builder = _Builder(rng, tree.heart.axes, tree.root)
    shapes = [*builder.ventricles(), *builder.atria(), *builder.great_vessels()]
    pose = random_pose(rng)
    parts = [(name, _turned(shape, pose)) for name, shape in shapes] + [("coronary", tree.cones(pose))]
    return Phantom(tuple(NamedShape(name, anatomy.by_name(name).index, shape) for name, shape in parts))


def structure_fields(phantom: Phantom, grid: Grid, truncate: float, anatomy: Anatomy = HEART) -> dict[int, FloatArray]:
    """Signed distance of every structure on ``grid``, such that no two overlap.

    Where shapes overlap, the one that comes first in the fusion priority keeps its space. Crumbs that one shape cuts
    off another are left out, so that every structure has its expected pieces.

    Args:
        phantom: what :func:`whole_heart` gives.
        grid: where to evaluate.
        truncate: largest distance of interest in mm.
        anatomy: the table.

    Returns:
        Class index to float32 ``(X, Y, Z)`` mm, negative inside; distances to walls between structures are right near
        the wall.
    """
    fields: dict[int, FloatArray] = {}
    taken = np.full(grid.shape, truncate, np.float32)
    for index in anatomy.priority({part.label for part in phantom.parts}):
        own = phantom.signed_distance(grid, truncate, index)
        field = np.maximum(own, -taken)
        np.minimum(taken, own, out=taken)
        mask = field < 0
        structure = anatomy.by_index(index)
        if structure is not None:
            field[mask & ~drop_specks(mask, grid.spacing, 0.0, 0.0, keep=structure.components)] = truncate
        fields[index] = field
    return fields


def label_map(fields: dict[int, FloatArray]) -> NDArray[np.uint8]:
    """Fields of structures that do not overlap, as a label map."""
    array = np.zeros(next(iter(fields.values())).shape, np.uint8)
    for index, field in fields.items():
        array[field < 0] = index
    return array


class _Builder:
    """The structures of one heart, all sizes drawn from ``rng``."""

    def __init__(self, rng: Generator, axes: FloatArray, root: FloatArray) -> None:
        self.rng = rng
        self.size = float(axes.mean() / 52.0)
        self.axes = axes - FAT_MM
        self.root = root
        tilt = np.array([*rng.normal(0, 0.08, 2), 1.0])
        self.base = Plane(np.array([0.0, 0.0, root[2] - rng.uniform(19, 23)]), tilt / np.linalg.norm(tilt))

    def _point(self, *mm: float, spread: float = 2.0) -> FloatArray:
        return np.array(mm) * self.size + self.rng.normal(0, spread, 3)

    def _ellipsoid(self, centre: ArrayLike, axes: ArrayLike, cuts: tuple[Plane, ...] = ()) -> Ellipsoid:
        sizes = np.asarray(axes) * self.rng.normal(1, 0.05, 3)
        waves = np.column_stack(
            [self.rng.normal(0, 0.02, 5), self.rng.uniform(0, 2 * np.pi, 5), self.rng.normal(0, 2.5, (5, 3))]
        )
        return Ellipsoid(np.asarray(centre), sizes, np.eye(3), waves, cuts)

    def ventricles(self) -> list[tuple[str, Ellipsoid]]:
        """Left ventricle, its myocardium and the right ventricle, all cut off at the base."""
        x, y, z = self.axes
        centre = np.array([0.0, 0.28 * y, -0.04 * z]) + self.rng.normal(0, 1, 3)
        outer = np.array([0.94 * x, 0.70 * y, 0.94 * z])
        wall = self.rng.uniform(8, 12)
        cavity = self._ellipsoid(centre, outer - [wall, wall, wall * 0.9], (self.base,))
        right = self._ellipsoid([0.1 * x, -0.36 * y, 0.0], [0.88 * x, 0.62 * y, 0.84 * z], (self.base,))
        shell = self._ellipsoid(centre, outer, (self.base,))
        return [("left_ventricle", cavity), ("myocardium", shell), ("right_ventricle", right)]

    def atria(self) -> list[tuple[str, Ellipsoid | RoundCones]]:
        """Left atrium with its appendage and pulmonary veins, and right atrium."""
        base = self.base.point[2] / self.size
        left = self._point(-19, 15, base + 17)
        right = self._point(-9, -33, base + 14)
        atrium = self._ellipsoid(left, self.size * np.array([21, 26, 21]))
        appendage = tube(
            [
                left + np.array([8, 19, 2]),
                left + self._point(22, 27, 3),
                left + self._point(35, 22, -4),
                left + self._point(41, 14, -8),
            ],
            self.size * np.array([7.5, 8.5, 6.0, 3.5]) * self.rng.uniform(0.85, 1.15),
        )
        found: list[tuple[str, Ellipsoid | RoundCones]] = [
            ("left_atrium", atrium),
            ("left_atrial_appendage", appendage),
        ]
        for side in (1.0, -1.0):  # the two veins of a side leave together, so that each side is one piece
            ostium = left + np.array([-6.0, side * 22.0 * self.size, 4.0])
            for up in (14.0, -8.0):
                end = ostium + self._point(-12, side * 24, up)
                width = self.rng.uniform(5.5, 7.5)
                found.append(
                    (
                        "pulmonary_veins",
                        tube([ostium, (ostium + end) / 2 + [0, 0, up / 6], end], [width + 1, width, width - 1]),
                    )
                )
        found.append(("right_atrium", self._ellipsoid(right, self.size * np.array([22, 21, 25]))))
        return found

    def great_vessels(self) -> list[tuple[str, RoundCones]]:
        """Aorta (root, arch, descending) and pulmonary artery (trunk and its two branches)."""
        root, bore = self.root, self.rng.uniform(11, 15)
        arch: list[ArrayLike] = [
            [root[0] - 2, root[1] + 1, self.base.point[2] + 2],
            root,
            root + self._point(0, -4, 30),
            root + self._point(-14, -2, 52),
            root + self._point(-44, 8, 60),
            root + self._point(-74, 18, 40),
            root + self._point(-86, 24, -5),
            root + self._point(-88, 22, -60),
        ]
        aorta = tube(arch, [13, 13.5, bore, bore, 0.9 * bore, 0.85 * bore, 0.8 * bore, 0.75 * bore])
        width = self.rng.uniform(10, 13)
        outlet = np.array([0.42 * self.axes[0], -0.42 * self.axes[1], self.base.point[2] - 6])
        fork = root + self._point(2, 22, 34)
        trunk = tube(
            [outlet, root + self._point(19, -14, 8), root + self._point(21, 8, 22), fork], [width, width, width, width]
        )
        branches: Sequence[RoundCones] = [
            tube(
                [fork, fork + self._point(-18, 14, 4), fork + self._point(-34, 34, 2)],
                [0.8 * width, 0.7 * width, 0.6 * width],
            ),
            tube(
                [fork, fork + self._point(-16, -22, 0), fork + self._point(-18, -62, -2)],
                [0.8 * width, 0.7 * width, 0.6 * width],
            ),
        ]
        return [("aorta", aorta), *(("pulmonary_artery", shape) for shape in (trunk, *branches))]


def _turned(shape: Ellipsoid | RoundCones, pose: FloatArray) -> Ellipsoid | RoundCones:
    """``shape`` in the frame turned by ``pose (3, 3)``."""
    if isinstance(shape, RoundCones):
        return RoundCones(shape.start @ pose.T, shape.end @ pose.T, shape.r0, shape.r1, shape.branch, shape.side)
    cuts = tuple(Plane(pose @ cut.point, pose @ cut.normal) for cut in shape.cuts)
    return Ellipsoid(pose @ shape.centre, shape.axes, pose @ shape.pose, shape.bumps, cuts)
