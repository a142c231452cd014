"""The benchmark of the consensus on a coarse tree: every row is there, and finished cases are kept."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import consensus
from near_monai.geometry.coordinates import Grid


def test_every_row_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consensus, "SPACING", (1.4, 1.4, 1.4))
    monkeypatch.setattr(consensus, "COUNTS", (2, 3))
    monkeypatch.setattr(consensus, "LEVELS", ("moderate",))
    consensus.main(["-o", str(tmp_path), "--trees", "1"])
    text = (tmp_path / "table.md").read_text()
    for row in (*consensus.OTHERS, consensus.BEST, consensus.SINGLE, consensus.OURS):
        assert text.count(f"| {row} | 1 |") == 2
    assert text.count("| and a very bad one | 1 |") == 1
    monkeypatch.setattr(consensus, "measured", None)  # nothing is left to measure
    consensus.main(["-o", str(tmp_path), "--trees", "1"])


def test_others_are_what_they_are_called() -> None:
    grid = Grid((12, 12, 12), (1.0, 1.0, 1.0))
    one, two, three = (np.zeros(grid.shape, bool) for _ in range(3))
    one[2:8, 2:8, 2:8] = two[2:8, 2:8, 2:8] = True
    three[9:11, 9:11, 9:11] = True
    for method in consensus.OTHERS.values():
        found = method([one, two, three], grid)
        assert found[4, 4, 4] and not found[10, 10, 10]
    assert not consensus.majority([one, three], grid).any()
