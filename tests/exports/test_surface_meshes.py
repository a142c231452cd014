"""Surfaces: closed, outward, in the right place, of the right volume, and readable as the formats say."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from near_monai.cli import main
from near_monai.datasets.coronary_cases import phantom_pair
from near_monai.errors import NearError
from near_monai.exports.surface_files import Surface
from near_monai.exports.surface_meshes import surface_of


def affine_of(spacing: tuple[float, float, float], mirrored: bool = False) -> NDArray[np.float64]:
    """An oblique affine."""
    affine = np.eye(4)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    affine[:3, :3] = rotation * (np.sign(np.linalg.det(rotation)) * np.asarray(spacing)) * [-1 if mirrored else 1, 1, 1]
    affine[:3, 3] = [-30, 12.5, 700]
    return affine


def ball(radius: float, spacing: tuple[float, float, float]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """A ball and its centre in voxels."""
    shape = [int(2 * (radius + 1) / s) + 2 for s in spacing]
    centre = (np.array(shape) - 1) / 2 + 0.2
    offsets = (np.moveaxis(np.indices(shape), 0, -1) - centre) * spacing
    return np.linalg.norm(offsets, axis=-1) < radius, centre


def euler_if_closed(surface: Surface) -> int:
    """Euler characteristic; fails unless every edge has one face on either side, in opposite directions."""
    a, b, c = surface.faces.T
    directed = np.concatenate([np.stack(pair, 1) for pair in ((a, b), (b, c), (c, a))])
    assert len(np.unique(directed, axis=0)) == len(directed)
    edges, faces = np.unique(np.sort(directed, 1), axis=0, return_counts=True)
    assert (faces == 2).all()
    return len(surface.vertices) - len(edges) + len(surface.faces)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.4, 0.5, 0.9)])
def test_ball_is_a_ball_in_the_world(spacing: tuple[float, float, float], mirrored: bool) -> None:
    mask, centre = ball(6.0, spacing)
    affine = affine_of(spacing, mirrored)
    surface = surface_of(mask, affine)
    assert euler_if_closed(surface) == 2
    assert surface.volume == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.02)
    radius = np.linalg.norm(surface.vertices - apply_affine(affine, centre), axis=1)
    np.testing.assert_allclose(radius, 6, atol=0.4 * max(spacing))  # a staircase would be half a voxel off
    assert radius.std() < 0.12 * max(spacing)


def test_vessels_keep_their_volume() -> None:
    _, truth, grid = phantom_pair(5, 2, "moderate")
    surface = surface_of(truth, np.diag([*grid.spacing, 1.0]))
    assert euler_if_closed(surface) == 4  # two trees without a loop
    assert surface.volume == pytest.approx(np.count_nonzero(truth) * grid.voxel_volume, rel=0.005)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 6, 9), (4, 5, 6)])
def test_what_fills_its_volume_is_closed_all_the_same(shape: tuple[int, int, int]) -> None:
    surface = surface_of(np.ones(shape, bool), np.diag([1.0, 1.0, 2.0, 1.0]))
    assert euler_if_closed(surface) == 2
    assert 0.3 * np.prod(shape) * 2 < surface.volume < 1.2 * np.prod(shape) * 2
    with pytest.raises(NearError, match="mask is empty"):
        surface_of(np.zeros(shape, bool), np.eye(4))


def read_stl(path: Path) -> tuple[bytes, NDArray[np.float32]]:
    content = path.read_bytes()
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("spare", "<u2")])
    records = np.frombuffer(content, record, offset=84)
    assert len(records) == int.from_bytes(content[80:84], "little")
    return content[:80], records["corners"]


def read_ply(path: Path) -> tuple[bytes, NDArray[np.float32]]:
    header, _, body = path.read_bytes().partition(b"end_header\n")
    counts = {words[1]: int(words[2]) for words in map(bytes.split, header.splitlines()) if words[0] == b"element"}
    vertices = np.frombuffer(body, "<f4", 3 * counts[b"vertex"]).reshape(-1, 3)
    records = np.frombuffer(body, [("count", "u1"), ("face", "<i4", 3)], offset=vertices.nbytes)
    assert len(records) == counts[b"face"] and (records["count"] == 3).all()
    return header, vertices[records["face"]]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def test_every_class_has_its_surface(tmp_path: Path) -> None:
    array = np.zeros((30, 20, 20), np.uint8)
    array[4:12, 4:12, 4:12], array[18:26, 4:12, 4:12] = 6, 9
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "heart.nii.gz")
    array[1, 1, 1] = 77
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "other.nii.gz")
    assert run("surface", tmp_path, "-o", tmp_path / "out", "--quiet") == 0
    names = {"heart_aorta", "heart_coronary", "other_6", "other_9", "other_77"}
    assert {path.stem for path in (tmp_path / "out").iterdir()} == names, "names of a table that has not all are none"
    assert run("surface", tmp_path / "heart.nii.gz", "-o", tmp_path / "one", "--label", 6, "--quiet") == 0
    _, corners = read_stl(tmp_path / "one" / "heart.stl")
    np.testing.assert_array_equal(corners, read_stl(tmp_path / "out" / "heart_aorta.stl")[1])


def test_files_hold_the_surface_and_its_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask, _ = ball(4.0, (0.8, 0.8, 1.0))
    affine = affine_of((0.8, 0.8, 1.0), mirrored=True)
    nib.save(nib.Nifti1Image(mask.astype(np.uint8) * 9, affine), tmp_path / "a.nii.gz")
    expected = surface_of(mask, affine)
    for kind, read in (("stl", read_stl), ("ply", read_ply)):
        assert run("surface", tmp_path / "a.nii.gz", "-o", tmp_path / "out", "--format", kind, "--quiet") == 0
        header, corners = read(tmp_path / "out" / f"a.{kind}")
        assert b"SPACE=RAS" in header
        np.testing.assert_allclose(corners, expected.vertices[expected.faces], atol=1e-4)
    nib.save(nib.Nifti1Image(np.zeros_like(mask, np.uint8), affine), tmp_path / "empty.nii.gz")
    (tmp_path / "bad.nii.gz").write_bytes(b"nothing")
    assert run("surface", tmp_path, "-o", tmp_path / "more", "--quiet") == 1
    said = capsys.readouterr().err
    assert "1 of 3 cases failed: bad" in said and "empty: the label map is empty, and has no surface" in said
    assert [path.name for path in (tmp_path / "more").iterdir()] == ["a.stl"]
    assert run("surface", tmp_path / "a.nii.gz", "-o", tmp_path / "more", "--quiet") == 1
    assert "is there already" in capsys.readouterr().err
    assert run("surface", tmp_path, "-o", tmp_path / "more", "--format", "obj") == 2
