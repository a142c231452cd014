"""Trees as files: a JSON of all that is known of a case, a VTP of its centrelines, a table of branches."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from near_monai.formats.atomic_writing import to_json, write_text
from near_monai.formats.text_tables import as_csv
from near_monai.trees.rooted_tree import RootedTree
from near_monai.trees.vessel_names import NAME_NUMBERS
from near_monai.trees.vtk_polydata import write_vtp

#: Columns of the table; after the first three what a branch says of itself.
CASE_COLUMNS = ("case", "tree", "side")
SIDE_NUMBER = {"left": 1, "right": 2, None: 0}


def write_trees(path: Path, trees: Sequence[RootedTree], head: dict[str, Any]) -> None:
    """Write ``head`` and the records of ``trees``, a line per branch.

    Raises:
        NearError: it cannot be written.
    """
    records = [tree.record() for tree in trees]
    parts = []
    for record in records:
        branches = ",\n".join(f"    {_json(branch)}" for branch in record.pop("branches"))
        parts.append(f'  {_json(record)[:-1]}, "branches": [\n{branches}\n  ]}}')
    write_text(path, f'{_json(head)[:-1]},\n"trees": [\n' + ",\n".join(parts) + "\n]}\n")


def _json(record: object) -> str:
    return json.dumps(to_json(record), allow_nan=False)


def write_centrelines(path: Path, trees: Sequence[RootedTree]) -> None:
    """Write a line per branch, with ``Radius`` in mm at every point and the branch's numbers on the line.

    Trees count from 0 in the order of ``trees``; ``Parent`` is -1 at a root; ``Side`` is 1 left, 2 right, 0 not known;
    ``Name`` is one of :data:`NAME_NUMBERS`, or 0; ``Label`` is the class that a branch lies in, or 0.

    Raises:
        NearError: it cannot be written.
    """
    branches = [(number, tree, branch) for number, tree in enumerate(trees) for branch in tree.branches]
    sizes = [len(branch.points) for _, _, branch in branches]
    stops = np.cumsum([0, *sizes])
    points = np.concatenate([branch.points for _, _, branch in branches]) if branches else np.zeros((0, 3))
    radius = np.concatenate([branch.radius for _, _, branch in branches]) if branches else np.zeros(0)
    numbers = {
        "Tree": [number for number, _, _ in branches],
        "Side": [SIDE_NUMBER[tree.side] for _, tree, _ in branches],
        "Branch": [branch.id for _, _, branch in branches],
        "Parent": [-1 if branch.parent is None else branch.parent for _, _, branch in branches],
        "Generation": [branch.generation for _, _, branch in branches],
        "Name": [NAME_NUMBERS.get(branch.name or "", 0) for _, _, branch in branches],
        "Label": [branch.label or 0 for _, _, branch in branches],
    }
    write_vtp(
        path,
        points,
        [np.arange(start, stop) for start, stop in itertools.pairwise(stops)],
        point_data={"Radius": radius.astype(np.float32)},
        cell_data={name: np.array(values, np.int32) for name, values in numbers.items()},
    )


def write_table(path: Path, cases: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Write one row per branch of all ``cases``: their names, and what :func:`write_trees` wrote of each.

    Raises:
        NearError: it cannot be written.
    """
    rows = [
        {"case": name, "tree": number, "side": tree["side"]}
        | {key: value for key, value in branch.items() if key not in ("points_mm", "radius_mm")}
        for name, content in cases
        for number, tree in enumerate(content["trees"])
        for branch in tree["branches"]
    ]
    write_text(path, as_csv(rows, list(rows[0]) if rows else CASE_COLUMNS))
