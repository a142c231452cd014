"""Label maps in memory, as people have them: any type, any axes of one, values above 255."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from near_monai import NearError, NearWarning, refine
from near_monai.formats.arrays_in_memory import label_array
from near_monai.formats.given_images import label_map
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.options import Options

#: 3 x 4 x 5, no two axes alike, and nothing symmetric.
MAP = (np.arange(60).reshape(3, 4, 5) % 7 % 2).astype(np.uint8)
SPACING = (0.5, 0.4, 0.6)


@pytest.fixture(scope="module")
def vessel() -> NDArray[np.uint8]:
    i, j, k = (index * step for index, step in zip(np.indices((80, 28, 18)), SPACING, strict=True))
    rough = np.hypot(j - 5.5 - np.sin(i / 4), k - 5.5) + np.random.default_rng(0).normal(0, 0.3, i.shape)
    return ((rough < 1.6) & (i > 2) & (i < 35)).astype(np.uint8)


@pytest.mark.parametrize(
    "given",
    [
        MAP.astype(bool),
        *(MAP.astype(kind) for kind in ("i1", "u8", ">i4", ">f8", "f2", "i8")),
        np.asfortranarray(MAP),
        np.repeat(MAP, 2, 1)[:, ::2],
        MAP[::-1].copy()[::-1],
        MAP.tolist(),
        torch.from_numpy(MAP),
        torch.from_numpy(MAP).bool(),
        torch.from_numpy(MAP).bfloat16(),
        torch.from_numpy(MAP).double().requires_grad_(),
        nib.Nifti1Image(MAP, np.eye(4)).dataobj,
    ],
)
def test_every_kind_of_array(given: Any) -> None:
    found, ones = label_array(given)
    assert found.dtype == np.uint8 and ones == ()
    np.testing.assert_array_equal(found, MAP)


def test_what_is_given_is_not_written_to() -> None:
    given = MAP.copy()
    given.flags.writeable = False
    found, _ = label_array(given)
    found[:] = 9
    np.testing.assert_array_equal(given, MAP)


@pytest.mark.parametrize(
    ("given", "inner"),
    [
        (MAP[None], MAP),
        (MAP[None, None], MAP),
        (MAP[..., None], MAP),
        (MAP[None, ..., None], MAP),
        (MetaTensor(torch.from_numpy(MAP)[None]), MAP),
        (MAP[:, :, :1], MAP[:, :, :1]),  # one slice is a volume
        (MAP[None, :, :, :1], MAP[:, :, :1]),  # the channel goes first
    ],
)
def test_axes_of_one_come_back(given: Any, inner: NDArray[np.uint8]) -> None:
    found, ones = label_array(given)
    np.testing.assert_array_equal(found, inner)
    np.testing.assert_array_equal(np.expand_dims(found, ones), np.asarray(given))


@pytest.mark.parametrize(("value", "kind"), [(2, "u1"), (255, "u1"), (256, "u2"), (1000, "u2"), (65535, "u2")])
def test_values_up_to_16_bit(value: int, kind: str) -> None:
    found, _ = label_array(MAP.astype(np.int64) * value)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, MAP.astype(np.int64) * value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (MAP[:, None], r"label has shape \(3, 1, 4, 5\); expected three axes"),
        (np.stack([MAP, MAP]), r"label has shape \(2, 3, 4, 5\); expected three axes"),
        (MAP[0], r"label has shape \(4, 5\); expected three axes"),
        (MAP[:0], r"label has shape \(0, 4, 5\); expected three axes"),
        (MAP.astype(int) * 65536, r"label: labels from 0 to 65536; expected 0\.\.65535"),
        (-MAP.astype(int), "label: labels from -1 to 0"),
        (MAP * np.nan, "label: holds NaN or infinite values"),
        (MAP * 0.4, "label: holds 0.4, not a whole number"),
        (np.arange(6000).reshape(10, 20, 30), "label: holds 6000 different values; expected a label map"),
        (MAP.astype(complex), "label: pixel type complex128; expected one number per voxel"),
        (MAP.astype(object), "label: pixel type object"),
        ([[[1], [1, 0]]], r"label is a builtins\.list; expected an array"),
        ("a.nii.gz", "a.nii.gz: no such file"),
        (object(), r"label is a builtins\.object; expected an array \(X, Y, Z\), an image or a path"),
        (None, r"label is a builtins\.NoneType"),
        (nib.Nifti1Image(MAP, np.eye(4)), r"\(0\.5, 0\.4, 0\.6\), but the image says \(1\.0, 1\.0, 1\.0\) mm; leave"),
        (sitk.GetImageFromArray(MAP), r"but the image says \(1\.0, 1\.0, 1\.0\) mm"),
        (sitk.GetImageFromArray(MAP[0]), "label is a SimpleITK image of 2 dimensions; expected 3"),
    ],
)
def test_everything_else_is_refused_in_one_line(given: Any, said: str) -> None:
    with pytest.raises(NearError, match=said) as error:
        refine(given, SPACING)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore::near_monai.NearWarning")
@pytest.mark.parametrize(
    "stored",
    [
        lambda a: a[None],
        lambda a: a[..., None].astype(np.float32),
        lambda a: MetaTensor(torch.from_numpy(a)[None]),
        lambda a: a.astype(np.int64) * 850,
    ],
)
def test_refine_gives_back_what_it_got(vessel: NDArray[np.uint8], stored: Callable[[Any], Any]) -> None:
    """The same voxels, in the shape and with the value that came."""
    found, expected = refine(stored(vessel), SPACING), refine(vessel, SPACING)
    assert (expected != vessel).any()
    np.testing.assert_array_equal(found, np.asarray(stored(expected)))


@pytest.mark.filterwarnings("ignore::near_monai.NearWarning")
def test_images_and_files_know_their_spacing(vessel: NDArray[np.uint8], tmp_path: Path) -> None:
    expected = refine(vessel, SPACING)
    affine = np.diag([-0.5, 0.4, 0.6, 1.0])
    affine[:3, 3] = 10, 20, 30
    image = nib.Nifti1Image(vessel, affine)
    nib.save(image, tmp_path / "a.nii.gz")
    itk = sitk.ReadImage(tmp_path / "a.nii.gz")
    meta = MetaTensor(torch.from_numpy(vessel)[None], torch.from_numpy(affine))
    given = [image, tmp_path / "a.nii.gz", str(tmp_path / "a.nii.gz"), meta, itk]
    for label, turned in zip(given, [expected] * 3 + [expected[None], expected.T], strict=True):
        np.testing.assert_array_equal(refine(label), turned)
        np.testing.assert_allclose(label_map(label).affine[:3, 3], affine[:3, 3], rtol=1e-5)
    np.testing.assert_allclose(label_map(itk).affine, affine[:, [2, 1, 0, 3]], rtol=1e-5, atol=1e-5)
    with pytest.raises(NearError, match="an array without a spacing; give spacing="):
        refine(vessel)
    with pytest.raises(NearError, match=r"labels present: 1; choose one with which=$"):
        refine(image, which=9)


def test_details_are_those_of_the_command(vessel: NDArray[np.uint8], tmp_path: Path) -> None:
    torn = vessel.copy()
    torn[18:22] = 0
    torn[5, 24:26, 14:16] = 1
    nib.save(nib.Nifti1Image(torn, np.diag([-0.5, 0.4, 0.6, 1.0])), tmp_path / "a.nii.gz")
    with pytest.warns(NearWarning):
        found = refine(tmp_path / "a.nii.gz", return_details=True)
    (case,) = refine_files(tmp_path / "a.nii.gz", tmp_path / "out", Options(device="cpu"), quiet=True)["cases"]
    assert found.bridges and found.bridges == case["bridges"]
    assert found.findings == case["findings"] and found.warnings == case["warnings"]
    for folder, mask in (("", found.label), ("bridges", found.bridge_mask)):
        written = nib.nifti1.load(tmp_path / "out" / folder / "a.nii.gz")
        np.testing.assert_array_equal(np.asarray(written.dataobj), mask)
    assert found.bridge_mask.any() and not torn[found.bridge_mask].any()


def test_help_shows_an_example() -> None:
    assert "return_details=True" in (inspect.getdoc(refine) or "").partition("Example:")[2]


@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 4, 5, 6)])
def test_of_an_empty_map_an_empty_map_is_made(shape: tuple[int, ...]) -> None:
    """As the command does."""
    with pytest.warns(NearWarning, match="the label map is empty, and so is the result"):
        found = refine(np.zeros(shape), SPACING, which=6)
    assert found.shape == shape and not found.any()
