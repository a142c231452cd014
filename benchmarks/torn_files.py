"""Whole trees torn at known places: what is joined, and what is deleted, can be scored against an exact truth.

    python -m benchmarks.torn_files WHOLE -o OUT [--label 1] [--seed 0]

WHOLE is a folder of label maps of whole trees. OUT gets ``torn`` (to be refined), ``reference`` (1: the tree; whatever
else ``torn`` holds is foreign) and ``nearest``: every end of ``torn`` joined to the nearest piece within 8 mm, as the
simplest rule would. Names and grids stay, so that any scorer of folders can compare them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from near_monai.corruption.torn_trees import tear
from near_monai.data.case_lists import find_cases
from near_monai.formats.atomic_writing import claim_empty
from near_monai.formats.label_maps import read_label, write_label
from near_monai.geometry.boxes import crop_box
from near_monai.geometry.coordinates import Grid
from near_monai.repair.joints import FEATURES
from near_monai.repair.judge import Bounds
from near_monai.repair.reconnection import reconnect

NEAREST_MM = 8.0
#: The simplest judge: the shorter a gap, the surer; every piece is vessel, no end goes on.
NEAREST: Any = SimpleNamespace(
    joints=lambda rows: 1 / (1 + np.reshape(rows, (-1, len(FEATURES)))[:, FEATURES.index("gap")]),
    pieces=lambda rows: np.ones(len(rows)),
    ends=lambda rows: np.zeros(len(rows)),
)


def joined_to_nearest(label: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """``label`` ``(X, Y, Z)`` with every end joined to the nearest piece within :data:`NEAREST_MM`."""
    least = 1 / (1 + NEAREST_MM)
    nothing = np.zeros(label.shape, np.float32)
    return label | (reconnect(label, nothing, grid, judge=NEAREST, bounds=Bounds(least, least, 0.0)).tubes > 0)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("whole", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder")
    parser.add_argument("--label", type=int, default=1, help="the tree in the maps")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    claim_empty(options.output)
    for number, case in enumerate(tqdm(find_cases(options.whole), unit="case")):
        file = read_label(case.label)
        whole = file.array == options.label
        cut = crop_box(whole, file.grid.spacing, 40.0)
        grid, there = cut.grid(file.grid), cut.slices()
        torn = tear(whole[there], grid, np.random.default_rng((options.seed, number)))
        for name, mask in (("torn", torn), ("reference", whole[there]), ("nearest", joined_to_nearest(torn, grid))):
            full = np.zeros(whole.shape, np.uint8)
            full[there] = mask
            write_label(options.output / name / Path(case.label).name, full, file)


if __name__ == "__main__":
    main()
