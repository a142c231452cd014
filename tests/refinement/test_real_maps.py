"""Real label maps, where they are at hand: closer to the truth than what went in; native size, same grid."""

from pathlib import Path

import nibabel as nib
import numpy as np

from near_monai.anatomy import CORONARY
from near_monai.data.class_selection import FOREGROUND
from near_monai.formats.label_maps import read_label
from near_monai.metrics.mask_metrics import score
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.options import Options


def test_refined_case_is_closer_to_the_truth(data: Path, tmp_path: Path) -> None:
    noisy, truth = (data / "imagecas" / folder / "134.nii.gz" for folder in ("noisy", "truth"))
    refine_files(noisy, tmp_path, Options(device="cpu"), quiet=True)
    target = read_label(truth)
    before, after = (
        score(read_label(path).array == CORONARY, target.array == CORONARY, target.grid.spacing)
        for path in (noisy, tmp_path / noisy.name)
    )
    assert after["dice"] > before["dice"] + 0.01
    assert after["cldice"] > before["cldice"] + 0.02
    assert after["betti0_error"] < before["betti0_error"] - 2


def test_native_size_keeps_grid_and_segments(data: Path, tmp_path: Path) -> None:
    source = data / "asoca" / "labels" / "Normal_1.nii.gz"
    run = refine_files(source, tmp_path, Options(label=FOREGROUND, device="cpu"), quiet=True)
    assert run["cases"][0]["status"] == "done"
    before, after = (nib.nifti1.load(path) for path in (source, tmp_path / source.name))
    assert after.shape == before.shape
    np.testing.assert_array_equal(after.affine, before.affine)
    one, other = (np.asarray(image.dataobj) for image in (before, after))
    assert set(np.unique(other)) <= set(np.unique(one))
    both = (one > 0) & (other > 0)
    np.testing.assert_array_equal(one[both], other[both])
    assert 0.8 < (other > 0).sum() / (one > 0).sum() < 1.2
