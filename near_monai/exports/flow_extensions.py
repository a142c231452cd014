"""Flow extensions: straight pipes that prolong the ends of vessels, so that flow is developed where a vessel begins.

As vmtkflowextensions makes them (VMTK, Antiga et al. 2008): along the centreline, from the section of the vessel to a
circle of the same area over the first quarter, and as long as so many diameters of the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from near_monai.exports.flat_ends import Cut
from near_monai.geometry.coordinates import FloatArray

#: Share of its length over which the section becomes a circle (VMTK's default).
TRANSITION = 0.25
#: An extension keeps so many mm away from other vessels.
APART_MM = 0.5


@dataclass(frozen=True, eq=False)
class Extension:
    """A pipe.

    Attributes:
        rings: ``(K, 3)`` points each; the last one is the new end.
        cut: the plane of that.
        length: mm.
        wanted: mm that it should be long; it is shorter where something is in its way.
    """

    rings: list[FloatArray]
    cut: Cut
    length: float
    wanted: float


def extension(loop: FloatArray, cut: Cut, diameters: float, others: Sequence[FloatArray]) -> Extension:
    """The pipe that prolongs an opening.

    Args:
        loop: ``(K, 3)`` points around the opening, anticlockwise as seen from beyond.
        cut: its plane.
        diameters: its length, as a multiple of the diameter of the circle of the same area.
        others: points ``(N, 3)`` of what it must not meet.
    """
    flat = cut.flat(loop)
    centre, radius = _circle_of(flat)
    wanted = 2 * radius * diameters
    wide = float(np.linalg.norm(flat - centre, axis=1).max())
    length = min(wanted, _free(cut, cut.in_space(centre[None])[0], max(wide, radius) + APART_MM, others))
    step = float(np.linalg.norm(flat - np.roll(flat, 1, axis=0), axis=1).mean())
    count = round(length / step)
    around = _spread(flat, centre, radius)
    rings = []
    for along in np.linspace(0, length, count + 1)[1:]:
        share = min(along / (TRANSITION * length), 1.0)
        share = share * share * (3 - 2 * share)
        rings.append(cut.in_space((1 - share) * flat + share * around) + along * cut.outward)
    length = length if rings else 0.0
    return Extension(rings, replace(cut, middle=cut.middle + length * cut.outward), length, wanted)


def _circle_of(flat: FloatArray) -> tuple[FloatArray, float]:
    """Centre of a polygon ``(K, 2)``, and radius of the regular one of as many corners and the same area."""
    x, y = flat.T
    after_x, after_y = np.roll(flat, -1, axis=0).T
    cross = x * after_y - after_x * y
    area = cross.sum() / 2
    centre = np.array([((x + after_x) * cross).sum(), ((y + after_y) * cross).sum()]) / (6 * area)
    return centre, float(np.sqrt(2 * area / (len(flat) * np.sin(2 * np.pi / len(flat)))))


def _spread(flat: FloatArray, centre: FloatArray, radius: float) -> FloatArray:
    """As many points evenly on the circle, turned so that each lies near its own of ``flat``."""
    angle = np.arange(len(flat)) * (2 * np.pi / len(flat))
    own = (flat - centre) @ [1, 1j]
    turn = np.angle((own * np.exp(-1j * angle)).sum())
    return np.asarray(centre + radius * np.stack([np.cos(angle + turn), np.sin(angle + turn)], 1))


def _free(cut: Cut, start: FloatArray, wide: float, others: Sequence[FloatArray]) -> float:
    """Mm from ``start`` to the first point of ``others`` within ``wide`` of the way ahead."""
    way = np.concatenate(others) - start
    along = way @ cut.outward
    beside = np.linalg.norm(way - along[:, None] * cut.outward, axis=1)
    ahead = along[(along > APART_MM) & (beside <= wide)]
    return float(ahead.min() - APART_MM) if len(ahead) else float("inf")
