"""Trees and surfaces against truths that are known.

    python -m benchmarks.trees -o OUT [--trees 10] [--maps NAME=FOLDER[@LABEL] ...] [--meshes NAME=FOLDER[@LABEL] ...]

Generated trees at every level of noise, noisy and refined, by near_monai, by skimage's skeletonize, by skan if it is
installed, and by VMTK (--vmtk); sides and names of trees whose pose in a patient is known; surfaces of known bodies; of
folders of real maps, how many large trees each map has; and, with tetgen, whether their surfaces can be filled with
tetrahedra. Tables are printed, and written to OUT/trees.md and OUT/trees.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.random import Generator
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from tqdm import tqdm

import near_monai
from benchmarks.skeletons import skeletons
from benchmarks.surface_bodies import SPACINGS, bodies, exact_volume, measured
from benchmarks.tree_scores import Truth, lines_of_trees, scores
from benchmarks.vmtk_lines import lines_of_vmtk
from near_monai.anatomy import HEART
from near_monai.data.case_lists import find_cases
from near_monai.data.class_selection import AUTO, parse_class
from near_monai.datasets.coronary_cases import phantom_pair
from near_monai.formats.atomic_writing import claim_empty, write_json, write_text
from near_monai.formats.label_maps import read_label
from near_monai.formats.text_tables import aligned
from near_monai.geometry.coordinates import FloatArray
from near_monai.phantoms.coronary import grow_tree
from near_monai.phantoms.exact_shapes import NamedShape, Phantom
from near_monai.trees.one_map import trees_in
from near_monai.trees.rooted_tree import RootedTree
from near_monai.trees.sides import WHOLE_MM
from near_monai.trees.tree_files import write_centrelines, write_trees

LEVELS = ("none", "mild", "moderate", "severe")
#: Where base, front groove and left wall of a heart point to in a patient (RAS): the tip is left, in front and low.
BASE, GROOVE = np.array([0.62, -0.45, 0.64]), np.array([-0.35, 0.9, 0.1])
#: Standard deviation, in radians, of how a heart lies otherwise.
POSE = 0.2
Row = dict[str, float]


def generated(seed: int, count: int, levels: Sequence[str], vmtk: str | None = None) -> Iterator[tuple[str, Row]]:
    """Name of a method on a kind of mask, and its figures, of every tree."""
    for level in levels:
        for number in tqdm(range(count), desc=f"trees, {level}", unit="case"):
            noisy, _, grid = phantom_pair(seed, number, level)
            truth, start = Truth.of(seed, number), time.perf_counter()
            refined = near_monai.refine(noisy.astype(np.uint8), grid.spacing, structure="coronary") > 0
            whole = time.perf_counter() - start
            for kind, mask in (("noisy", noisy), ("refined", refined)):
                start, cpu = time.perf_counter(), time.process_time()
                trees = near_monai.tree(mask, grid.spacing)
                seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
                cost = {"seconds": seconds, "CPU seconds": cpu, "seconds / refine": seconds / whole}
                yield f"{level}, {kind}, near_monai", scores(truth, lines_of_trees(trees, grid)) | cost
                for name, lines in skeletons(mask, grid):
                    yield f"{level}, {kind}, {name}", scores(truth, lines)
                if vmtk:
                    yield f"{level}, {kind}, VMTK", scores(truth, lines_of_vmtk(vmtk, mask, grid, truth))


def pose_in_patient(rng: Generator) -> FloatArray:
    """Where the axes of a generated heart point to, ``(3, 3)``."""
    up = BASE / np.linalg.norm(BASE)
    front = GROOVE - (GROOVE @ up) * up
    front /= np.linalg.norm(front)
    pose: FloatArray = Rotation.from_rotvec(rng.normal(0, POSE, 3)).as_matrix() @ np.stack(
        [front, np.cross(up, front), up], 1
    )
    return pose


def sides(seed: int, count: int) -> Iterator[tuple[str, Row]]:
    """Sides, and the share of the length of every name that has it in truth."""
    for number in tqdm(range(count), desc="sides", unit="case"):
        rng = np.random.default_rng((seed, number, 2))
        grown = grow_tree(rng)
        cones = grown.cones(pose_in_patient(rng))
        phantom = Phantom((NamedShape("coronary", 9, cones),))
        grid = phantom.grid((0.6, 0.6, 0.6), 3.0)
        affine = np.diag([*grid.spacing, 1.0])
        affine[:3, 3] = np.add(grid.origin, [31, -22, 510])
        image = nib.Nifti1Image((phantom.signed_distance(grid, 2.0, 9) < 0).astype(np.uint8), affine)
        axes = cKDTree((cones.start + cones.end) / 2 + [31, -22, 510])
        kinds = [name.split()[0].rstrip("123") for name in grown.branches]  # D1, and its fork, are diagonals
        for tree in near_monai.tree(image):
            points = np.concatenate([branch.points for branch in tree.branches])
            true = "left" if cones.side[axes.query(points)[1]].mean() < 0.5 else "right"
            yield "sides", {"right": tree.side == true, "not given": tree.side is None}
            for branch in tree.branches:
                if branch.name is not None:
                    own = [kinds[n] == branch.name for n in cones.branch[axes.query(branch.points)[1]]]
                    yield branch.name, {"right": float(np.mean(own)), "probability": branch.name_probability or 0.0}


def surfaces() -> Iterator[tuple[str, Row]]:
    """Figures of bodies in three grids, each in three poses."""
    for name, body in bodies().items():
        exact = exact_volume(body)
        for spacing in SPACINGS:
            for pose in range(3):
                rotation = np.linalg.qr(np.random.default_rng(pose).normal(size=(3, 3)))[0]
                rotation *= np.sign(np.linalg.det(rotation))
                for kind, row in measured(body, exact, spacing, rotation).items():
                    yield f"{name}, {kind}", row


def maps(named: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """How many large trees the maps of folders have, where their roots are, and how many sides were given."""
    for pair in named:
        name, _, place = pair.partition("=")
        folder, _, label = place.partition("@")
        for case in tqdm(find_cases(folder), desc=name, unit="case"):
            file = read_label(case.label)
            start, cpu = time.perf_counter(), time.process_time()
            trees = trees_in(file, parse_class(label or AUTO), HEART, case.name).trees
            cost = {"seconds": time.perf_counter() - start, "CPU seconds": time.process_time() - cpu}
            large = [tree for tree in trees if tree.length >= WHOLE_MM]
            yield (
                name,
                {
                    "large trees": len(large),
                    "all trees": len(trees),
                    "two large": len(large) == 2,
                    "roots at the aorta": sum(tree.root_at == "aorta" for tree in trees),
                    "sides given": sum(tree.side is not None for tree in trees),
                }
                | cost
                | _sizes(trees),
            )


def _sizes(trees: Sequence[RootedTree]) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        files = {"kB, json": Path(folder) / "a.json", "kB, vtp": Path(folder) / "a.vtp"}
        write_trees(files["kB, json"], trees, {"case": "a"})
        write_centrelines(files["kB, vtp"], trees)
        return {name: path.stat().st_size / 1e3 for name, path in files.items()}


def meshes(named: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """See :func:`benchmarks.volume_meshes.meshed`."""
    if named:
        from benchmarks.volume_meshes import meshed  # needs tetgen

        yield from meshed(named)


def table(rows: Iterator[tuple[str, Row]], total: Sequence[str] = ()) -> tuple[str, dict[str, Row]]:
    """Means by name as text, and as numbers; of columns in ``total`` the sum."""
    found: dict[str, list[Row]] = {}
    for name, row in rows:
        found.setdefault(name, []).append(row)
    means: dict[str, Row] = {}
    for name, cases in found.items():
        keys = list(dict.fromkeys(key for row in cases for key in row))
        means[name] = {"n": len(cases)}
        for key in keys:
            values = [row.get(key, np.nan) for row in cases]
            means[name][key] = float((np.nansum if key in total else np.nanmean)(values))
            if key in SPREAD:
                means[name][f"{key}, +-"] = float(np.nanstd(values, ddof=1) / np.sqrt(len(values)))
    columns = list(dict.fromkeys(key for row in means.values() for key in row))
    lines = [["", *columns]]
    lines += [[name, *(f"{row[key]:.4g}" if key in row else "" for key in columns)] for name, row in means.items()]
    return aligned(lines), means


#: Whose standard error over the cases is told, too.
SPREAD = ("radius bias",)
TOTAL = ("long branches", "long branches found", "false ends", "parents", "wrong parents")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--trees", type=int, default=10, help="generated trees per level of noise")
    parser.add_argument("--posed", type=int, default=24, help="generated trees whose sides are known")
    parser.add_argument("--levels", nargs="+", default=LEVELS)
    parser.add_argument("--maps", nargs="*", default=(), metavar="NAME=FOLDER[@LABEL]", help="real maps")
    parser.add_argument("--meshes", nargs="*", default=(), metavar="NAME=FOLDER[@LABEL]", help="maps to mesh")
    parser.add_argument("--vmtk", metavar="PYTHON", help="of an environment that has vmtk (Python 3.12 or newer)")
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args(arguments)
    claim_empty(options.output)
    warnings.simplefilter("ignore", near_monai.NearWarning)
    parts: dict[str, Callable[[], Iterator[tuple[str, Row]]]] = {
        "generated trees": lambda: generated(options.seed, options.trees, options.levels, options.vmtk),
        "sides and names": lambda: sides(options.seed, options.posed),
        "surfaces": surfaces,
        "maps": lambda: maps(options.maps),
        "meshes": lambda: meshes(options.meshes),
    }
    texts, numbers = [], {}
    for title, rows in parts.items():
        text, numbers[title] = table(rows(), TOTAL)
        texts.append(f"## {title}\n\n```text\n{text}\n```\n")
        print(texts[-1], flush=True)
        write_text(options.output / "trees.md", "\n".join(texts))
        write_json(options.output / "trees.json", numbers)


if __name__ == "__main__":
    main()
