"""Training samples: reproducible, different every epoch, corrupted at the input and clean at the target."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from numpy.typing import NDArray

from near_monai.anatomy import CORONARY
from near_monai.datasets.coronary_cases import evaluation_items, phantom_cases, phantom_pair, training_cases
from near_monai.datasets.heart_cases import heart_cases, structure_cases
from near_monai.datasets.label_shapes import LabelShapes, MapShapes, OrganShapes
from near_monai.datasets.point_dataset import PointDataset
from near_monai.datasets.training_case import TrainingCase, made_on_all_cores
from near_monai.errors import NearError
from near_monai.geometry.coordinates import Grid, sample
from near_monai.geometry.working_space import WorkingSpace

SPACE = WorkingSpace()


@pytest.fixture(scope="module")
def cases() -> list[TrainingCase]:
    return phantom_cases(2, 0, SPACE)


def test_samples_do_not_depend_on_the_workers(cases: list[TrainingCase]) -> None:
    data = PointDataset(cases, SPACE, length=4, points=64)
    alone = [data[index] for index in range(4)]
    (batch,) = DataLoader(data, batch_size=4, num_workers=2)
    for key in ("image", "points", "label"):
        torch.testing.assert_close(batch[key], torch.stack([item[key] for item in alone]), rtol=0, atol=0)


def test_loader_processes_that_stay_serve_the_epoch_that_is_chosen(cases: list[TrainingCase]) -> None:
    data = PointDataset(cases, SPACE, length=2, points=64)
    loader = DataLoader(data, batch_size=2, num_workers=1, persistent_workers=True)
    for epoch in (1, 2, 1):
        data.set_epoch(epoch)
        (batch,) = loader
        torch.testing.assert_close(batch["points"], torch.stack([data[n]["points"] for n in range(2)]), rtol=0, atol=0)


@pytest.mark.parametrize("threads", [1, 2])
def test_cases_are_the_same_from_any_number_of_processes(threads: int) -> None:
    count, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(threads)
    try:
        made = list(made_on_all_cores(lambda number: (number, os.getpid(), np.full(2, number)), 4))
    finally:
        torch.set_num_threads(count)
    assert [number for number, _, _ in made] == [0, 1, 2, 3]
    assert len({process for _, process, _ in made}) == threads
    assert all((array == number).all() for number, _, array in made)
    assert torch.equal(torch.get_rng_state(), state)  # the weights that training begins at do not depend on it


def test_epochs_differ_and_come_back(cases: list[TrainingCase]) -> None:
    data = PointDataset(cases, SPACE, length=4, points=64)
    first = data[2]["points"]
    data.set_epoch(2)
    second = data[2]["points"]
    data.set_epoch(1)
    assert not torch.equal(first, second)
    torch.testing.assert_close(data[2]["points"], first, rtol=0, atol=0)
    other = PointDataset(cases, SPACE, length=4, points=64, seed=1)
    assert not torch.equal(other[2]["points"], first)


def agreement(data: PointDataset) -> float:
    """Share of the band points whose occupancy the input already shows."""
    right: list[float] = []
    for index in range(len(data)):
        item = data[index]
        seen = sample(item["image"][None], item["points"][None])[0, 0] > 0.5
        right.append((seen == (item["label"][0] > 0)).float().mean().item())
    return float(np.mean(right))


def test_clean_windows_show_their_target_and_noisy_ones_do_not(cases: list[TrainingCase]) -> None:
    options: dict[str, Any] = {"length": 12, "points": 1000, "curriculum": [[1, 1.0]]}
    clean = agreement(PointDataset(cases, SPACE, clean_share=1.0, **options))
    noisy = agreement(PointDataset(cases, SPACE, clean_share=0.0, max_level=1.5, **options))
    assert clean > 0.93  # what voxels of 0.3 to 0.8 mm can show of a vessel
    assert noisy < clean - 0.03


def test_window_is_an_image_in_0_1_with_points_inside(cases: list[TrainingCase]) -> None:
    item = PointDataset(cases, SPACE, length=1, points=500, window=24)[0]
    assert item["image"].shape == (1, 24, 24, 24)
    assert item["image"].min() >= 0 and item["image"].max() <= 1
    assert item["points"].shape == (500, 3) and item["points"].abs().max() <= 0.8
    assert item["label"].shape == (2, 500)
    assert set(item["label"][0].unique().tolist()) <= {0.0, 1.0}


def test_whole_cases_are_known_by_their_index(cases: list[TrainingCase]) -> None:
    data = PointDataset(cases, SPACE, window=None, points=100, curriculum=[[1, 0.5], [3, 0.1]])
    assert len(data) == 2
    assert data[1]["image"] == 1
    assert data[0]["points"].abs().max() > 0.5


def test_labels_become_cases_and_phantoms_fill_up(
    tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid
) -> None:
    path = tmp_path / "v.nii.gz"
    nib.save(nib.Nifti1Image(noisy_vessel.astype(np.uint8) * CORONARY, np.diag([*vessel_grid.spacing, 1.0])), path)
    shapes = LabelShapes("auto", SPACE)
    (case,) = shapes([{"label": path}])
    volume = (case.field.dense() < 0).sum().item() * SPACE.spacing**3
    assert volume == pytest.approx(noisy_vessel.sum() * vessel_grid.voxel_volume, rel=0.1)
    assert [c.name for c in training_cases(str(path), shapes, 1, 3)] == ["v", "phantom_3_0000"]
    with pytest.raises(NearError, match="nothing to train on"):
        training_cases("", shapes, 0, 0)
    with pytest.raises(NearError, match="no case has a truth"):
        evaluation_items(str(path), 0, 0, 0.0)


def test_generated_shapes_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = WorkingSpace(2.0, 6.0, 8.0)
    kinds: dict[str, Callable[[], list[TrainingCase]]] = {
        "coronary_tree": lambda: phantom_cases(2, 3, coarse, tmp_path),
        "whole_heart": lambda: structure_cases(1, 3, coarse, "organs.safetensors", cache=tmp_path),
        "hearts": lambda: heart_cases(1, 3, coarse, cache=tmp_path),
    }
    first = {kind: make() for kind, make in kinds.items()}
    memory = phantom_cases(1, 3, coarse)[0].field.dense()
    torch.testing.assert_close(first["coronary_tree"][0].field.dense(), memory, rtol=0, atol=0)
    for module, name in (("coronary_cases", "coronary_tree"), ("heart_cases", "whole_heart")):
        monkeypatch.setattr(f"near_monai.datasets.{module}.{name}", None)  # a second call fails
    for kind, make in kinds.items():
        for one, other in zip(first[kind], make(), strict=True):
            assert isinstance(one.stored, Path) and one.stored == other.stored
            assert (one.grid, one.name, one.channels, one.order) == (
                other.grid,
                other.name,
                other.channels,
                other.order,
            )


def test_test_trees_are_never_training_trees(cases: list[TrainingCase]) -> None:
    trained = cases[0]
    _, truth, grid = phantom_pair(0, 0, 0.0, (SPACE.spacing,) * 3)
    assert grid.shape != trained.grid.shape or ((trained.field.dense()[0] < 0).numpy() != truth).any()


def test_phantom_pair_is_reproducible_and_noisy() -> None:
    spacing = (1.0, 1.0, 1.2)
    one, other = (phantom_pair(3, 4, "moderate", spacing) for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])
    noisy, truth, grid = one
    assert grid.spacing == spacing
    assert 0.5 < 2 * (noisy & truth).sum() / (noisy.sum() + truth.sum()) < 0.95


def saved(path: Path, array: NDArray[Any], spacing: tuple[float, float, float] = (0.5, 0.5, 0.5)) -> Path:
    nib.save(nib.Nifti1Image(array.astype(np.uint8), np.diag([*spacing, 1.0])), path)
    return path


@pytest.mark.parametrize("make", [LabelShapes, lambda label, space: MapShapes(space)], ids=["one class", "all"])
@pytest.mark.parametrize("spacing", [(0.5, 0.5, 0.5), (0.25, 0.5, 1.0), (0.4, 0.4, 3.0)], ids=str)
def test_windows_of_masks_whose_walls_lie_between_working_voxels(
    make: Callable[..., LabelShapes | MapShapes], spacing: tuple[float, float, float], tmp_path: Path
) -> None:
    """With voxels of the working grid's size every centre lies exactly half a step from the wall."""
    array = np.zeros((30, 24, 20))
    array[8:22, 9:14, 9:12] = CORONARY
    items = [{"label": saved(tmp_path / "a.nii.gz", array, spacing)}]
    data = PointDataset(items, SPACE, length=6, points=50, window=24, shapes=make(CORONARY, SPACE))
    for index in range(6):
        image = data[index]["image"]
        assert image.min() < 0.5 < image.max()


def test_organs_train_on_voxels_of_their_scale(tmp_path: Path) -> None:
    array = np.zeros((30, 24, 20))
    array[8:22, 9:16, 6:13] = 6  # an aorta, scale 2: voxels of 1 mm are seen as 0.5 mm
    items = [{"label": saved(tmp_path / "a.nii.gz", array, (1, 1, 1))}]
    assert PointDataset(items, SPACE, points=50, window=24, shapes=OrganShapes(6, SPACE))[0]["label"].any()


def test_label_that_cannot_be_used_is_named_and_passed_over(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    array = np.zeros((20, 20, 20))
    saved(tmp_path / "empty.nii.gz", array)
    saved(tmp_path / "full.nii.gz", array + 9)
    array[6:14, 6:14, 6:14] = 9
    saved(tmp_path / "good.nii.gz", array)
    saved(tmp_path / "other.nii.gz", array / 9 * 4)
    (tmp_path / "torn.nii.gz").write_bytes((tmp_path / "good.nii.gz").read_bytes()[:60])
    shapes = LabelShapes(9, SPACE, cache=tmp_path / "cache")
    cases = training_cases(str(tmp_path), shapes, 0, 0)
    assert [case.name for case in cases] == ["good"]
    lines = [record.message for record in log.records]
    assert lines[-2] == "4 of 5 label maps are not trained on: empty, full, other, torn"
    assert "empty.nii.gz: the label map is empty" in lines[0]
    assert lines[1].startswith("not trained on: full: no surface on a grid of 0.5 mm; expected")
    assert [path.name.split("-")[0] for path in (tmp_path / "cache").iterdir()] == ["good"]
    (tmp_path / "good.nii.gz").unlink()
    with pytest.raises(NearError, match="no label map can be used to train on: empty, full, other, torn"):
        training_cases(str(tmp_path), shapes, 0, 0)
    with pytest.raises(NearError, match="nothing to train on: the list"):
        PointDataset([], SPACE, shapes=shapes)


def test_another_structure_is_not_trained_as_a_coronary(tmp_path: Path) -> None:
    array = np.zeros((24, 24, 24))
    array[4:20, 4:12, 4:12], array[4:20, 15:20, 15:20] = 6, 9
    saved(tmp_path / "a.nii.gz", array)
    with pytest.raises(NearError, match=r"label 6 is aorta, and .* for coronary alone; .* train --config organs"):
        training_cases(str(tmp_path), LabelShapes(6, SPACE), 0, 0)
    assert len(training_cases(str(tmp_path), LabelShapes(9, SPACE), 0, 0)) == 1
    saved(tmp_path / "a.nii.gz", np.where(array == 6, 6, 0))  # what is alone in its map may have any number
    assert len(training_cases(str(tmp_path), LabelShapes(6, SPACE), 0, 0)) == 1


@pytest.mark.parametrize("spacing", [0.5e-2, 50.0])
@pytest.mark.parametrize(
    "shapes", [LabelShapes(9, SPACE), OrganShapes(9, SPACE), MapShapes(SPACE)], ids=["tree", "organ", "heart"]
)
def test_label_whose_spacing_is_not_in_mm_is_not_trained_on(tmp_path: Path, spacing: float, shapes: Any) -> None:
    """As the command does not refine it: millimetres taken for cm would be a field of 10 GB."""
    array = np.zeros((20, 20, 20), np.uint8)
    array[4:16, 8:12, 8:12] = 9
    nib.save(nib.Nifti1Image(array, np.diag([spacing] * 3 + [1.0])), tmp_path / "a.nii.gz")
    with pytest.raises(NearError, match=r"is the spacing in mm\?"):
        training_cases(str(tmp_path), shapes, 0, 0)
