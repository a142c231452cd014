"""Surfaces without staircase: the zero set of the smooth distance of a mask, and what is made of its ends."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from near_monai.errors import NearError, NearWarning
from near_monai.exports.closed_ends import Layer, closed, cut_at, prolonged
from near_monai.exports.even_triangles import even_triangles
from near_monai.exports.flat_ends import End
from near_monai.exports.flow_extensions import Extension
from near_monai.exports.printed_wall import wall_around
from near_monai.exports.surface_files import Surface, world_mesh
from near_monai.geometry.boxes import box_of
from near_monai.geometry.coordinates import spacing_of
from near_monai.geometry.smooth_distance import REACH, smooth_distance

#: Shorter edges than this would be millions.
SHORTEST_MM = 0.02


@dataclass(frozen=True)
class Ends:
    """What happens at the ends of vessels.

    Attributes:
        ends: where vessels end flat; without any the surface has the volume of the mask's voxels.
        extensions: diameters of an end by which it is prolonged, for simulations of flow.
        wall: mm of wall around the vessels, which are hollow then, for printing; 0 for what they enclose.
    """

    ends: Sequence[End] = ()
    extensions: float = 0.0
    wall: float = 0.0


def smooth_mesh(
    mask: NDArray[np.bool_], affine: ArrayLike, how: Ends | None = None, triangle: float | None = None
) -> Surface:
    """The smooth surface of a mask in world mm.

    Args:
        mask: ``(X, Y, Z)``, at least one voxel set.
        affine: ``(4, 4)`` voxel to RAS world, mm.
        how: what happens at ends; ``None`` for nothing.
        triangle: mean length of the edges in mm, at most; ``None`` for what the voxels give.

    Raises:
        NearError: the mask is empty, or so small that nothing of it is left, or a length is too short.

    Warns:
        NearWarning: an end could not be cut flat, or an extension is shorter than wanted.
    """
    affine, how = np.asarray(affine, np.float64), how or Ends()
    spacing = np.asarray(spacing_of(affine))
    if not mask.any():
        raise NearError("the mask is empty; expected at least one voxel")
    if triangle is not None and not triangle >= SHORTEST_MM:
        raise NearError(f"triangle is {triangle}; expected the length of edges in mm, at least {SHORTEST_MM}")
    box = box_of(mask)
    margin = REACH + int(np.ceil(how.wall / spacing.min()))
    corner = np.asarray(box.start) - margin
    inside = np.pad(mask[box.slices()], margin)
    smooth = smooth_distance(inside, spacing)
    if smooth.min() >= 0:
        raise NearError("the mask is too small for a smooth surface; leave --smooth out")
    if how.wall:
        triangle = min(how.wall, triangle or how.wall)  # or the wall would be thinner than its triangles
    layers = [Layer(*even_triangles(smooth, spacing, triangle, float(np.count_nonzero(inside) * np.prod(spacing))))]
    if how.wall:
        inner = layers[0]
        layers.insert(0, Layer(*wall_around(inner.points, inner.faces, smooth, spacing, how.wall, triangle), how.wall))
    openings = cut_at(layers, [end.local(affine, corner) for end in how.ends])
    extensions = prolonged(layers[0], openings, how.extensions) if how.extensions else []
    points, faces, patch = closed(layers, openings, extensions)
    _warn(len(how.ends), len(openings), extensions)
    kinds = tuple(opening.end.kind for opening in openings)
    vertices, faces = world_mesh(points / spacing + corner, faces, affine)
    return Surface(vertices, faces, patch if kinds else patch[:0], kinds)


def _warn(ends: int, cut: int, extensions: Sequence[Extension]) -> None:
    if cut < ends:
        why = "the vessel goes on behind them, or another one touches it there"
        warnings.warn(NearWarning(f"{ends - cut} of {ends} ends stay round: {why}"), stacklevel=3)
    short = sum(extension.length < extension.wanted for extension in extensions)
    if short:
        count = len(extensions)
        warnings.warn(NearWarning(f"{short} of {count} extensions are short: vessels are in their way"), stacklevel=3)
