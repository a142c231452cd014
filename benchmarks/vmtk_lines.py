"""Centrelines of a mask by VMTK, which must be told roots and tips: it gets those of the truth."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks import vmtk_process
from benchmarks.tree_scores import Lines, Truth
from near_monai.exports.surface_meshes import surface_of
from near_monai.geometry.boxes import Box
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid

#: A true tip belongs to a piece whose surface passes within so many mm; pieces without any are left out.
TIP_MM = 4.0
#: Ways to several tips run along each other: points within so many mm are one.
SAME_MM = 0.3


def lines_of_vmtk(python: str, mask: NDArray[np.bool_], grid: Grid, truth: Truth) -> Lines:
    """Lines by the ``python`` of an environment that has vmtk."""
    tips = np.array([truth.points[truth.branch == b][-1] for b in range(len(truth.parent))])
    given: dict[str, NDArray[np.generic]] = {}
    found, whole = Components.of(mask), Box((0, 0, 0), grid.shape)
    for piece in range(len(found)):
        surface = surface_of(found.mask(piece, whole), np.diag([*grid.spacing, 1.0]))
        points = surface.vertices + np.asarray(grid.origin)
        nearest = cKDTree(points)
        to_root, roots = nearest.query(truth.roots)
        to_tip, ends = nearest.query(tips)
        if (to_tip < TIP_MM).any():
            number = len(given) // 4
            given |= {f"points_{number}": points, f"faces_{number}": surface.faces}
            given |= {f"root_{number}": roots[[int(to_root.argmin())]], f"tips_{number}": ends[to_tip < TIP_MM]}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npy"
        np.savez(source, **given)  # type: ignore[arg-type]
        subprocess.run([python, vmtk_process.__file__, source, target], check=True, capture_output=True)
        lines = np.load(target)
    _, kept = np.unique(np.round(lines[:, :3] / SAME_MM), axis=0, return_index=True)
    lines, none = lines[kept], np.full(len(kept), -1)
    return Lines(lines[:, :3], lines[:, 3], np.zeros((0, 3)), np.zeros((0, 3)), none, np.zeros(0, np.intp))
