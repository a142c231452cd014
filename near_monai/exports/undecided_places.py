"""Voxels of a refined map that nobody should learn from: F is undecided, a joint is only proposed, a person said no."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from near_monai.data.class_selection import mask_of, recorded_class
from near_monai.data.run_layout import PROBABILITY_FOLDER, REVIEW_FOLDER
from near_monai.errors import NearError
from near_monai.formats.label_maps import LabelMap, read_volume
from near_monai.geometry.centrelines import tube_around
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import FloatArray
from near_monai.geometry.world_places import local_mm
from near_monai.review.edit_decisions import read_decisions
from near_monai.review.reviewed_run import ReviewedCase, read_run
from near_monai.runs.run_records import DONE, Row

#: Radius in mm around the course of a joint, the longest joint, and the radius around an open end.
JOINT_MM, LONGEST_MM, END_MM = 1.5, 16.0, 3.0


class Undecided:
    """What is undecided in the cases of a run of ``near-monai refine``.

    Args:
        refined: folder of the run, or its ``reviewed``.
        sure: F is undecided where it gives no answer this probability, 0.5 to 1.

    Raises:
        NearError: no run there, or ``sure`` is out of its range.
    """

    def __init__(self, refined: Path, sure: float) -> None:
        if not 0.5 < sure < 1:
            raise NearError(f"--ignore-uncertain {sure:g}; expected a probability between 0.5 and 1, such as 0.8")
        self.sure = sure
        self.run = refined.parent if refined.name == REVIEW_FOLDER else refined
        self._rows = {row["name"]: row for row in read_run(self.run)["cases"]}
        self._decisions = read_decisions(self.run)

    def voxels(self, name: str, label: LabelMap) -> NDArray[np.bool_]:
        """Which voxels of a refined map ``label`` are undecided, ``(X, Y, Z)``; those of other classes never are.

        Raises:
            NearError: the run did not refine the case, or did not save F's probability.
        """
        row = self._rows.get(name)
        if row is None or row["status"] != DONE:
            raise NearError(f"{self.run}: has no refined case {name}; refine it, or leave --ignore-uncertain out")
        if "structures" in row:
            raise NearError(
                f"{self.run}: {name} was refined with --all-labels, which keeps no probability; refine one class with "
                "--save-probability, or leave --ignore-uncertain out"
            )
        wanted = recorded_class(row["label"])
        mask = mask_of(label.array, wanted)
        out = self._unsure(row, label)
        for place in self._places(row, mask, label):
            out |= place
        for voxels in self._rejected(name, row):
            out[tuple(voxels.T)] = True
        return out & (mask | (label.array == 0))

    def _unsure(self, row: Row, label: LabelMap) -> NDArray[np.bool_]:
        case = ReviewedCase(self.run, row)
        path = self.run / PROBABILITY_FOLDER / case.file
        if not path.is_file():
            raise NearError(f"{path}: is not there; refine with --save-probability, or leave --ignore-uncertain out")
        volume = read_volume(path)
        volume.check_grid_of(label)
        return np.asarray((volume.array > 1 - self.sure) & (volume.array < self.sure))

    def _places(self, row: Row, mask: NDArray[np.bool_], label: LabelMap) -> Iterator[NDArray[np.bool_]]:
        """Joints that are only proposed, and what lies beyond open ends."""
        found = [finding for finding in row.get("findings", []) if finding["kind"] in ("proposed", "open_end")]
        if not found:
            return
        pieces = Components.of(mask)
        for finding in found:
            centre = local_mm(finding["place"], label.grid, label.affine)
            course, radius = centre[None], END_MM
            if finding["kind"] == "proposed":
                course, radius = _joint(centre, pieces, label), JOINT_MM
            box, tube = tube_around(course, np.full(len(course), radius), label.grid)
            out = np.zeros(mask.shape, bool)
            out[box.slices()] = tube & ~mask[box.slices()]
            yield out

    def _rejected(self, name: str, row: Row) -> list[NDArray[np.intp]]:
        """Voxels of the edits that a person has taken back."""
        decision = self._decisions.get(name)
        if decision is None or not decision.rejected:
            return []
        known = {rejected.identity for rejected in decision.rejected}
        return [edit.voxels for edit in ReviewedCase(self.run, row).edits if edit.identity in known]


def _joint(centre: ArrayLike, pieces: Components, label: LabelMap) -> FloatArray:
    """Points in mm, half a mm apart, from one of the two pieces nearest to ``centre`` to the other."""
    middle = np.asarray(centre, np.float64)
    ends: list[Any] = []
    if len(pieces):
        points = label.grid.to_mm(pieces.voxels)
        near = np.array(cKDTree(points).query_ball_point(middle, LONGEST_MM), dtype=np.intp)
        order = near[np.argsort(np.linalg.norm(points[near] - middle, axis=1))]
        _, first = np.unique(pieces.owner[order], return_index=True)
        ends = [points[order[at]] for at in np.sort(first)[:2].tolist()]
    if len(ends) < 2:
        return middle[None]
    count = max(2, int(np.linalg.norm(ends[1] - ends[0]) * 2) + 1)
    return np.asarray(ends[0] + np.linspace(0, 1, count)[:, None] * (ends[1] - ends[0]))
