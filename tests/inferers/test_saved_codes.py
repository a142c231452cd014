"""Codes as files: they redraw what they were made of, with the weights that made them and no others."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from near_monai.anatomy import by_name, row_of
from near_monai.data.class_selection import ALL
from near_monai.errors import NearError
from near_monai.formats.tensor_files import fingerprint_of, read_tensors, write_tensors
from near_monai.geometry.coordinates import Grid
from near_monai.inferers.decoding import decode
from near_monai.inferers.encoding import encode
from near_monai.inferers.saved_codes import SavedCode, load_code, redraw, save_code
from near_monai.networks.weight_files import load_network, read_weights, shipped, write_weights
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.options import Options
from near_monai.refinement.redrawing import redraw_files

AORTA, VEINS = by_name("aorta").index, by_name("pulmonary_veins").index


def voxels(path: Path) -> NDArray[Any]:
    return np.asarray(nib.nifti1.load(path).dataobj)


def make(path: Path, array: NDArray[np.uint8], spacing: float) -> None:
    affine = np.array([[-spacing, 0, 0, 31], [0, 0, spacing, -7], [0, spacing, 0, 80], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(array, affine), path)


@pytest.fixture(scope="module")
def vessel() -> NDArray[np.uint8]:
    """A large vessel, 20 mm thick at 1.2 mm, off the centre of its volume."""
    i, j, k = np.indices((40, 44, 48)) * 1.2
    thick = np.hypot(j - 30 - 3 * np.sin(i / 9), k - 22) < 10 + 0.6 * np.sin(i * 3 + j * 2 + k)
    return (thick & (i > 8) & (i < 40)).astype(np.uint8)


@pytest.mark.parametrize(("structure", "threshold"), [("aorta", 0.5), ("pulmonary_veins", 0.6)])
def test_redraws_with_the_weights_that_made_it(
    vessel: NDArray[np.uint8], structure: str, threshold: float, tmp_path: Path
) -> None:
    """Codes of all weights of one structure have equal shapes; their thresholds differ."""
    make(tmp_path / "a.nii.gz", vessel, 1.2)
    options = Options(device="cpu", structure=structure, save_codes=True, save_probability=True, clean=False)
    refine_files(tmp_path / "a.nii.gz", tmp_path / "out", options, quiet=True)
    code = tmp_path / "out" / "codes" / "a.safetensors"
    assert redraw_files(code, tmp_path / "drawn", None, None, "cpu") == 1
    drawn, probability = (voxels(tmp_path / name / "a.nii.gz") for name in ("drawn", "out/probability"))
    np.testing.assert_array_equal(drawn, probability > threshold)
    assert drawn.sum() > 0.8 * vessel.sum()
    one, other = (nib.nifti1.load(tmp_path / name / "a.nii.gz").affine for name in ("drawn", "out"))
    np.testing.assert_allclose(one, other, atol=1e-5)
    with pytest.raises(NearError, match=rf"was made with weights 8e7a6721825e \({structure}; 0.1.0\), and .*coronary"):
        redraw(code, shipped("coronary.safetensors"), device="cpu")
    assert redraw(code, "organs.safetensors", device="cpu")[0].shape == vessel.shape


def test_weights_that_are_not_shipped_have_to_be_given(vessel: NDArray[np.uint8], tmp_path: Path) -> None:
    make(tmp_path / "a.nii.gz", vessel, 1.2)
    state, description = read_weights(shipped("organs.safetensors"))
    assert description is not None
    own = replace(description, structures=(by_name("aorta"),))
    state["field.mlp.last.bias"] += 0.01
    write_weights(tmp_path / "own.safetensors", state, own)
    weights = str(tmp_path / "own.safetensors")
    refine_files(tmp_path / "a.nii.gz", tmp_path / "out", Options(weights=weights, save_codes=True), quiet=True)
    code = tmp_path / "out" / "codes" / "a.safetensors"
    assert load_code(code).structures[0].name == "aorta", "weights of one structure say what a single class is"
    with pytest.raises(NearError, match=r"which are not shipped; give their file with --weights"):
        redraw(code, device="cpu")
    assert redraw(code, weights, device="cpu")[0].max() > 0.5


def test_codes_of_all_classes_redraw_on_the_grid_of_the_file(tmp_path: Path) -> None:
    array = np.zeros((40, 30, 34), np.uint8)
    array[15:27, 8:22, 8:22], array[27:36, 8:22, 8:22] = 2, 3
    make(tmp_path / "a.nii.gz", array, 1.2)
    options = Options(ALL, "heart.safetensors", "cpu", save_codes=True)
    refine_files(tmp_path / "a.nii.gz", tmp_path / "out", options, quiet=True)
    assert redraw_files(tmp_path / "out" / "codes", tmp_path / "drawn", None, None, "cpu") == 1
    drawn = nib.nifti1.load(tmp_path / "drawn" / "a.nii.gz")
    assert drawn.shape == array.shape
    np.testing.assert_allclose(drawn.affine, nib.nifti1.load(tmp_path / "a.nii.gz").affine, atol=1e-5)
    refined = voxels(tmp_path / "out" / "a.nii.gz")
    both = (np.asarray(drawn.dataobj) == refined)[refined > 0]
    assert both.mean() > 0.9
    redraw_files(tmp_path / "out" / "codes", tmp_path / "cube", None, 24, "cpu")
    assert set(np.unique(voxels(tmp_path / "cube" / "a.nii.gz"))) >= {0, 2, 3}


@pytest.fixture(scope="module")
def saved() -> SavedCode:
    network, space = load_network(None, "cpu")
    grid = Grid((30, 24, 20), (0.45, 0.6, 0.8))
    mask = np.zeros(grid.shape, bool)
    mask[4:26, 8:14, 7:12] = True
    assert network.description is not None
    code = encode(mask, grid, network, space)
    return SavedCode((code,), np.diag([0.45, -0.6, 0.8, 1.0]), network.description, (by_name("coronary"),))


def test_file_holds_the_code_to_the_bit(saved: SavedCode, tmp_path: Path) -> None:
    save_code(tmp_path / "a.safetensors", saved)
    found = load_code(tmp_path / "a.safetensors")
    field = load_network(None, "cpu")[0].field
    one, other = (decode(code.codes[0], field, saved.reference) for code in (found, saved))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(found.affine, saved.affine)
    assert found.weights == saved.weights
    assert [row_of(row) for row in found.structures] == [row_of(row) for row in saved.structures]


def test_damaged_and_foreign_codes_get_one_line(saved: SavedCode, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_code(path, saved)
    tensors, text = read_tensors(path, "")
    content = json.loads(text)
    texts = [
        json.dumps(content | {"regions": [{"grid": [[1, 1], [1, 1], [0, 0]], "frame": None}]}),
        json.dumps(content | {"regions": []}),
        json.dumps(content | {"regions": content["regions"] * 2}),
        json.dumps(content | {"regions": [content["regions"][0] | {"frame": {"origin": [0, 0, 0]}}]}),
        json.dumps(content | {"reference": [[0, 1, 1], [1, 1, 1], [0, 0, 0]]}),
        json.dumps(content | {"affine": [[0] * 4] * 4}),
        json.dumps(content | {"structures": [{"name": "x"}]}),
        json.dumps(content | {"weights": {}}),
        json.dumps({key: content[key] for key in ("regions", "affine")}),
        "$x",
    ]
    for number, changed in enumerate(texts):
        write_tensors(tmp_path / f"{number}.safetensors", tensors, changed)
    for name, odd in {"nan": tensors | {"0.code0": tensors["0.code0"] * torch.nan}, "none": {}}.items():
        changed = json.dumps(content | {"fingerprint": fingerprint_of(odd)})
        write_tensors(tmp_path / f"{name}.safetensors", odd, changed)
    for number, at in enumerate((100, -10)):  # a digit of the text, a number
        damaged = bytearray(path.read_bytes())
        damaged[at] ^= 1
        (tmp_path / f"bent{number}.safetensors").write_bytes(damaged)
    (tmp_path / "short.safetensors").write_bytes(path.read_bytes()[:200])
    (tmp_path / "weights.safetensors").write_bytes(shipped("coronary.safetensors").read_bytes())
    path.unlink()
    names = [*(file.name for file in tmp_path.iterdir()), "absent.safetensors"]
    assert len(names) == 17
    for name in names:
        with pytest.raises(NearError, match=name) as error:
            load_code(tmp_path / name)
        assert "\n" not in str(error.value)


def test_codes_whose_shapes_do_not_fit_are_damaged(saved: SavedCode, tmp_path: Path) -> None:
    (code,) = saved.codes
    odd = replace(code, codes=(code.codes[0][:3], *code.codes[1:]))
    save_code(tmp_path / "a.safetensors", replace(saved, codes=(odd,)))
    with pytest.raises(NearError, match="damaged: its codes do not fit F"):
        redraw(tmp_path / "a.safetensors", device="cpu")
