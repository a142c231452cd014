"""Surfaces as a volume mesher sees them, which refuses whatever crosses itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import near_monai
from near_monai.datasets.coronary_cases import phantom_pair

tetgen = pytest.importorskip("tetgen")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [{}, {"caps": True}, {"extensions": 5}, {"wall": 1.0}], ids=str)
def test_a_generated_tree_is_filled_with_tetrahedra(
    kind: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # tetgen writes what it refuses there
    _, truth, grid = phantom_pair(5, 2, "moderate")
    surface = near_monai.surface(truth, grid.spacing, **kind)
    written = surface.vertices.astype(np.float32).astype(np.float64)  # as files hold it
    for quality in (False, True):
        nodes, cells = tetgen.TetGen(written, surface.faces).tetrahedralize(quality=quality, nobisect=True)[:2]
        a, b, c, d = nodes[cells].transpose(1, 0, 2)
        volume = np.abs(np.einsum("ij,ij->i", b - a, np.cross(c - a, d - a))).sum() / 6
        assert volume == pytest.approx(surface.volume, rel=1e-5)
