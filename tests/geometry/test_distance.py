"""Signed distances of what is one voxel thick: the surface lies half a step out, however long the step."""

import numpy as np
import pytest

from near_monai.geometry.distance import signed_distance

STEPS = (0.4, 0.4, 3.0)


def crossing(inside: float, outside: float) -> float:
    """Where a linear interpolation from a voxel inside to its neighbour outside is 0, in steps."""
    return inside / (inside - outside)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("hollow", [False, True])
def test_a_line_of_one_voxel_is_one_voxel_thick(order: tuple[int, int, int], hollow: bool) -> None:
    mask = np.zeros((20, 9, 9), bool)
    mask[3:17, 4, 4] = True
    turned = (~mask if hollow else mask).transpose(order)
    distance = signed_distance(turned, tuple(STEPS[a] for a in order), 6.0).transpose(np.argsort(order))
    for beside in ((10, 4, 3), (10, 4, 5), (10, 3, 4), (10, 5, 4)):
        assert crossing(float(distance[10, 4, 4]), float(distance[beside])) == pytest.approx(0.5, abs=1e-5)
    assert np.array_equal(distance < 0, ~mask if hollow else mask)


def test_a_sheet_of_one_voxel_between_two_depths_takes_the_nearer_one() -> None:
    mask = np.zeros((9, 9, 9), bool)
    mask[:, :, 4] = True
    distance = signed_distance(mask, STEPS, 6.0)
    np.testing.assert_allclose(distance[4, 4, 3:6], [2.8, -2.8, 2.8], atol=1e-5)  # a flat wall is far from every side
