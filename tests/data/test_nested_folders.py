"""Cases in folders of their own, and suffixes in capitals, through every command that works on a folder."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from near_monai.data.class_selection import AUTO
from near_monai.errors import NearError
from near_monai.exports.surface_meshes import write_surfaces
from near_monai.formats.label_maps import LabelMap, read_label, read_volume
from near_monai.geometry.coordinates import Grid
from near_monai.metrics.score_tables import evaluate_folders
from near_monai.refinement.folder_fusion import fuse_folders
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.options import Options
from near_monai.review.html_report import write_report
from near_monai.review.reviewed_run import apply_review, finished_cases, read_run

FILES = ("p1/seg.NII.GZ", "p2/seg.nii.gz")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid) -> Path:
    folder = tmp_path_factory.mktemp("nested")
    image = nib.Nifti1Image(noisy_vessel.astype(np.uint8) * np.uint8(9), np.diag([*vessel_grid.spacing, 1.0]))
    for name in FILES:
        (folder / "in" / name).parent.mkdir(parents=True)
        (folder / "in" / name).write_bytes(gzip.compress(image.to_bytes()))
    options = Options(device="cpu", save_codes=True, save_probability=True)
    run = refine_files(folder / "in", folder / "out", options, quiet=True)
    assert [(row["name"], row["status"]) for row in run["cases"]] == [("p1/seg", "done"), ("p2/seg", "done")]
    return folder


def test_results_lie_where_the_cases_lay(folders: Path) -> None:
    for name in FILES:
        for kind in (".", "probability"):
            assert (folders / "out" / kind / name).is_file()
    assert (folders / "out" / "codes" / "p1" / "seg.safetensors").is_file()


def test_the_same_command_has_nothing_to_do(folders: Path) -> None:
    times = [(folders / "out" / name).stat().st_mtime_ns for name in FILES]
    refine_files(folders / "in", folders / "out", Options(device="cpu", save_codes=True, save_probability=True), True)
    assert [(folders / "out" / name).stat().st_mtime_ns for name in FILES] == times


def test_report_and_review(folders: Path) -> None:
    page = write_report(folders / "out", quiet=True).read_text(encoding="utf-8")
    assert "p1/seg" in page and "p2/seg" in page
    (case, _) = finished_cases(folders / "out", read_run(folders / "out"))
    apply_review(folders / "out", [f"p1/seg/{case.edits[-1].name}"])
    reviewed, refined = (read_label(folders / "out" / kind / FILES[0]).array for kind in ("reviewed", "."))
    assert (reviewed != refined).any()


def test_fused_with_the_saved_probability(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``fuse`` reads that of every case, whatever the case of its suffix."""
    read: list[Path] = []

    def seen(path: Path) -> LabelMap:
        read.append(path)
        return read_volume(path)

    monkeypatch.setattr("near_monai.refinement.folder_fusion.read_volume", seen)
    fuse_folders([folders / "out"], tmp_path / "both", None, quiet=True)
    assert read == [folders / "out" / "probability" / name for name in FILES]
    assert all((tmp_path / "both" / name).is_file() for name in FILES)


def test_scores_and_surfaces(folders: Path, tmp_path: Path) -> None:
    scores = evaluate_folders(folders / "out", folders / "in", tmp_path / "scores", quiet=True)["cases"]
    assert list(scores) == ["p1/seg", "p2/seg"]
    assert write_surfaces(folders / "out", tmp_path / "stl", AUTO, "stl", True) == 2
    assert (tmp_path / "stl" / "p1" / "seg.stl").is_file()


def test_results_never_land_on_cases(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(NearError, match="holds label maps to refine"):
        refine_files(folders / "in", folders / "in", Options(device="cpu"), quiet=True)
    nib.save(nib.nifti1.load(folders / "in" / FILES[1]), tmp_path / "a.nii")
    (tmp_path / "bridges").mkdir()
    nib.save(nib.nifti1.load(folders / "in" / FILES[1]), tmp_path / "bridges" / "a.nii")
    with pytest.raises(NearError, match="bridges: a folder of label maps of that name"):
        refine_files(tmp_path, tmp_path / "out", Options(device="cpu"), quiet=True)
