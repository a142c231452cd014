"""Several maps to one: what one map lacks another fills, a bad map does little harm, and disagreement is said."""

import itertools
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

import near_monai
from near_monai.cli import main
from near_monai.errors import NearError, NearWarning
from near_monai.formats.label_maps import read_volume
from near_monai.geometry.components import count_components
from near_monai.geometry.coordinates import Grid
from near_monai.metrics.mask_metrics import score
from near_monai.refinement.agreed_mask import agreement_nearby, agreement_of, disputes, fused_odds

Mask = NDArray[np.bool_]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def clean(vessel_grid: Grid) -> Mask:
    i, j, k = np.meshgrid(*vessel_grid.axes_mm(), indexing="ij")
    mask = np.hypot(j - 12 - 3 * np.sin(i / 8), k - 14 - 0.1 * i) < 1.5
    mask[:6] = mask[-6:] = False
    return np.asarray(mask)


def rough(mask: Mask, seed: int) -> Mask:
    """The wall of a mask changed at random."""
    from near_monai.corruption.surface_errors import BoundaryJitter
    from near_monai.geometry.distance import signed_distance

    jitter = BoundaryJitter(0.25)
    jitter.set_random_state(seed=seed)
    return np.asarray(jitter(signed_distance(mask, (0.5, 0.55, 0.7)), (0.5, 0.55, 0.7)) < 0)


def labels(*masks: Mask) -> list[NDArray[np.uint8]]:
    return [mask * np.uint8(9) for mask in masks]


@pytest.fixture(scope="module")
def maps(clean: Mask) -> list[NDArray[np.uint8]]:
    """A gap in the first, another gap in the second, an island and another gap in the third."""
    one, two, three = (rough(clean, seed) for seed in range(3))
    one[20:26] = two[40:45] = three[12:15] = False
    three[30:36, 42:48, 4:8] = True
    return labels(one, two, three)


def test_better_than_every_map_and_in_one_piece(maps: list[NDArray[np.uint8]], clean: Mask, vessel_grid: Grid) -> None:
    for chosen in (maps[:2], maps):
        agreed = near_monai.consensus(chosen, vessel_grid.spacing)
        found = score(agreed, clean, vessel_grid.spacing)
        assert count_components(agreed > 0) == 1
        assert found["dice"] > max(score(one, clean, vessel_grid.spacing)["dice"] for one in maps)
    majority = np.sum([one > 0 for one in maps], axis=0) > 1
    assert found["dice"] > score(majority, clean, vessel_grid.spacing)["dice"] - 0.005


def test_equal_maps_without_noise_stay_as_they_are(clean: Mask, vessel_grid: Grid) -> None:
    agreed = near_monai.consensus(labels(clean, clean), vessel_grid.spacing)
    assert score(agreed, clean, vessel_grid.spacing)["dice"] > 0.98


def test_a_very_bad_map_does_little_harm(maps: list[NDArray[np.uint8]], clean: Mask, vessel_grid: Grid) -> None:
    bad = np.roll(rough(clean, 7), (3, 4, 2), (0, 1, 2))
    two = near_monai.consensus(maps[:2], vessel_grid.spacing)
    three = near_monai.consensus([*maps[:2], bad * np.uint8(9)], vessel_grid.spacing)
    loss = score(two, clean, vessel_grid.spacing)["dice"] - score(three, clean, vessel_grid.spacing)["dice"]
    assert loss < 0.01


def test_what_maps_disagree_on_is_found(maps: list[NDArray[np.uint8]], vessel_grid: Grid) -> None:
    found = near_monai.consensus(maps, vessel_grid.spacing, return_details=True)
    (row,) = found.structures
    assert len(row["noise_mm"]) == 3 and row["structure"] == "coronary"
    kinds = {finding["kind"] for finding in row["findings"]}
    assert {"kept", "left out"} <= kinds
    island = next(finding for finding in row["findings"] if finding["kind"] == "left out")
    assert np.linalg.norm(np.subtract(island["place"], (16.2, 24.5, 3.9))) < 2
    assert found.agreement.dtype == np.float32 and found.agreement.max() == 1
    assert found.agreement[33, 44, 6] == pytest.approx(2 / 3)


def test_every_class_of_the_table() -> None:
    i, j, k = np.meshgrid(*(np.arange(44.0),) * 3, indexing="ij")
    arrays = []
    for shift in (0.0, 0.5):
        array = np.zeros(i.shape, np.uint8)
        array[(i - 13 - shift) ** 2 + (j - 22) ** 2 + (k - 22) ** 2 < 100] = 2
        array[(i - 31) ** 2 + (j - 22 + shift) ** 2 + (k - 22) ** 2 < 64] = 6
        arrays.append(array)
    arrays[1][array == 6] = 0  # a reader who left the aorta out
    found = near_monai.consensus(arrays, (1, 1, 1), which="all", return_details=True)
    assert [row["structure"] for row in found.structures] == ["left_atrium", "aorta"]
    assert score(found.label == 2, arrays[0] == 2, (1, 1, 1))["dice"] > 0.95


def test_folders_to_one(maps: list[NDArray[np.uint8]], vessel_grid: Grid, tmp_path: Path) -> None:
    affine = np.diag([*vessel_grid.spacing, 1.0])
    for number, array in enumerate(maps):
        (tmp_path / str(number)).mkdir()
        nib.save(nib.Nifti1Image(array, affine), tmp_path / str(number) / "a.nii.gz")
    nib.save(nib.Nifti1Image(maps[0], affine), tmp_path / "0" / "alone.nii.gz")
    folders = [tmp_path / str(number) for number in range(3)]
    assert run("consensus", *folders, "-o", tmp_path / "out", "--quiet") == 1  # one case is in one folder only
    content = json.loads((tmp_path / "out" / "consensus.json").read_text())
    done, alone = content["cases"]
    assert done["status"] == "done" and len(done["structures"][0]["dice"]) == 3
    assert done["warnings"] == []
    assert alone["status"] == "failed" and "only; it is left out" in alone["message"]
    expected = near_monai.consensus(maps, vessel_grid.spacing)
    written = nib.nifti1.load(tmp_path / "out" / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), expected)
    assert read_volume(tmp_path / "out" / "agreement" / "a.nii.gz").array.max() == 1


def test_empty_maps_give_an_empty_one(maps: list[NDArray[np.uint8]]) -> None:
    with pytest.warns(NearWarning, match="all label maps are empty, and so is the result"):
        found = near_monai.consensus([np.zeros_like(maps[0])] * 2, (1, 1, 1), return_details=True)
    assert not found.label.any() and (found.agreement == 1).all() and not found.structures


@pytest.mark.parametrize("values", [(1, 9, 255), (255, 1, 9), (9, 700, 1)])
def test_the_number_of_the_only_class_does_not_matter(
    maps: list[NDArray[np.uint8]], values: tuple[int, ...], vessel_grid: Grid
) -> None:
    numbered = [(array > 0) * np.uint16(value) for array, value in zip(maps, values, strict=True)]
    expected = near_monai.consensus(maps, vessel_grid.spacing, return_details=True)
    found = near_monai.consensus(numbered, vessel_grid.spacing, return_details=True)
    np.testing.assert_array_equal(found.label, (expected.label > 0) * np.uint16(values[0]))
    np.testing.assert_array_equal(found.agreement, expected.agreement)
    assert found.structures == [row | {"label": values[0]} for row in expected.structures]
    assert not found.warnings


def test_a_large_number_goes_into_a_first_map_that_is_empty(maps: list[NDArray[np.uint8]], vessel_grid: Grid) -> None:
    large = (maps[0] > 0) * np.uint16(700)
    assert near_monai.consensus([np.zeros_like(maps[0]), large], vessel_grid.spacing).max() == 700


def test_a_class_of_several_is_not_taken_for_another(maps: list[NDArray[np.uint8]], vessel_grid: Grid) -> None:
    heart, binary = maps[0].copy(), np.where(maps[1] > 0, np.uint8(255), np.uint8(0))
    heart[:, :4, :4] = 1
    both = [near_monai.consensus(two, vessel_grid.spacing) for two in ([heart, binary], [binary, heart])]
    np.testing.assert_array_equal(both[0] == 9, both[1] == 255)
    muscle = (maps[1] > 0).astype(np.uint8)  # 1 is another class of the other map
    for chosen in ("auto", 9):
        with pytest.warns(
            NearWarning, match="label map 2: no voxel has label 9; labels present: 1; it counts as a map"
        ):
            found = near_monai.consensus([heart, muscle], vessel_grid.spacing, chosen, return_details=True)
        assert found.structures[0]["dice"][1] == 0


def test_the_order_of_the_maps_does_not_matter(maps: list[NDArray[np.uint8]], vessel_grid: Grid) -> None:
    found = [near_monai.consensus(order, vessel_grid.spacing) for order in itertools.permutations(maps)]
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_a_map_counts_once(maps: list[NDArray[np.uint8]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one/labelsTr", "two"):
        (tmp_path / name).mkdir(parents=True)
    nib.save(nib.Nifti1Image(maps[0], np.eye(4)), tmp_path / "one" / "labelsTr" / "a.nii.gz")
    (tmp_path / "two" / "a.nii.gz").symlink_to(tmp_path / "one" / "labelsTr" / "a.nii.gz")
    for again in ("one", "one/labelsTr", "two"):
        assert run("consensus", tmp_path / "one", tmp_path / again, "-o", tmp_path / "out") == 1
        assert "a.nii.gz: in two of the folders; a map counts once" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_what_cannot_be_used_is_refused(maps: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    with pytest.raises(NearError, match="1 label map; expected at least two"):
        near_monai.consensus(maps[:1], (1, 1, 1))
    with pytest.raises(NearError, match="label maps: no voxel has label 7; labels present: 9; choose one with which="):
        near_monai.consensus(maps, (1, 1, 1), which=7)
    with pytest.raises(NearError, match="grid"):
        near_monai.consensus([maps[0], maps[1][:-1]], (1, 1, 1))
    assert run("consensus", tmp_path, "-o", tmp_path / "out") == 1


def test_weight_follows_noise_and_agreement() -> None:
    grid = Grid((21, 21, 21), (1.0, 1.0, 1.0))
    one = np.zeros(grid.shape, bool)
    one[5:16, 5:16, 5:16] = True
    two = np.roll(one, 8, axis=0)
    total = np.sum([one, one, two], axis=0).astype(np.float32)
    good, bad = (agreement_nearby(mask, total, 3, grid)[10, 10, 10] for mask in (one, two))
    assert good > bad
    assert agreement_of(one, total, 3) > agreement_of(two, total, 3) >= 0.1
    assert agreement_of(one, 2 * one.astype(np.float32), 2) == 1
    p = [np.where(mask, 0.9, 0.1).astype(np.float32) for mask in (one, two)]
    at = (6, 10, 10)  # only the first map is there
    trusted = fused_odds([one, two], p, [0.01, 0.2], grid)[at]
    doubted = fused_odds([one, two], p, [0.2, 0.01], grid)[at]
    assert trusted > 0 > doubted


def test_disputes_are_places_beyond_the_wall() -> None:
    grid = Grid((30, 20, 20), (1.0, 1.0, 1.0))
    share = np.zeros(grid.shape, np.float32)
    share[2:12, 8:12, 8:12] = 1
    share[12, 8:12, 8:12] = 0.5  # a wall
    share[20:24, 8:12, 8:12] = 0.5
    kept = share > 0.4
    (place,) = disputes(share, kept, share, grid)
    assert place.kind == "kept" and place.volume_mm3 == 64
    (place,) = disputes(share, share > 0.9, share, grid)
    assert place.kind == "left out"
