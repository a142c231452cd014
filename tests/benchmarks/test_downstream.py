"""The downstream benchmark: what its volumes show, what its loss does not see, and what its table says."""

import numpy as np
import torch
from scipy import ndimage

from benchmarks.downstream import IGNORED, ROWS, loss_of, table
from benchmarks.rendered_ct import FAT, rendered_ct
from near_monai.anatomy import CORONARY


def test_contrast_fills_the_lumen_that_is_the_truth() -> None:
    volume, truth, grid = rendered_ct(np.random.default_rng(3), (1.0, 1.0, 1.0))
    again = rendered_ct(np.random.default_rng(3), (1.0, 1.0, 1.0))[0]
    assert volume.shape == truth.shape == grid.shape
    assert np.array_equal(volume, again)
    inside = ndimage.binary_erosion(truth)
    assert 200 < volume[inside].mean() < 500
    beside = ndimage.binary_dilation(truth, iterations=3) & ~ndimage.binary_dilation(truth, iterations=2)
    assert abs(np.median(volume[beside]) - FAT) < 60  # arteries lie in fat


def test_no_loss_sees_ignored_voxels() -> None:
    torch.manual_seed(0)
    label = torch.zeros(1, 1, 8, 8, 8)
    label[..., :3, :, :], label[..., 3:5, :, :] = CORONARY, IGNORED
    one = torch.rand(label.shape)
    other = torch.where(label == IGNORED, 1 - one, one)
    torch.testing.assert_close(loss_of(one, label), loss_of(other, label))
    assert not torch.isclose(loss_of(one, label), loss_of(1 - one, label))


def test_the_table_pairs_rows_over_hearts() -> None:
    def case(dice: float) -> dict[str, float]:
        return {"dice": dice, "cldice": 0.5, "surface_dice_1mm": 0.5, "betti0_error": 2.0}

    done = [
        {"row": row, "seed": seed, "scores": [case(0.6 + 0.02 * number + 0.1 * heart) for heart in range(3)]}
        for number, row in enumerate(ROWS)
        for seed in range(2)
    ]
    lines = table(done, {row: [case(0.9)] for row in ROWS}).splitlines()
    refined = next(line for line in lines if line.startswith("| refined |"))
    assert "| 0.900 | 0.740 |" in refined
    assert "+0.040 (+0.040 to +0.040; seeds +0.040 to +0.040)" in refined
