"""Smooth surfaces of bodies that are known: near to them, closed, outward, of the volume of the label, flat at ends."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree

import near_monai
from near_monai.cli import main
from near_monai.errors import NearError, NearWarning
from near_monai.exports.surface_files import Surface
from near_monai.geometry.coordinates import FloatArray, Grid
from near_monai.phantoms.exact_shapes import RoundCones

#: (start, end, radii) of round cones.
TUBE = [((0, 0, 0), (18, 5, 3), 1.5, 1.5)]
Y = [((0, 0, 0), (14, 0, 0), 2.2, 1.8), ((14, 0, 0), (26, 7, 2), 1.6, 1.2), ((14, 0, 0), (24, -9, 1), 1.2, 0.9)]
ARC = [
    (tuple(8 * np.array([np.cos(a), np.sin(a), 0])), tuple(8 * np.array([np.cos(b), np.sin(b), 0])), 1.2, 1.2)
    for a, b in zip(np.linspace(0, 4, 60)[:-1], np.linspace(0, 4, 60)[1:], strict=True)
]
BODIES = {"tube": TUBE, "torus piece": ARC, "Y": Y}
SPACINGS = [(0.5, 0.5, 0.5), (0.35, 0.35, 0.6), (0.7, 0.7, 0.5)]


def oblique(spacing: tuple[float, float, float], mirrored: bool = False) -> NDArray[np.float64]:
    affine = np.eye(4)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    affine[:3, :3] = rotation * (np.sign(np.linalg.det(rotation)) * np.asarray(spacing)) * [-1 if mirrored else 1, 1, 1]
    return affine


def away_from(body: list[tuple[tuple[float, ...], tuple[float, ...], float, float]], points: FloatArray) -> FloatArray:
    """Signed distance in mm of ``points (N, 3)``, by the nearest of many balls along the axes: crude."""
    share = np.linspace(0, 1, 400)[:, None]
    found = np.full(len(points), np.inf)
    for start, end, r0, r1 in body:
        way = np.subtract(end, start)
        length = np.linalg.norm(way)
        count = share[:: max(1, int(400 * 0.05 / length))] if length < 20 else share
        for place, radius in zip(start + count * way, r0 + (r1 - r0) * count[:, 0], strict=True):
            np.minimum(found, np.linalg.norm(points - place, axis=1) - radius, out=found)
    return found


def image_of(name: str, spacing: tuple[float, float, float], mirrored: bool = False) -> nib.Nifti1Image:
    """A body in a grid that is oblique to it."""
    parts = BODIES[name]
    start, end, r0, r1 = (np.array(column, float) for column in zip(*parts, strict=True))
    affine = oblique(spacing, mirrored)
    turn = affine[:3, :3] / np.asarray(spacing)
    number = np.arange(len(parts))
    cones = RoundCones(start @ turn, end @ turn, r0, r1, number, 0 * number)  # in the frame of the array
    low, high = cones.bounds()
    grid = Grid.of(np.ceil((high - low + 4) / spacing) + 1, spacing, low - 2)
    affine[:3, 3] = turn @ grid.origin
    return nib.Nifti1Image((cones.signed_distance(grid, 1.0) < 0).astype(np.uint8), affine)


def euler_if_closed(surface: Surface) -> int:
    """Euler characteristic; fails unless every edge has one face on either side, in opposite directions."""
    a, b, c = surface.faces.T
    directed = np.concatenate([np.stack(pair, 1) for pair in ((a, b), (b, c), (c, a))])
    assert len(np.unique(directed, axis=0)) == len(directed)
    edges, faces = np.unique(np.sort(directed, 1), axis=0, return_counts=True)
    assert (faces == 2).all()
    return len(surface.vertices) - len(edges) + len(surface.faces)


def volume_of(image: nib.Nifti1Image) -> float:
    return float(np.count_nonzero(image.dataobj) * abs(np.linalg.det(image.affine[:3, :3])))


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_bodies(name: str, spacing: tuple[float, float, float]) -> None:
    image = image_of(name, spacing)
    surface = near_monai.surface(image)
    assert euler_if_closed(surface) == 2
    assert surface.volume == pytest.approx(volume_of(image), rel=0.005), "positive: triangles look outward"
    assert len(surface.patch) == 0 and surface.patches == ()
    middles = surface.vertices[surface.faces].mean(1)
    apart = np.abs(away_from(BODIES[name], middles)) / np.mean(spacing)
    assert apart.mean() < 0.12 and np.quantile(apart, 0.99) < 0.5


def test_a_mirror_and_small_triangles() -> None:
    image = image_of("Y", (0.5, 0.5, 0.5), mirrored=True)
    coarse = near_monai.surface(image)
    fine = near_monai.surface(image, triangle=0.25)
    assert euler_if_closed(fine) == 2 and len(fine.faces) == 4 * len(coarse.faces)
    assert fine.volume == pytest.approx(volume_of(image), rel=0.005)
    edges = fine.vertices[fine.faces] - fine.vertices[np.roll(fine.faces, 1, axis=1)]
    assert np.linalg.norm(edges, axis=2).mean() <= 0.25


def normals(surface: Surface, chosen: NDArray[np.bool_]) -> FloatArray:
    a, b, c = surface.vertices[surface.faces[chosen]].transpose(1, 0, 2)
    return np.asarray(np.cross(b - a, c - a) / 2)


def test_caps_are_flat_and_at_right_angles() -> None:
    surface = near_monai.surface(image_of("Y", (0.4, 0.45, 0.6)), caps=True)
    assert euler_if_closed(surface) == 2
    assert surface.patches == ("inlet", "outlet", "outlet")
    for number, (start, end, radius) in enumerate(((Y[0][1], Y[0][0], 2.2), (Y[1][0], Y[1][1], 1.2), (*Y[2][:2], 0.9))):
        chosen = surface.patch == number + 1
        area = normals(surface, chosen)
        outward = area.sum(0) / np.linalg.norm(area.sum(0))
        corners = surface.vertices[np.unique(surface.faces[chosen])]
        assert np.ptp(corners @ outward) < 1e-9, "flat"
        way = np.subtract(end, start)
        assert outward @ way / np.linalg.norm(way) > np.cos(np.radians(10))
        assert np.linalg.norm(corners.mean(0) - end) < 1.2
        assert np.linalg.norm(area, axis=1).sum() == pytest.approx(np.pi * radius**2, rel=0.15)
    wall = surface.patch == 0
    assert (normals(surface, wall) ** 2).sum(1).min() > 0


def test_flow_extensions() -> None:
    image = image_of("tube", (0.5, 0.5, 0.5), mirrored=True)
    capped, longer = near_monai.surface(image, caps=True), near_monai.surface(image, extensions=5)
    assert euler_if_closed(longer) == 2 and longer.patches == ("inlet", "outlet")
    expected = 2 * np.pi * 1.5**2 * (5 * 2 * 1.5)
    assert longer.volume - capped.volume == pytest.approx(expected, rel=0.03)
    for number in (1, 2):
        cap, end = (s.vertices[np.unique(s.faces[s.patch == number])] for s in (capped, longer))
        area = normals(longer, longer.patch == number).sum(0)
        outward = area / np.linalg.norm(area)
        assert np.ptp(end @ outward) < 1e-9, "flat"
        assert (end.mean(0) - cap.mean(0)) @ outward == pytest.approx(15, rel=0.02)
        rim = np.linalg.norm(end - end.mean(0), axis=1).max()
        assert rim == pytest.approx(np.sqrt(np.linalg.norm(area) / np.pi), rel=0.03), "a circle of the same area"


def test_an_extension_stops_before_what_is_in_its_way() -> None:
    array = np.zeros((40, 24, 24), np.uint8)
    y, z = np.meshgrid(np.arange(24) - 11.5, np.arange(24) - 11.5, indexing="ij")
    array[5:25, np.hypot(y, z) < 3] = 1
    array[32:36, 2:-2, 2:-2] = 1
    with pytest.warns(NearWarning, match="extensions are short: vessels are in their way"):
        surface = near_monai.surface(array, (0.5, 0.5, 0.5), extensions=4)
    euler_if_closed(surface)
    ahead = max(surface.vertices[np.unique(surface.faces[surface.patch == n])][:, 0].mean() for n in (1, 2))
    assert 12.5 < ahead < 15.7, "the plate begins at 15.75 mm"


def test_what_is_no_end_stays_round() -> None:
    x, y, z = np.indices((90, 70, 16)) * 0.5 - np.array([24, 17, 3.7])[:, None, None, None]
    ring = np.hypot(np.hypot(x, y) - 11, z) < 1.5
    stem = (np.hypot(y, z) < 1.7) & (x < -9) & (x > -22)
    with pytest.warns(NearWarning, match="2 of 3 ends stay round"):  # where the loop was cut to make a tree
        surface = near_monai.surface((ring | stem).astype(np.uint8), (0.5, 0.5, 0.5), caps=True)
    assert euler_if_closed(surface) == 0, "a loop"
    assert surface.patches == ("inlet",)


def test_a_wall_for_printing() -> None:
    hollow = near_monai.surface(image_of("tube", (0.5, 0.5, 0.5)), wall=1.0)
    assert euler_if_closed(hollow) == 0, "open at both ends"
    one, other = (hollow.vertices[np.unique(hollow.faces[hollow.patch == n])].mean(0) for n in (1, 2))
    assert hollow.volume == pytest.approx(np.pi * (2.5**2 - 1.5**2) * np.linalg.norm(one - other), rel=0.02)
    middles = hollow.vertices[hollow.faces[hollow.patch == 0]].mean(1)
    away = away_from(BODIES["tube"], middles)
    outer = away > 0.5
    assert abs(away[outer].mean() - 1) < 0.05 and abs(away[~outer].mean()) < 0.05
    thick = cKDTree(middles[~outer]).query(middles[outer])[0]
    assert thick.min() > 0.97 and thick.max() < 1.1


def test_what_is_not_possible() -> None:
    image = image_of("tube", (0.5, 0.5, 0.5))
    with pytest.raises(NearError, match="one of the two"):
        near_monai.surface(image, wall=1.0, extensions=5)
    with pytest.raises(NearError, match=r"wall is 0\.1; expected at least 0\.2"):
        near_monai.surface(image, wall=0.1)


def test_what_is_too_small() -> None:
    array = np.zeros((8, 8, 8), np.uint8)
    array[4, 4, 4] = 1
    with pytest.raises(NearError, match="no vessel that is longer than wide"):
        near_monai.surface(array, (1, 1, 1), caps=True)
    with pytest.raises(NearError, match=r"triangle is 0\.001"):
        near_monai.surface(image_of("tube", (0.5, 0.5, 0.5)), triangle=0.001)
    with pytest.raises(NearError, match="empty"):
        near_monai.surface(0 * array, (1, 1, 1))


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def test_command(tmp_path: Path) -> None:
    image = image_of("tube", (0.6, 0.6, 0.6))
    nib.save(image, tmp_path / "a.nii.gz")
    for options in (["--smooth"], ["--caps", "--triangle", "0.4"]):
        out = tmp_path / options[0]
        assert run("surface", tmp_path / "a.nii.gz", "-o", out, *options, "--format", "vtp", "--quiet") == 0
        text = (out / "a.vtp").read_text()
        assert ">82 65 83 0<" in text and "NumberOfPolys" in text
        assert ("PatchNames" in text) == ("--caps" in options)
    assert run("surface", tmp_path / "a.nii.gz", "-o", tmp_path / "stl", "--smooth", "--quiet") == 0
    assert b"SPACE=RAS" in (tmp_path / "stl" / "a.stl").read_bytes()[:80]
    assert run("surface", tmp_path / "a.nii.gz", "-o", tmp_path / "x", "--triangle", "0") == 2
