"""Surfaces of maps as a volume mesher sees them: whether tetgen fills them, of what quality, how large, how fast."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tetgen
from tqdm import tqdm

from near_monai.anatomy import HEART
from near_monai.data.case_lists import find_cases
from near_monai.data.class_selection import AUTO, choose_label, parse_class
from near_monai.exports.flat_ends import ends_of
from near_monai.exports.surface_files import WRITERS, Surface
from near_monai.exports.surface_meshes import Kind, surface_in
from near_monai.formats.label_maps import read_label
from near_monai.trees.one_map import trees_in

KINDS = {
    "smooth": Kind(smooth=True),
    "caps": Kind(caps=True),
    "extensions 5": Kind(extensions=5),
    "wall 1 mm": Kind(wall=1.0),
}


def meshed(named: Sequence[str]) -> Iterator[tuple[str, dict[str, float]]]:
    """Figures of every kind of surface of every map of ``NAME=FOLDER[@LABEL]``."""
    for pair in named:
        name, _, place = pair.partition("=")
        folder, _, label = place.partition("@")
        for case in tqdm(find_cases(folder), desc=f"{name}, meshes", unit="case"):
            file = read_label(case.label)
            chosen = choose_label(file.array, parse_class(label or AUTO), case.name, HEART)
            ends = len(ends_of(trees_in(file, chosen, HEART, case.name).trees))
            for kind, how in KINDS.items():
                wall, cpu = time.perf_counter(), time.process_time()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    surface = surface_in(file, chosen, HEART, how)
                row = {"seconds": time.perf_counter() - wall, "CPU seconds": time.process_time() - cpu}
                yield f"{name}, {kind}", row | _figures(surface) | {"ends": ends, "flat ends": len(surface.patches)}


def _figures(surface: Surface) -> dict[str, float]:
    corners = surface.vertices[surface.faces]
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    quality = 4 * np.sqrt(3) * area / (sides**2).sum(1)  # 1 for equal sides
    row = {"triangles": len(surface.faces), "worst triangle": float(quality.min())}
    with tempfile.TemporaryDirectory() as folder:
        for ending, write in WRITERS.items():
            path = Path(folder) / f"a.{ending}"
            write(path, surface)
            row[f"MB, {ending}"] = path.stat().st_size / 1e6
    return row | _tetrahedra(surface)


def _tetrahedra(surface: Surface) -> dict[str, float]:
    """Whether tetgen takes the surface as a file holds it, as it is and refined for quality."""
    points, row = surface.vertices.astype(np.float32).astype(np.float64), {}
    for name, quality in (("meshed", False), ("meshed well", True)):
        try:
            nodes, cells = tetgen.TetGen(points, surface.faces).tetrahedralize(quality=quality, nobisect=True)[:2]
        except RuntimeError:  # what it says of surfaces that cross themselves
            row[name] = 0.0
            continue
        a, b, c, d = nodes[cells].transpose(1, 0, 2)
        volume = np.abs(np.einsum("ij,ij->i", b - a, np.cross(c - a, d - a))).sum() / 6
        row[name] = float(abs(volume / surface.volume - 1) < 1e-4)
    return row
