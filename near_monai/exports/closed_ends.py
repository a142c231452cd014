"""Surfaces of vessels cut at their ends, prolonged there on request, and closed by flat faces, which are patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from near_monai.exports.flat_ends import Cut, End
from near_monai.exports.flow_extensions import Extension, extension
from near_monai.exports.mesh_cuts import opened
from near_monai.exports.plane_fillings import filled
from near_monai.geometry.coordinates import FloatArray


@dataclass(eq=False)
class Layer:
    """A closed mesh around vessels, which becomes open at their ends.

    Attributes:
        points: ``(N, 3)`` mm.
        faces: ``(M, 3)``, anticlockwise as seen from outside the vessel.
        thick: mm by which it lies outside of the wall of the vessel.
    """

    points: FloatArray
    faces: NDArray[np.int32]
    thick: float = 0.0


@dataclass(frozen=True, eq=False)
class Opening:
    """An end that is cut.

    Attributes:
        end: the end.
        cut: where.
        loops: of every layer the points around it, anticlockwise as seen from beyond.
    """

    end: End
    cut: Cut
    loops: tuple[NDArray[np.intp], ...]


@dataclass(eq=False)
class Parts:
    """Points and faces that become one closed mesh.

    Attributes:
        points: arrays ``(N, 3)``, numbered through.
        faces: arrays ``(M, 3)``.
        patch: of every array of faces which patch it is, 0 for the wall.
        count: number of points.
    """

    points: list[FloatArray] = field(default_factory=list)
    faces: list[NDArray[np.integer]] = field(default_factory=list)
    patch: list[int] = field(default_factory=list)
    count: int = 0

    def add(self, points: FloatArray) -> NDArray[np.intp]:
        """Add ``points``; gives their numbers."""
        self.points.append(points)
        self.count += len(points)
        return np.arange(self.count - len(points), self.count)

    def join(self, faces: NDArray[np.integer], patch: int = 0) -> None:
        """Add ``faces`` of numbers of points."""
        self.faces.append(faces)
        self.patch.append(patch)

    def mesh(self) -> tuple[FloatArray, NDArray[np.int32], NDArray[np.int32]]:
        """Points that a face has, faces, and the patch ``(M,)`` of each."""
        faces = np.concatenate(self.faces)
        used, numbers = np.unique(faces, return_inverse=True)
        patch = np.repeat(np.array(self.patch, np.int32), [len(part) for part in self.faces])
        return np.concatenate(self.points)[used], numbers.reshape(faces.shape).astype(np.int32), patch


def cut_at(layers: Sequence[Layer], ends: Sequence[End]) -> list[Opening]:
    """Open ``layers`` at those of ``ends`` where a clean cut is found; their points keep their numbers."""
    found = []
    for end in ends:
        for cut in end.cuts():
            tried = [opened(layer.points, layer.faces, cut, end, layer.thick) for layer in layers]
            clean = [one for one in tried if one is not None]
            loops = [cut.flat(points[loop]) for points, _, loop in clean]
            if len(clean) < len(layers) or filled(_facing(loops)) is None:
                continue
            for layer, (points, faces, _) in zip(layers, clean, strict=True):
                layer.points, layer.faces = points, faces
            found.append(Opening(end, cut, tuple(loop for _, _, loop in clean)))
            break
    return found


def prolonged(layer: Layer, openings: Sequence[Opening], diameters: float) -> list[Extension]:
    """An extension at every opening of a layer, so many diameters long unless something is in its way."""
    others, found = [layer.points[np.unique(layer.faces)]], []
    for opening in openings:
        pipe = extension(layer.points[opening.loops[0]], opening.cut, diameters, others)
        others += pipe.rings
        found.append(pipe)
    return found


def closed(
    layers: Sequence[Layer], openings: Sequence[Opening], extensions: Sequence[Extension] = ()
) -> tuple[FloatArray, NDArray[np.int32], NDArray[np.int32]]:
    """One closed mesh: what lies between the first of ``layers`` and the others, or within it if it is the only one.

    Args:
        layers: the outermost first.
        openings: where they are open.
        extensions: what prolongs each opening of an only layer; none at all if nothing does.

    Returns:
        Points ``(N, 3)``; faces ``(M, 3)``, anticlockwise as seen from outside; and ``(M,)`` which of ``openings`` a
        face closes, from 1, or 0 for the wall.
    """
    parts, numbers = Parts(), []
    for count, layer in enumerate(layers):
        numbers.append(parts.add(layer.points))
        parts.join(numbers[-1][layer.faces[:, :: -1 if count else 1]])
    for patch, opening in enumerate(openings, 1):
        loops = [own[loop] for own, loop in zip(numbers, opening.loops, strict=True)]
        corners = [layer.points[loop] for layer, loop in zip(layers, opening.loops, strict=True)]
        cut = opening.cut
        if extensions:
            pipe = extensions[patch - 1]
            for ring in pipe.rings:
                ahead = parts.add(ring)
                parts.join(_strip(loops[0], ahead))
                loops, corners = [ahead], [ring]
            cut = pipe.cut
        _close(parts, loops, corners, cut, patch)
    return parts.mesh()


def _close(
    parts: Parts, loops: Sequence[NDArray[np.intp]], corners: Sequence[FloatArray], cut: Cut, patch: int
) -> None:
    found = filled(_facing([cut.flat(points) for points in corners]))
    assert found is not None, "tried before it was cut"
    added, triangles = found
    known = np.concatenate(_facing(loops))
    parts.join(np.concatenate([known, parts.add(cut.in_space(added))])[triangles], patch)


def _facing(loops: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Loops around what closes them: the first as it is, those of holes the other way round."""
    return [loop[:: -1 if count else 1] for count, loop in enumerate(loops)]


def _strip(loop: NDArray[np.intp], ahead: NDArray[np.intp]) -> NDArray[np.intp]:
    """Triangles between two rings of points, of which the second lies ahead of the first."""
    a, b, c, d = loop, np.roll(loop, -1), ahead, np.roll(ahead, -1)
    return np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])
