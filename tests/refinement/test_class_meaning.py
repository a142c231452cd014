"""One rule for what a class is, at every door; questions where nobody said it; and lengths that cannot be in mm."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from near_monai import NearError, NearWarning, anatomy, refine
from near_monai.anatomy import HEART, VESSEL, by_name
from near_monai.data.class_selection import ALL, AUTO, FOREGROUND, Selection, Wanted
from near_monai.geometry.boxes import Box
from near_monai.geometry.units import check_units
from near_monai.networks.weight_files import read_weights, shipped, write_weights
from near_monai.refinement.class_meaning import as_trained, meaning_of
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.options import Options
from near_monai.transforms.preprocessing import PickLabeld, PickStructuresd

HEART_TABLE = Path(anatomy.__file__).with_name("anatomy.yaml")
LIVER = (
    "- {index: 6, name: liver, components: 1, rank: 1, scale: 4}\n- {index: 9, name: vein, components: 1, rank: 2}\n"
)


@pytest.fixture(scope="module")
def two() -> NDArray[np.uint8]:
    """A noisy aorta and a noisy artery beside it."""
    i, j, k = np.indices((56, 44, 40)) * 0.9
    rough = np.random.default_rng(3).normal(0, 0.5, i.shape)
    inside = (i > 8) & (i < 42)
    array = np.zeros(i.shape, np.uint8)
    array[(np.hypot(j - 14, k - 16) + rough < 7) & inside] = 6
    array[(np.hypot(j - 30, k - 22) + rough < 2.2) & inside] = 9
    array[54, 42, 38], array[53, 3, 36] = 6, 9  # stray voxels
    return array


SPACING = (0.9, 0.9, 0.9)


def by_command(array: NDArray[np.uint8], folder: Path, options: Options) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    nib.save(nib.Nifti1Image(array, np.diag([*SPACING, 1.0])), folder / "a.nii.gz")
    output = folder / f"out_{len(list(folder.iterdir()))}"
    (case,) = refine_files(folder / "a.nii.gz", output, options, quiet=True)["cases"]
    assert case["status"] == "done", case
    return np.asarray(nib.nifti1.load(output / "a.nii.gz").dataobj), case


@pytest.mark.parametrize("which", [6, 9, AUTO])
def test_both_doors_take_a_class_for_the_same(two: NDArray[np.uint8], which: Wanted, tmp_path: Path) -> None:
    found, case = by_command(two, tmp_path, Options(which, device="cpu"))
    assert case["structure"] == ("aorta" if which == 6 else "coronary")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        np.testing.assert_array_equal(refine(two, SPACING, which, device="cpu"), found)
    assert [str(warning.message) for warning in told] == case["warnings"]
    assert np.count_nonzero(found != two)


@pytest.mark.parametrize("structure", [None, "aorta"])
def test_both_doors_take_a_single_class_for_the_same(
    two: NDArray[np.uint8], structure: str | None, tmp_path: Path
) -> None:
    alone = np.where(two == 9, two, 0).astype(np.uint8) // 9 * 6
    found, case = by_command(alone, tmp_path, Options(device="cpu", structure=structure))
    assert case["structure"] == (structure or VESSEL.name)
    np.testing.assert_array_equal(refine(alone, SPACING, structure=structure, device="cpu"), found)


def test_the_table_that_is_given_counts(two: NDArray[np.uint8], tmp_path: Path) -> None:
    table = tmp_path / "liver.yaml"
    table.write_text(LIVER)
    options = Options(6, device="cpu", table=str(table), weights="organs.safetensors")
    found, case = by_command(two, tmp_path, options)
    assert (case["structure"], case["scale"]) == ("liver", 4)
    assert "myocardium, left_atrium, left_ventricle and 6 more, not for liver" in case["warnings"][0]
    with pytest.warns(NearWarning, match="not for liver"):
        array = refine(two, SPACING, 6, "organs.safetensors", "cpu", table=table)
    np.testing.assert_array_equal(array, found)
    with pytest.raises(NearError, match=r"no coronary arteries; choose one with which=$"):
        refine(two, SPACING, table=table)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"label": 6}, "aorta"),
        ({"label": FOREGROUND}, "coronary"),
        ({"label": 6, "structure": "left_atrium"}, "left_atrium"),
    ],
)
def test_rule(two: NDArray[np.uint8], options: dict[str, Any], name: str) -> None:
    assert meaning_of(two, **options).name == name


def test_the_structure_that_is_given_is_looked_for(two: NDArray[np.uint8], tmp_path: Path) -> None:
    """Of several classes ``auto`` takes the one that the structure has in the table, and not the coronaries for it."""
    found, case = by_command(two, tmp_path, Options(device="cpu", structure="aorta"))
    assert (case["label"], case["structure"]) == (6, "aorta")
    np.testing.assert_array_equal(refine(two, SPACING, structure="aorta", device="cpu"), found)
    np.testing.assert_array_equal(found, refine(two, SPACING, 6, device="cpu"))
    with pytest.raises(NearError, match="no voxel has label 2; labels present: 6, 9"):
        refine(two, SPACING, structure="left_atrium")


def test_a_class_that_a_given_table_does_not_have_is_asked_for(two: NDArray[np.uint8], tmp_path: Path) -> None:
    table = tmp_path / "liver.yaml"
    table.write_text(LIVER)
    alone = (two == 6).astype(np.uint8)
    with pytest.raises(NearError, match="label 1 is not in the anatomy table; say what it is with structure="):
        refine(alone, SPACING, table=table)
    with pytest.warns(NearWarning, match="not for liver"):
        refine(alone, SPACING, structure="liver", table=table, weights="organs.safetensors")


def test_weights_of_one_structure_say_what_a_single_class_is(tmp_path: Path, two: NDArray[np.uint8]) -> None:
    state, description = read_weights(shipped("organs.safetensors"))
    assert description is not None
    own = replace(description, structures=(replace(by_name("aorta"), scale=3.0, threshold=0.4),))
    write_weights(tmp_path / "own.safetensors", state, own)
    alone = (two == 6).astype(np.uint8)
    found, case = by_command(alone, tmp_path, Options(device="cpu", weights=str(tmp_path / "own.safetensors")))
    assert (case["structure"], case["scale"], case["warnings"]) == ("aorta", 3.0, [])
    np.testing.assert_array_equal(refine(alone, SPACING, weights=tmp_path / "own.safetensors", device="cpu"), found)
    _, case = by_command(two, tmp_path, Options(9, device="cpu", weights=str(tmp_path / "own.safetensors")))
    assert case["structure"] == "coronary"
    assert case["warnings"][0] == "the weights are for aorta, not for coronary: is it the right file?"
    assert as_trained(by_name("coronary"), own) == by_name("coronary")
    assert as_trained(by_name("aorta"), own).scale == 3.0
    options = Options(6, device="cpu", weights=str(tmp_path / "own.safetensors"), table=str(HEART_TABLE))
    _, case = by_command(two, tmp_path, options)
    assert "were trained on aorta at scale 3, not 2" in case["warnings"][0]


def test_shipped_weights_of_organs_on_coronaries_are_warned_of(two: NDArray[np.uint8], tmp_path: Path) -> None:
    for options in (Options(9, "organs.safetensors", "cpu"), Options(AUTO, "organs.safetensors", "cpu")):
        _, case = by_command(two, tmp_path, options)
        assert "not for coronary: is it the right file?" in case["warnings"][0]


TOTALSEGMENTATOR = (1, 2, 5, 9, 51, 52)


@pytest.fixture
def torso() -> NDArray[np.uint8]:
    array = np.zeros((40, 40, 40), np.uint8)
    for number, index in enumerate(TOTALSEGMENTATOR):
        array[6 * number : 6 * number + 5, 10:30, 10:30] = index
    return array


QUESTION = (
    r"holds classes that the heart's table does not have \(51, 52\)"
    ".*(--label|which=) and (--|)structure=?, or with (--|)table"
)


@pytest.mark.parametrize("which", ["auto", 9])
def test_classes_outside_the_table_are_a_question(torso: NDArray[np.uint8], which: int | str) -> None:
    with pytest.raises(NearError, match=QUESTION) as error:
        refine(torso, SPACING, which, device="cpu")
    assert "\n" not in str(error.value)
    image = MetaTensor(torch.as_tensor(torso[None]), torch.eye(4))
    with pytest.raises(NearError, match=QUESTION):
        PickLabeld("image", which, "coronary")({"image": image})
    with pytest.raises(NearError, match=QUESTION):
        PickStructuresd("image")({"image": image})


@pytest.mark.parametrize("label", [AUTO, ALL, 9, 52])
def test_command_asks_the_same(torso: NDArray[np.uint8], label: int | Selection, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(torso, np.eye(4)), tmp_path / "a.nii.gz")
    (case,) = refine_files(tmp_path / "a.nii.gz", tmp_path / "out", Options(label, device="cpu"), quiet=True)["cases"]
    assert case["status"] == "failed"
    assert "the heart's table does not have (51, 52)" in case["message"]
    assert not (tmp_path / "out" / "a.nii.gz").exists()


def test_answers_to_the_question(torso: NDArray[np.uint8]) -> None:
    assert meaning_of(torso, 52, structure="aorta").name == "aorta"
    assert meaning_of(torso, 9, HEART).name == "coronary"
    with pytest.raises(NearError, match="label 52 is not in the anatomy table; say what it is with --structure"):
        meaning_of(torso, 52, HEART)


@pytest.mark.parametrize(("factor", "fits"), [(1e-3, False), (1, True), (10, False), (1000, False)])
def test_spacing_that_cannot_be_in_mm(factor: float, fits: bool, two: NDArray[np.uint8], tmp_path: Path) -> None:
    spacing = tuple(0.5 * factor for _ in range(3))
    array = (two == 9).astype(np.uint8)
    nib.save(nib.Nifti1Image(array, np.diag([*spacing, 1.0])), tmp_path / "a.nii.gz")
    (case,) = refine_files(tmp_path / "a.nii.gz", tmp_path / "out", Options(device="cpu"), quiet=True)["cases"]
    assert (case["status"] == "done") == fits
    if fits:
        refine(array, spacing, device="cpu")
        return
    with pytest.raises(NearError) as error:
        refine(array, spacing, device="cpu")
    for said in (str(error.value), case["message"]):
        assert "units" in said or "is the spacing in mm?" in said
        assert f"{spacing[0]:.4g}" in said


@pytest.mark.parametrize(
    ("shape", "spacing", "scale", "fits"),
    [
        ((200, 200, 150), (0.4, 0.4, 0.5), 1, True),
        ((1, 1, 1), (0.3, 0.3, 0.3), 1, True),
        ((1024, 1024, 900), (0.5, 0.5, 0.5), 1, True),  # stray voxels in opposite corners
        ((60, 60, 20), (0.8, 0.8, 5.0), 1, True),  # thick slices
        ((100, 100, 60), (3.0, 3.0, 3.0), 2, True),
        ((2000, 900, 900), (0.02, 0.02, 0.02), 1, True),  # micro-CT
        ((100, 100, 60), (4.0, 4.0, 5.0), 1, False),
        ((72, 36, 36), (0.005, 0.005, 0.005), 1, False),  # half a mm, in dm
        ((100, 100, 60), (0.03, 0.03, 0.03), 2, False),
        ((200, 200, 150), (4e-4, 4e-4, 5e-4), 1, False),
        ((200, 200, 150), (0.4e-3 * 2, 0.4e-3 * 2, 0.5e-3), 2, False),
        ((2000, 20, 15), (0.9, 0.9, 0.9), 1, False),
    ],
)
def test_plausible_sizes(shape: tuple[int, int, int], spacing: Any, scale: float, fits: bool) -> None:
    box = Box((0, 0, 0), shape)
    if fits:
        check_units(box, spacing, scale, "a")
        return
    with pytest.raises(NearError, match="is the spacing in mm") as error:
        check_units(box, spacing, scale, "a")
    assert "\n" not in str(error.value)


def test_python_warns_with_the_words_of_the_command(two: NDArray[np.uint8], tmp_path: Path) -> None:
    array = (two == 9).astype(np.uint8)
    _, case = by_command(array, tmp_path, Options(device="cpu", weights="organs.safetensors"))
    with pytest.warns(NearWarning) as told:
        refine(array, SPACING, weights="organs.safetensors", device="cpu")
    assert [str(warning.message) for warning in told] == case["warnings"]
    assert len(case["warnings"]) > 1
    assert {Path(warning.filename).name for warning in told} == {Path(__file__).name}
