"""Are generated tears like real ones? Pieces per case, their volumes and extents, and the gaps between them.

    python -m benchmarks.torn LABELS [--trees 20]

LABELS is a folder of label maps as a network drew them (above 0: vessel). Counted are pieces of at least 10 voxels and
less than a fifth of their label; percentiles 5, 10, 25, 50, 75, 90 and 95.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from near_monai.corruption.torn_trees import tear
from near_monai.data.case_lists import find_cases
from near_monai.datasets.coronary_cases import phantom_pair
from near_monai.formats.label_maps import read_label
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid

PERCENTILES = (5, 10, 25, 50, 75, 90, 95)
LEAST_VOXELS, LARGEST_SHARE = 10, 0.2
COLUMNS = ("mm3", "extent, mm", "gap to a larger piece, mm", "gap to any piece, mm")


def pieces_of(mask: NDArray[np.bool_], grid: Grid) -> list[tuple[float, float, float, float]]:
    """Of every piece that counts: :data:`COLUMNS`."""
    found = Components.of(mask)
    points = [grid.to_mm(part) for part in found.parts]
    large = [number for number in np.argsort(-found.sizes).tolist() if found.sizes[number] >= LEAST_VOXELS]
    rows = []
    for rank, number in enumerate(large):
        if rank and found.sizes[number] < LARGEST_SHARE * found.sizes.sum():
            own = cKDTree(points[number])
            gaps = {other: float(own.query(points[other])[0].min()) for other in large if other != number}
            extent = float(np.linalg.norm(np.ptp(points[number], axis=0) + grid.spacing))
            larger = min(gaps[other] for other in large[:rank])
            rows.append((found.sizes[number] * grid.voxel_volume, extent, larger, min(gaps.values())))
    return rows


def told(name: str, cases: Iterable[tuple[NDArray[np.bool_], Grid]]) -> str:
    """Lines about a set of cases."""
    rows = [pieces_of(*case) for case in cases]
    lines = [f"{name}: {sum(map(len, rows)) / max(len(rows), 1):.1f} pieces per case"]
    for column, values in zip(COLUMNS, np.array([row for case in rows for row in case]).reshape(-1, 4).T, strict=True):
        lines.append(f"  {column}: {' '.join(f'{value:.1f}' for value in np.percentile(values, PERCENTILES))}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--trees", type=int, default=20)
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args(arguments)
    files = (read_label(case.label) for case in find_cases(options.labels))
    print(told("labels", ((file.array > 0, file.grid) for file in files)))
    trees = ((number, *phantom_pair(options.seed, number, "none")) for number in range(options.trees))
    torn = (
        (tear(truth, grid, np.random.default_rng((options.seed, number))), grid) for number, _, truth, grid in trees
    )
    print(told("generated", torn))


if __name__ == "__main__":
    main()
