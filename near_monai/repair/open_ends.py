"""Ends of vessels, and what is known of each from shape: whether the vessel goes on where the label ends.

Every coronary artery ends somewhere, thin. One that ends while it is thick, or where F goes on, was probably cut short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from near_monai.geometry.centrelines import Centrelines
from near_monai.geometry.coordinates import FloatArray
from near_monai.repair.joints import LEAST_F, Joint, Pieces

#: What is further away is as good as not there, in mm.
ALONE_MM = 20.0
#: mm ahead of the tip where F is asked.
AHEAD_MM = 1.0
#: In the order of the columns of :func:`end_features`; lengths in mm, of a structure of scale 1.
FEATURES = (
    "radius",
    "radius / largest of the piece",
    "radius / largest of the tree",
    "taper",
    "log F ahead",
    "best joint",
    "log volume",
    "share of the volume",
    "span",
    "F mean",
    "gap to the rest",
)


@dataclass(frozen=True, eq=False)
class Ends:
    """Ends of vessels that have a direction.

    Attributes:
        points: ``(E,)`` their centreline voxels.
        tips: ``(E, 3)`` mm, where they meet the wall.
        ways: ``(E, 3)`` unit vectors in which they leave.
        ahead: ``(E,)`` log of F :data:`AHEAD_MM` before the tips, as far as the volume reaches.
    """

    points: NDArray[np.intp]
    tips: FloatArray
    ways: FloatArray
    ahead: FloatArray

    @classmethod
    def of(cls, pieces: Pieces) -> Ends:
        """All ends of ``pieces`` that lead somewhere."""
        line, grid = pieces.line, pieces.grid
        ways = np.array([line.direction(end) for end in pieces.ends.tolist()]).reshape(-1, 3)
        leading = ways.any(1)
        points, ways = pieces.ends[leading], ways[leading]
        tips = line.mm[points] + line.radius[points, None] * ways
        ahead = np.round(grid.to_voxel(tips + AHEAD_MM * ways)).astype(int).clip(0, np.subtract(grid.shape, 1))
        likely = np.maximum(pieces.probability[tuple(ahead.T)], LEAST_F)
        return cls(points, tips, ways, np.log(likely, dtype=np.float64))


def end_features(pieces: Pieces, ends: Ends, joints: Sequence[Joint], probability: FloatArray) -> FloatArray:
    """Features ``(E, F)`` of ``ends``, see :data:`FEATURES`.

    Args:
        pieces: what ends there.
        ends: they.
        joints: all possible joints between the pieces ...
        probability: ``(J,)`` ... and how probable each is.
    """
    best = np.zeros(len(pieces.line.mm))
    for joint, sure in zip(joints, probability.tolist(), strict=True):
        for point in joint.points:
            best[point] = max(best[point], sure)
    line, owner = pieces.line, pieces.line.owner[ends.points]
    radius = np.array([line.calibre(end) for end in ends.points.tolist()])
    columns = [
        radius,
        radius / line.thickest[owner],
        radius / line.thickest.max(initial=0),
        line.radius[ends.points] / radius,
        ends.ahead,
        best[ends.points],
        np.log(pieces.volume[owner]),
        pieces.volume[owner] / pieces.volume.sum(),
        line.spans[owner],
        pieces.likely[owner],
        _gaps(pieces.line, ends),
    ]
    return np.stack(columns, 1)


def _gaps(line: Centrelines, ends: Ends) -> FloatArray:
    """mm from every tip to the nearest centreline that is not its last stretch: stubs and torn ends lie near others."""
    gaps = []
    for point, tip in zip(ends.points.tolist(), ends.tips, strict=True):
        away = np.linalg.norm(line.mm - tip, axis=1)
        away[line.behind(point)] = ALONE_MM
        gaps.append(min(float(away.min()), ALONE_MM))
    return np.array(gaps)
