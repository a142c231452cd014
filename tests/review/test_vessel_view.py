"""Vessels in the report: their surface, their branches, and where these were added or bridged."""

import numpy as np
import pytest
from nibabel.affines import apply_affine

from near_monai.anatomy import HEART
from near_monai.formats.label_maps import LabelMap
from near_monai.geometry.coordinates import Grid
from near_monai.review.class_looks import Look
from near_monai.review.undoable_edits import find_edits
from near_monai.review.vessel_view import has_trees, vessels_in

AFFINE = np.array([[-0.5, 0, 0, 30], [0, 0, 0.5, -5], [0, 0.5, 0, 12], [0, 0, 0, 1.0]])
GRID = Grid((100, 40, 40), (0.5, 0.5, 0.5))
X, Y, Z = np.indices(GRID.shape) * 0.5
#: A vessel of 45 mm along x, which is narrow around x = 35.
VESSEL = (np.hypot(Y - 10, Z - 10) < 2.2 - np.exp(-(((X - 35) / 3) ** 2))) & (X > 2) & (X < 47)


def test_a_bridge_is_a_stretch_of_its_branch() -> None:
    after = VESSEL.astype(np.uint8) * 9
    bridge = after * ((X > 15) & (X < 20))
    edits = find_edits(after - bridge, after, bridge, GRID, {9: 1.0})
    found = vessels_in(LabelMap.from_array(after, AFFINE), Look(9), edits, HEART)
    assert found is not None and len(found.branches) == 1
    (branch,) = found.branches
    (stretch,) = branch["changed"]
    assert (stretch["name"], stretch["kind"]) == (edits[0].name, "bridged")
    points, radius = np.array(branch["points"]), np.array(branch["radius"])
    x = (30 - points[:, 0])[[0, -1]]
    ends = np.sort(np.abs(stretch["from_to"] - np.abs(x[0] - [[15], [20]])).min(1))
    assert ends.max() < 1.5
    assert radius.min() == pytest.approx(1.2, abs=0.15)
    assert 30 - points[radius.argmin(), 0] == pytest.approx(35, abs=1)
    assert branch["length"] == pytest.approx(45, abs=5)
    world = apply_affine(AFFINE, np.argwhere(VESSEL))
    np.testing.assert_allclose(found.surface.vertices.min(0), world.min(0), atol=0.6)
    np.testing.assert_allclose(found.surface.vertices.max(0), world.max(0), atol=0.6)


def test_nothing_has_no_vessels() -> None:
    empty = LabelMap.from_array(np.zeros(GRID.shape, np.uint8), AFFINE)
    assert vessels_in(empty, Look(9), [], HEART) is None


def test_only_fine_vessels_are_trees() -> None:
    rows = {
        "coronary": {"structure": "coronary", "scale": 1.0},
        "aorta": {"name": "aorta", "scale": 2.0},
        "myocardium": {"name": "myocardium", "scale": 2.0},
        "spoon": {"structure": "spoon", "scale": 1.0},
    }
    assert [name for name, row in rows.items() if has_trees(row, HEART)] == ["coronary"]
