"""Surfaces of bodies that are known: how far from them, of what volume, closed or not, with flat ends or not."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

import near_monai
from near_monai.exports.surface_files import Surface, sides_of
from near_monai.exports.surface_meshes import surface_of
from near_monai.geometry.coordinates import FloatArray, Grid
from near_monai.phantoms.exact_shapes import RoundCones

SPACINGS = ((0.5, 0.5, 0.5), (0.35, 0.35, 0.6), (0.7, 0.7, 0.5))
#: mm between the balls that stand for a body where its distance is asked.
BALL_MM = 0.01
#: mm of the voxels that tell the volume of a body.
FINE_MM = 0.06


def _chain(points: FloatArray, radii: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    return points[:-1], points[1:], radii[:-1], radii[1:]


def _joined(*parts: tuple[FloatArray, ...]) -> RoundCones:
    start, end, r0, r1 = (np.concatenate(column) for column in zip(*parts, strict=True))
    return RoundCones(start, end, r0, r1, np.arange(len(r0)), np.zeros(len(r0), int))


def bodies() -> dict[str, RoundCones]:
    """A tube, a thin one, a piece of a torus and a Y of three cones."""
    angle = np.linspace(0, 1.5 * np.pi, 120)
    ring = np.stack([8 * np.cos(angle), 8 * np.sin(angle), 0 * angle], 1)
    fork = np.array([14.0, 0, 0])
    return {
        "tube, radius 1.5": _joined(_chain(np.array([[0, 0, 0], [18.0, 5, 3]]), np.array([1.5, 1.5]))),
        "tube, radius 0.8": _joined(_chain(np.array([[0, 0, 0], [18.0, 5, 3]]), np.array([0.8, 0.8]))),
        "torus piece": _joined(_chain(ring, np.full(len(ring), 1.2))),
        "Y of cones": _joined(
            _chain(np.array([[0, 0, 0], fork]), np.array([2.2, 1.8])),
            _chain(np.array([fork, [26, 7, 2]]), np.array([1.6, 1.2])),
            _chain(np.array([fork, [24, -9, 1]]), np.array([1.2, 0.9])),
        ),
    }


def turned(body: RoundCones, rotation: FloatArray) -> RoundCones:
    return RoundCones(body.start @ rotation, body.end @ rotation, body.r0, body.r1, body.branch, body.side)


def measured(
    body: RoundCones, exact: float, spacing: tuple[float, float, float], rotation: FloatArray
) -> dict[str, dict[str, float]]:
    """Figures of the plain, the smooth and the capped surface of a body in a grid oblique to it."""
    local = turned(body, rotation)
    low, high = local.bounds()
    grid = Grid.of(np.ceil((high - low + 4) / spacing) + 1, spacing, low - 2)
    mask = local.signed_distance(grid, 1.0) < 0
    affine = np.diag([*spacing, 1.0])
    affine[:3, :3] = rotation * np.asarray(spacing)
    affine[:3, 3] = rotation @ np.asarray(grid.origin)
    image = nib.Nifti1Image(mask.astype(np.uint8), affine)
    volume = np.count_nonzero(mask) * grid.voxel_volume
    step = float(np.mean(spacing))
    found = {"plain": surface_of(mask, affine), "smooth": near_monai.surface(image)}
    rows = {name: _figures(surface, body, volume, exact, step) for name, surface in found.items()}
    rows["capped"] = _cap_figures(near_monai.surface(image, caps=True))
    return rows


def exact_volume(body: RoundCones) -> float:
    """Mm^3, by voxels of :data:`FINE_MM`."""
    low, high = body.bounds()
    grid = Grid.of(np.ceil((high - low + 4 * FINE_MM) / FINE_MM) + 1, (FINE_MM,) * 3, low - 2 * FINE_MM)
    return float(np.count_nonzero(body.signed_distance(grid, 5 * FINE_MM) < 0) * grid.voxel_volume)


def _figures(surface: Surface, body: RoundCones, volume: float, exact: float, step: float) -> dict[str, float]:
    points = surface.vertices[surface.faces].mean(1)
    apart = np.abs(_distance(body, points)) / step
    return {
        "distance, voxels": float(apart.mean()),
        "95 %, voxels": float(np.quantile(apart, 0.95)),
        "volume / label - 1": surface.volume / volume - 1,
        "|volume / body - 1|": abs(surface.volume / exact - 1),
        "|label / body - 1|": abs(volume / exact - 1),
        "closed": float(is_closed(surface.faces)),
    }


def _cap_figures(surface: Surface) -> dict[str, float]:
    """How flat the ends are, in mm, and whether the surface is closed."""
    uneven = 0.0
    for number in range(1, len(surface.patches) + 1):
        faces = surface.faces[surface.patch == number]
        a, b, c = surface.vertices[faces].transpose(1, 0, 2)
        normal = np.cross(b - a, c - a).sum(0)
        uneven = max(uneven, float(np.ptp(surface.vertices[np.unique(faces)] @ (normal / np.linalg.norm(normal)))))
    return {"ends": len(surface.patches), "uneven, mm": uneven, "closed": float(is_closed(surface.faces))}


def is_closed(faces: NDArray[np.integer]) -> bool:
    """Whether every edge has one face on either side, which run along it in opposite directions."""
    directed = sides_of(faces)
    once = len(np.unique(directed, axis=0)) == len(directed)
    _, count = np.unique(np.sort(directed, axis=1), axis=0, return_counts=True)
    return bool(once and (count == 2).all())


def _distance(body: RoundCones, points: FloatArray) -> FloatArray:
    """Signed distance in mm, by balls along the axes."""
    found = np.full(len(points), np.inf)
    for start, end, r0, r1 in zip(body.start, body.end, body.r0, body.r1, strict=True):
        way = end - start
        share = np.linspace(0, 1, max(int(np.linalg.norm(way) / (10 * BALL_MM)), 2))
        for t in share:
            np.minimum(found, np.linalg.norm(points - start - t * way, axis=1) - r0 - t * (r1 - r0), out=found)
    return found
