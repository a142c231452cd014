"""What is known of a piece of a label from shape: whether it is vessel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from near_monai.geometry.coordinates import FloatArray
from near_monai.repair.joints import REACH_MM, Joint, Pieces

#: In the order of the columns of :func:`piece_features`; lengths in mm, of a structure of scale 1.
FEATURES = (
    "log volume",
    "log voxels",
    "span",
    "radius",
    "span / calibre",
    "elongation",
    "radius / largest of the tree",
    "share of the volume",
    "F mean",
    "gap to a larger piece",
    "best joint to a larger piece",
    "best joint to any piece",
    "second joint",
    "log pieces",
)


def piece_features(pieces: Pieces, joints: Sequence[Joint], probability: FloatArray) -> FloatArray:
    """Features ``(P, F)`` of all pieces, see :data:`FEATURES`.

    Args:
        pieces: they.
        joints: all possible joints between them ...
        probability: ``(J,)`` ... and how probable each is.
    """
    count = len(pieces.found)
    best, second, larger = np.zeros(count), np.zeros(count), np.zeros(count)
    gap = np.full(count, REACH_MM)
    for joint, sure in zip(joints, probability.tolist(), strict=True):
        for own, other in (joint.pieces, joint.pieces[::-1]):
            second[own] = max(second[own], min(sure, best[own]))
            best[own] = max(best[own], sure)
            if pieces.volume[other] > pieces.volume[own]:
                larger[own], gap[own] = max(larger[own], sure), min(gap[own], joint.gap_mm)
    line = pieces.line
    columns = [
        np.log(pieces.volume),
        np.log(pieces.found.sizes),
        line.spans,
        line.thickest,
        line.spans / (2 * line.thickest),
        np.linalg.norm(pieces.axes, axis=1),
        line.thickest / line.thickest.max(),
        pieces.volume / pieces.volume.sum(),
        pieces.likely,
        gap,
        larger,
        best,
        second,
        np.full(count, np.log(count)),
    ]
    return np.stack(columns, 1)
