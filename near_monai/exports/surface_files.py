"""Closed triangle meshes, and their files: STL, PLY and VTP, which say in which frame they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from near_monai.formats.atomic_writing import replacing
from near_monai.trees.vtk_polydata import write_vtp

#: 3D Slicer reads the frame from this comment, and takes LPS without it.
COMMENT = "near_monai SPACE=RAS"


@dataclass(frozen=True)
class Surface:
    """A closed triangle mesh.

    Attributes:
        vertices: ``(N, 3)`` float64, RAS world mm.
        faces: ``(M, 3)`` int32, indices of vertices, anticlockwise as seen from outside.
        patch: ``(M,)`` int32, 0 for the wall, else which of ``patches`` a face belongs to, from 1; empty without any.
        patches: what the patches are: ``"inlet"`` or ``"outlet"``.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    patch: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    patches: tuple[str, ...] = ()

    @property
    def volume(self) -> float:
        """Enclosed volume in mm^3."""
        return volume_of(self.vertices, self.faces)


def sides_of(faces: NDArray[np.integer]) -> NDArray[np.integer]:
    """The directed sides ``(3 M, 2)`` of ``faces`` ``(M, 3)``: the first of all, the second of all, the third."""
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def volume_of(vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> float:
    """What closed ``faces (M, 3)`` of ``vertices (N, 3)`` enclose."""
    a, b, c = (vertices - vertices[0])[faces.T]
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def world_mesh(
    voxels: NDArray[np.floating], faces: NDArray[np.integer], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Vertices ``(N, 3)``, given in voxels of a map with ``affine``, in world mm, and their ``faces`` ``(M, 3)``."""
    if np.linalg.det(affine[:3, :3]) < 0:  # a mirror turns every triangle round
        faces = faces[:, ::-1]
    return voxels @ affine[:3, :3].T + affine[:3, 3], np.ascontiguousarray(faces, np.int32)


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


def write_mesh_vtp(path: Path, surface: Surface) -> None:
    """Write a VTP; the number of its patch is beside every triangle, and what the patches are, from 0 on."""
    patch = {"Patch": surface.patch} if surface.patches else None
    names = {"PatchNames": ("wall", *surface.patches)} if surface.patches else None
    write_vtp(path, surface.vertices, triangles=surface.faces, cell_data=patch, words=names)


WRITERS = {"stl": write_stl, "ply": write_ply, "vtp": write_mesh_vtp}
