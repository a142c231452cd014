"""Voxel axes that are not at right angles (a tilted gantry): volumes are exact, distances those of the world."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from near_monai.geometry.coordinates import Grid
from near_monai.metrics.score_tables import evaluate_folders
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.options import Options

TILT = np.deg2rad(25)


@pytest.fixture
def affine(vessel_grid: Grid) -> NDArray[np.float64]:
    affine = np.diag([*vessel_grid.spacing, 1.0])
    affine[:3, 2] = vessel_grid.spacing[2] * np.array([0, np.sin(TILT), np.cos(TILT)])
    return affine


def test_refined_volumes_and_a_warning(
    tmp_path: Path, noisy_vessel: NDArray[np.bool_], affine: NDArray[np.float64]
) -> None:
    nib.save(nib.Nifti1Image(noisy_vessel.astype(np.uint8), affine), tmp_path / "a.nii.gz")
    (row,) = refine_files(tmp_path / "a.nii.gz", tmp_path / "out", Options(device="cpu"), quiet=True)["cases"]
    voxel = np.linalg.det(affine[:3, :3])
    after = np.asanyarray(nib.nifti1.load(tmp_path / "out" / "a.nii.gz").dataobj)
    assert row["volume_before_mm3"] == pytest.approx(noisy_vessel.sum() * voxel, rel=1e-4)
    assert row["volume_after_mm3"] == pytest.approx(after.sum() * voxel, rel=1e-4)
    assert any("not at right angles (25 degrees" in warning for warning in row["warnings"])


def test_evaluation_in_world_mm(tmp_path: Path) -> None:
    """A plate moved by six voxels along the tilted axis lies nearer than six voxels."""
    plate = np.zeros((20, 20, 20), np.uint8)
    plate[:, :, 5] = 1
    flat = np.diag([0.5, 0.5, 0.5, 1.0])
    flat[:3, 2] = 0.5 * np.array([0, np.sin(TILT), np.cos(TILT)])
    for name, array in (("pred", np.roll(plate, 6, 2)), ("truth", plate)):
        nib.save(nib.Nifti1Image(array, flat), tmp_path / f"{name}.nii.gz")
    evaluate_folders(tmp_path / "pred.nii.gz", tmp_path / "truth.nii.gz", tmp_path / "out", label=1, quiet=True)
    scores = json.loads((tmp_path / "out" / "summary.json").read_text())["cases"]["truth"]["prediction"]
    assert 3 * np.cos(TILT) <= scores["assd_mm"] < 2.8
