"""What must not matter does not: margins, axes, strays, memory, file formats, threads; to the voxel."""

import itertools
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from near_monai import refine
from near_monai.data.class_selection import FOREGROUND, mask_of
from near_monai.datasets.coronary_cases import phantom_pair
from near_monai.formats.label_maps import SUFFIXES, LabelMap, read_label, write_label
from near_monai.formats.voxel_values import Labels
from near_monai.geometry.boxes import box_of
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.options import Options

Array = Labels
Spacing = tuple[float, float, float]
#: A stray voxel at least so many mm away must not matter.
FAR_MM = 25.0
AXES = (0, 1, 2)


def tube(
    shape: tuple[int, int, int], spacing: Spacing, ends: tuple[float, float], gap_mm: float, rough_mm: float
) -> Array:
    """A bent vessel of 3.2 mm with a rough wall, between ``ends`` in mm of the first axis, and one speck."""
    i, j, k = (index * step for index, step in zip(np.indices(shape), spacing, strict=True))
    length, wide, high = np.multiply(shape, spacing).tolist()
    bent = np.hypot(j - wide / 2 - 0.1 * wide * np.sin(i / 4), k - high / 2 - 0.1 * high * np.cos(i / 7))
    rough = bent + np.random.default_rng(3).normal(0, rough_mm, shape) < 1.6
    mask = rough & (i > ends[0]) & (i < ends[1]) & (abs(i - 0.55 * length) > gap_mm / 2)
    mask[shape[0] // 3, -5, -4] = True
    return mask.astype(np.uint8)


def tree() -> tuple[Array, Spacing]:
    """A part of a noisy coronary tree."""
    noisy, _, grid = phantom_pair(5, 1, "moderate", (0.8, 0.8, 0.9))
    thick = np.argwhere(noisy)[np.count_nonzero(noisy) // 2]
    part = noisy[tuple(slice(max(n - 20, 0), n + 20) for n in thick.tolist())]
    return np.pad(part, 8).astype(np.uint8), grid.spacing


CUT = ((0, 0), (8, 8), (8, 8))
#: Labels with 8 voxels of background or more around them; "cut" goes through both ends of the first axis.
LABELS: dict[str, Callable[[], tuple[Array, Spacing]]] = {
    "isotropic": lambda: (np.pad(tube((64, 28, 30), (0.5,) * 3, (2, 29), 2.4, 0.25), 8), (0.5,) * 3),
    "anisotropic": lambda: (np.pad(tube((70, 30, 22), (0.4, 0.45, 0.7), (2, 25), 1.6, 0.4), 8), (0.4, 0.45, 0.7)),
    "tree": tree,
    "cut": lambda: (np.pad(tube((50, 30, 24), (0.5, 0.4, 0.7), (-1, 99), 0, 0.3), CUT), (0.5, 0.4, 0.7)),
}
INSIDE = ("isotropic", "anisotropic", "tree")


@cache
def label_of(name: str) -> tuple[Array, Spacing]:
    return LABELS[name]()


@cache
def known(name: str) -> Array:
    """The result that every other way has to give."""
    return refine(*label_of(name))


def same(found: NDArray[np.generic], expected: NDArray[np.generic]) -> None:
    """Equal to the voxel, or how far from it."""
    assert found.shape == expected.shape
    differ = np.argwhere(found != expected)
    volumes = np.count_nonzero(found), np.count_nonzero(expected)
    assert not len(differ), f"{len(differ)} voxels differ, first {differ[:3].tolist()}; volumes {volumes}"


def examples(count: int) -> settings:
    """``count`` examples, the same in every run; they are small already, and to look for smaller ones takes minutes."""
    phases, slow = (Phase.generate,), (HealthCheck.too_slow,)
    return settings(
        max_examples=count, derandomize=True, deadline=None, database=None, phases=phases, suppress_health_check=slow
    )


def test_labels_are_worth_a_test() -> None:
    for name in LABELS:
        label, _ = label_of(name)
        changed = np.count_nonzero(known(name) != label)
        assert 0.01 < changed / np.count_nonzero(label) < 0.6, name


# Crops and padding


def cropped(label: Array, around: int) -> tuple[slice, slice, slice]:
    """The box of a label and voxels of background around it; faces that it touches stay where they are."""
    return box_of(label).grow(around, label.shape).slices()


@pytest.mark.parametrize("around", [1, 2, 6])
@pytest.mark.parametrize("name", LABELS)
def test_crop(name: str, around: int) -> None:
    label, spacing = label_of(name)
    box = cropped(label, around)
    same(refine(label[box], spacing), known(name)[box])


@examples(10)
@given(st.sampled_from(INSIDE), st.tuples(*(st.integers(0, 24),) * 6))
def test_pad(name: str, more: tuple[int, ...]) -> None:
    label, spacing = label_of(name)
    sides = list(zip(more[::2], more[1::2], strict=True))
    inside = tuple(slice(a, a + n) for (a, _), n in zip(sides, label.shape, strict=True))
    same(refine(np.pad(label, sides), spacing)[inside], known(name))


def test_pad_of_a_vessel_that_goes_on() -> None:
    label, spacing = label_of("cut")
    found = refine(np.pad(label, ((0, 0), (3, 11), (7, 0))), spacing)
    same(found[:, 3:-11, 7:], known("cut"))


# Axes


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1, 2)])
@pytest.mark.parametrize("name", ["isotropic", "cut"])
def test_flip(name: str, axes: tuple[int, ...]) -> None:
    label, spacing = label_of(name)
    same(np.flip(refine(np.flip(label, axes), spacing), axes), known(name))


@pytest.mark.parametrize("order", list(itertools.permutations(AXES))[1:])
@pytest.mark.parametrize("name", ["anisotropic", "cut"])
def test_axis_order(name: str, order: tuple[int, ...]) -> None:
    label, spacing = label_of(name)
    found = refine(label.transpose(order), [spacing[axis] for axis in order])
    same(found.transpose(np.argsort(order)), known(name))


# Spacing, threads and memory


@pytest.mark.parametrize("factor", [1 - 1e-9, 1 + 1e-9, (1 + 1e-9, 1.0, 1 - 1e-9)])
@pytest.mark.parametrize("name", LABELS)
def test_last_digit_of_the_spacing(name: str, factor: float | tuple[float, ...]) -> None:
    label, spacing = label_of(name)
    same(refine(label, np.multiply(spacing, factor)), known(name))


def test_spacing_as_a_float32_header_has_it() -> None:
    label, spacing = label_of("anisotropic")
    same(refine(label, np.asarray(spacing, np.float32)), known("anisotropic"))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", ["isotropic", "tree"])
def test_threads(name: str) -> None:
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append(refine(*label_of(name)))
    same(*results)


def test_memory_and_types() -> None:
    label, spacing = label_of("isotropic")
    wide = np.zeros(tuple(2 * n for n in label.shape), np.uint8)
    wide[::2, ::2, ::2] = label
    forms: list[NDArray[np.generic]] = [np.asfortranarray(label), wide[::2, ::2, ::2], label > 0]
    forms += [label.astype(np.float32), np.flip(np.flip(label, 0).copy(), 0), label.astype(">i2")]
    for form in forms:
        same(refine(form, spacing), known("isotropic"))


# Strays


@examples(6)
@given(st.sampled_from(INSIDE), st.integers(0, 99))
def test_stray_far_away(name: str, seed: int) -> None:
    label, spacing = label_of(name)
    margin = [int(np.ceil(FAR_MM / step)) + 1 for step in spacing]
    rng = np.random.default_rng(seed)
    sides = [(extra, 0) if before else (0, extra) for extra, before in zip(margin, rng.random(3) < 0.5, strict=True)]
    padded, expected = np.pad(label, sides), np.pad(known(name), sides)
    axis = int(rng.integers(3))  # far along one axis; anywhere along the others
    place = rng.integers(padded.shape)
    place[axis] = 0 if sides[axis][0] else padded.shape[axis] - 1
    padded[tuple(place)] = 1
    found = refine(padded, spacing)
    found[tuple(place)] = expected[tuple(place)]
    same(found, expected)


# Files


def save(path: Path, label: Array, affine: NDArray[np.float64]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_label(path, label, LabelMap.from_array(label, affine))
    return path


def results_of(source: Path, output: Path, workers: int = 1) -> dict[str, Array]:
    """The refined maps of a folder, by name without suffix."""
    run = refine_files(source, output, Options(device="cpu"), quiet=True, workers=workers)
    assert {row["status"] for row in run["cases"]} == {"done"}, run["cases"]
    files = [path for path in output.iterdir() if path.name.endswith(SUFFIXES)]
    return {path.name.split(".")[0]: read_label(path).array for path in files}


@pytest.mark.parametrize("name", ["isotropic", "cut"])
def test_file_formats(name: str, tmp_path: Path) -> None:
    label, spacing = label_of(name)
    affine = np.diag([*spacing, 1.0])
    for number, suffix in enumerate(SUFFIXES):
        save(tmp_path / "in" / f"f{number}{suffix}", label, affine)
    found = results_of(tmp_path / "in", tmp_path / "out")
    assert len(found) >= 4
    for array in found.values():
        same(array, known(name))


@pytest.mark.parametrize("name", ["anisotropic", "cut"])
def test_orientation_of_the_file(name: str, tmp_path: Path) -> None:
    """The same voxels in the same place of the world, stored along other axes."""
    label, spacing = label_of(name)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-30, 20, 7)
    codes = ("RAS", "LPS", "LAI", "SPR", "AIL", "IRP")
    for code in codes:
        turn = ornt_transform(io_orientation(affine), axcodes2ornt(code))
        image = nib.Nifti1Image(label, affine).as_reoriented(turn)
        (tmp_path / "in").mkdir(exist_ok=True)
        nib.save(image, tmp_path / "in" / f"{code}.nii.gz")
    found = results_of(tmp_path / "in", tmp_path / "out")
    assert set(found) == set(codes)
    for code, array in found.items():
        turn = ornt_transform(io_orientation(affine), axcodes2ornt(code))
        turned = affine @ inv_ornt_aff(turn, label.shape)
        back = ornt_transform(axcodes2ornt(code), io_orientation(affine))
        same(np.asarray(nib.Nifti1Image(array, turned).as_reoriented(back).dataobj), known(name))


def test_order_of_cases_and_workers(tmp_path: Path) -> None:
    names = ("isotropic", "anisotropic", "cut")
    for folder, ordered in (("one", names), ("two", names[::-1])):
        for number, name in enumerate(ordered):
            label, spacing = label_of(name)
            save(tmp_path / folder / f"{number}{name}.nii.gz", label, np.diag([*spacing, 1.0]))
    for folder, workers in (("one", 1), ("two", 2)):
        for name, array in results_of(tmp_path / folder, tmp_path / f"{folder}-{workers}", workers).items():
            same(array, known(name[1:]))


# Real maps


@pytest.fixture(
    scope="module",
    params=["imagecas/noisy/134.nii.gz", pytest.param("asoca/labels/Normal_1.nii.gz", marks=pytest.mark.slow)],
)
def real(request: pytest.FixtureRequest, data: Path) -> tuple[Array, Spacing, Array]:
    """A whole real map, its voxel size and its result."""
    file = read_label(data / request.param)
    mask = mask_of(file.array, FOREGROUND if request.param.startswith("asoca") else 9).astype(np.uint8)
    return mask, file.grid.spacing, refine(mask, file.grid.spacing)


def test_real_map_in_crop_and_pad(real: tuple[Array, Spacing, Array]) -> None:
    label, spacing, expected = real
    box = cropped(label, 1)
    same(refine(label[box], spacing), expected[box])
    same(refine(np.pad(label[box], 17), spacing)[(slice(17, -17),) * 3], expected[box])


def test_real_map_flipped_and_turned(real: tuple[Array, Spacing, Array]) -> None:
    label, spacing, expected = real
    box = cropped(label, 4)
    same(np.flip(refine(np.flip(label[box], 1), spacing), 1), expected[box])
    same(refine(label[box].transpose(2, 0, 1), [spacing[axis] for axis in (2, 0, 1)]).transpose(1, 2, 0), expected[box])


def test_real_map_with_strays(real: tuple[Array, Spacing, Array]) -> None:
    label, spacing, expected = real
    box = cropped(label, 4)
    margin = int(np.ceil(FAR_MM / min(spacing))) + 1
    padded, wanted = (np.pad(array[box], ((margin, margin), (0, 0), (0, 0))) for array in (label, expected))
    padded[0, 3, 5] = padded[-1, -9, -2] = 1
    found = refine(padded, spacing)
    found[0, 3, 5], found[-1, -9, -2] = wanted[0, 3, 5], wanted[-1, -9, -2]
    same(found, wanted)


@pytest.mark.usefixtures("threads")
def test_real_map_with_other_threads_and_spacing(real: tuple[Array, Spacing, Array]) -> None:
    label, spacing, expected = real
    box = cropped(label, 4)
    for count in (1, 2):
        torch.set_num_threads(count)
        same(refine(np.asfortranarray(label[box]), np.multiply(spacing, 1 + 1e-9)), expected[box])
