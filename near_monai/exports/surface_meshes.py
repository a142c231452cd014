"""Surfaces of label maps: closed triangle meshes in world mm (RAS), for viewers, printing and simulation."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes, mesh_surface_area
from tqdm import tqdm

from near_monai.anatomy import Anatomy, table_of
from near_monai.data.case_lists import find_cases
from near_monai.data.class_selection import AUTO, OneClass, Wanted, choose_label, mask_of
from near_monai.data.failed_cases import Outcomes
from near_monai.errors import NearError, printable
from near_monai.formats.atomic_writing import replacing
from near_monai.formats.label_maps import LabelMap, read_label
from near_monai.formats.voxel_values import values_in
from near_monai.geometry.boxes import box_of
from near_monai.geometry.coordinates import spacing_of
from near_monai.geometry.distance import signed_distance

#: Standard deviation, in voxels, of the Gaussian that takes the staircase out of the distance.
SMOOTH = 0.7
#: Voxels of background around the mask: the surface closes where the label meets the border of the volume.
MARGIN = 3
#: Steps by which the level is moved until the surface encloses the volume of the voxels.
CORRECTIONS = 2
#: 3D Slicer reads the frame from this comment, and takes LPS without it.
COMMENT = "near_monai SPACE=RAS"


@dataclass(frozen=True)
class Surface:
    """A closed triangle mesh.

    Attributes:
        vertices: ``(N, 3)`` float64, RAS world mm.
        faces: ``(M, 3)`` int32, indices of vertices, anticlockwise as seen from outside.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]

    @property
    def volume(self) -> float:
        """Enclosed volume in mm^3."""
        return _volume(self.vertices, self.faces)


def surface_of(mask: NDArray[np.bool_], affine: ArrayLike) -> Surface:
    """The surface of a mask: the level of its smoothed signed distance that encloses the volume of the mask's voxels.

    Smoothing alone would make thin vessels thinner. What is one voxel thin can still be lost.

    Args:
        mask: ``(X, Y, Z)``, at least one voxel set.
        affine: ``(4, 4)`` voxel to RAS world, mm.

    Raises:
        NearError: ``mask`` is empty.
    """
    if not mask.any():
        raise NearError("the mask is empty; expected at least one voxel")
    box = box_of(mask)
    inside = np.pad(mask[box.slices()], MARGIN)
    affine = np.asarray(affine, np.float64)
    spacing = spacing_of(affine)
    smooth = gaussian_filter(signed_distance(inside, spacing, MARGIN * max(spacing)), SMOOTH)
    count = np.count_nonzero(inside)
    order = np.partition(smooth, (count - 1, count), axis=None)
    level = float(order[count - 1 : count + 1].mean())  # as many voxels; then the flat faces between them count, too
    for _ in range(CORRECTIONS):
        mesh = marching_cubes(smooth, level, spacing=spacing)
        missing = count * float(np.prod(spacing)) - _volume(mesh[0], mesh[1])
        level += float(np.clip(missing / mesh_surface_area(mesh[0], mesh[1]), -min(spacing) / 2, min(spacing) / 2))
    vertices, faces, _, _ = marching_cubes(smooth, level)
    world = (vertices + np.asarray(box.start) - MARGIN) @ affine[:3, :3].T + affine[:3, 3]
    if np.linalg.det(affine[:3, :3]) < 0:  # a mirror turns every triangle round
        faces = faces[:, ::-1]
    return Surface(world, np.ascontiguousarray(faces, np.int32))


def _volume(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> float:
    a, b, c = (vertices - vertices[0])[faces.T]
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def write_stl(path: Path, surface: Surface) -> None:
    """Write a binary STL; it holds no units, which are mm."""
    corners = surface.vertices[surface.faces].astype("<f4")
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    records = np.zeros(len(corners), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("spare", "<u2")])
    records["normal"] = normals / np.where(length > 0, length, 1)
    records["corners"] = corners
    with replacing(path) as part:
        part.write_bytes(
            COMMENT.ljust(80).encode() + np.uint32(len(records)).astype("<u4").tobytes() + records.tobytes()
        )


def write_ply(path: Path, surface: Surface) -> None:
    """Write a binary PLY."""
    header = (
        f"ply\nformat binary_little_endian 1.0\ncomment {COMMENT}\nelement vertex {len(surface.vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(surface.faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    records = np.zeros(len(surface.faces), [("count", "u1"), ("face", "<i4", 3)])
    records["count"], records["face"] = 3, surface.faces
    with replacing(path) as part:
        part.write_bytes(header.encode() + surface.vertices.astype("<f4").tobytes() + records.tobytes())


WRITERS = {"stl": write_stl, "ply": write_ply}


def write_surfaces(
    source: Path,
    output: Path,
    label: Wanted,
    kind: str = "stl",
    quiet: bool = False,
    table: str | Path | None = None,
) -> int:
    """Write the surface of every case of ``source`` as ``output``/NAME.``kind``; one bad case does not stop the others.

    Of a map of several classes each has its own surface, NAME_CLASS.``kind``, if none is chosen. An empty map has none:
    it is named, and nothing is written.

    Args:
        source: see :func:`near_monai.data.case_lists.find_cases`.
        output: folder to write to.
        label: the class; found out in every map, it is each that there is.
        kind: ``"stl"`` or ``"ply"``.
        quiet: no progress bar.
        table: anatomy table that names the classes; ``None`` for the heart's.

    Returns:
        Number of surfaces.

    Raises:
        NearError: there are no cases, or some of them failed.
    """
    cases, outcomes, count, anatomy = find_cases(source), Outcomes(), 0, table_of(table)
    for case in tqdm(cases, desc="surface", unit="case", disable=quiet):
        with outcomes.of(case.name):
            file = read_label(case.label)
            if not file.array.any():
                tqdm.write(printable(f"{case.name}: the label map is empty, and has no surface"), file=sys.stderr)
                continue
            for chosen, ending in _classes(file, label, anatomy).items():
                path = output / f"{case.name}{ending}.{kind}"
                if path.exists():
                    raise NearError(f"{path}: is there already; give a new folder, so that nothing is overwritten")
                WRITERS[kind](path, surface_of(mask_of(file.array, chosen), file.affine))
                count += 1
    outcomes.check(len(cases))
    return count


def _classes(file: LabelMap, label: Wanted, anatomy: Anatomy) -> dict[OneClass, str]:
    """The classes of a map whose surfaces are wanted, and what their files' names end in.

    Classes are named as in the table if it has all of them; else its names may be wrong, and their numbers stand there.
    """
    present = [value for value in values_in(file.array) if value]
    if label is not AUTO or len(present) == 1:
        return {choose_label(file.array, label, str(file.path)): ""}
    known = all(anatomy.by_index(value) for value in present)
    return {value: f"_{anatomy.name(value) if known else value}" for value in present}
