"""The performance benchmark runs whole on a small map and relates everything to reading and writing the file."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import performance
from near_monai.geometry.coordinates import Grid


@pytest.mark.slow
def test_every_figure_is_there(
    tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v.nii.gz"
    nib.save(nib.Nifti1Image(noisy_vessel.astype(np.uint8), np.diag([*vessel_grid.spacing, 1.0])), path)
    monkeypatch.setattr(sys, "argv", ["performance", str(path), "-o", str(tmp_path / "out"), "--repeats", "2"])
    performance.main()
    figures = json.loads((tmp_path / "out" / "performance.json").read_text())["median"]
    assert all(value > 0 for value in figures.values())
    assert figures["refine"] > figures["read"] + figures["encode, distance included"] + figures["decode"]
    assert "x refine" in (tmp_path / "out" / "table.md").read_text()


def test_slope_is_exact_for_linear_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def work(count: int) -> Callable[[], None]:
        def run() -> None:
            now[0] += 3 + 0.5 * count

        return run

    monkeypatch.setattr(performance.time, "process_time", lambda: now[0])
    assert performance._slope(work, 4, 8, 100) == pytest.approx(53)
