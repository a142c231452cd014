"""Phantoms: signed distances against closed forms and crude evaluation; trees against measured anatomy."""

from functools import cache

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation
from skimage.measure import euler_number

from near_monai.anatomy import CORONARY
from near_monai.errors import NearError
from near_monai.geometry.coordinates import FloatArray, Grid
from near_monai.phantoms.coronary import coronary_tree
from near_monai.phantoms.exact_shapes import NamedShape, Phantom, RoundCones

GRID = Grid((17, 22, 13), (0.7, 0.5, 1.1), (-4.0, -6.5, -5.0))
TREES = 40


def cones(start: object, end: object, r0: object, r1: object) -> RoundCones:
    """Round cones of one branch from lists."""
    first, last = np.reshape(np.asarray(start, float), (-1, 3)), np.reshape(np.asarray(end, float), (-1, 3))
    zeros = np.zeros(len(first), int)
    return RoundCones(first, last, np.ravel(np.asarray(r0, float)), np.ravel(np.asarray(r1, float)), zeros, zeros)


def random_cones(seed: int, count: int = 12) -> RoundCones:
    """Cones of all kinds, some with one ball inside the other."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(-4, 4, (count, 3))
    return cones(start, start + rng.normal(0, 1, (count, 3)), *rng.uniform(0.3, 1.8, (2, count)))


def crude(shape: RoundCones, points: FloatArray) -> FloatArray:
    """Distance to many balls along every axis: an upper bound that converges to the distance to the hull."""
    t = np.linspace(0, 1, 401)[:, None, None]
    best = np.full(len(points), np.inf)
    for a, b, r0, r1 in zip(shape.start, shape.end, shape.r0, shape.r1, strict=True):
        away = np.linalg.norm(points - (a + t * (b - a)), axis=-1) - (r0 + t[..., 0] * (r1 - r0))
        best = np.minimum(best, away.min(0))
    return best


def at(shape: RoundCones, points: object, truncate: float = 1e3) -> FloatArray:
    """Signed distance at single points: grids of one voxel."""
    rows = np.reshape(np.asarray(points, float), (-1, 3)).tolist()
    grids = (Grid((1, 1, 1), (1.0, 1.0, 1.0), (x, y, z)) for x, y, z in rows)
    return np.array([shape.signed_distance(grid, truncate).item() for grid in grids])


def tree_shape(seed: int, wall: float = 0.0) -> RoundCones:
    shape = coronary_tree(np.random.default_rng(seed), wall=wall).parts[0].shape
    assert isinstance(shape, RoundCones)
    return shape


@cache
def trees() -> list[RoundCones]:
    return [tree_shape(seed) for seed in range(TREES)]


def lengths(shape: RoundCones) -> FloatArray:
    return np.linalg.norm(shape.end - shape.start, axis=1)


@pytest.mark.parametrize(("end", "r1"), [([1.0, 2.0, 3.0], 1.5), ([1.3, 2.2, 3.1], 0.2), ([1.0, 2.0, 3.0], 0.3)])
def test_a_cone_that_is_one_ball_is_a_sphere(end: list[float], r1: float) -> None:
    points = np.random.default_rng(0).uniform(-5, 8, (200, 3))
    found = at(cones([1.0, 2.0, 3.0], end, 1.5, r1), points)
    np.testing.assert_allclose(found, np.linalg.norm(points - [1, 2, 3], axis=1) - 1.5, atol=1e-6)


def test_equal_radii_make_a_capsule() -> None:
    points = np.random.default_rng(1).uniform(-6, 6, (200, 3))
    along = np.clip(points[:, 1], -1, 2)
    expected = np.linalg.norm(points - along[:, None] * [0, 1, 0], axis=1) - 0.8
    np.testing.assert_allclose(at(cones([0, -1, 0], [0, 2, 0], 0.8, 0.8), points), expected, atol=1e-6)


def test_the_flank_is_a_cone_tangent_to_both_balls() -> None:
    # sin(alpha) = (2 - 0.5) / 3 = 1/2: beside the axis the surface is the plane x sin 30 + q cos 30 = 2.
    points = np.array([[2.5, 3.0, 0.0], [2.0, 0.0, 1.8], [1.6, 0.9, 0.0], [-3.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    across = np.linalg.norm(points[:3, 1:], axis=1)
    expected = [*(points[:3, 0] * 0.5 + across * np.sqrt(0.75) - 2), 1.0, -0.5]
    np.testing.assert_allclose(at(cones([0, 0, 0], [3, 0, 0], 2, 0.5), points), expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_many_balls(seed: int) -> None:
    shape = random_cones(seed, 5)
    points = np.random.default_rng(seed).uniform(-7, 7, (300, 3))
    found = at(shape, points)
    difference = crude(shape, points) - found
    assert difference.min() > -1e-6 and difference.max() < 1e-3


def test_rotation_does_not_matter() -> None:
    shape, turn = random_cones(5), Rotation.from_rotvec([0.4, -1.2, 0.7])
    turned = cones(turn.apply(shape.start), turn.apply(shape.end), shape.r0, shape.r1)
    points = np.random.default_rng(2).uniform(-7, 7, (300, 3))
    np.testing.assert_allclose(at(turned, turn.apply(points)), at(shape, points), atol=1e-6)


@pytest.mark.parametrize("truncate", [0.4, 50.0])
def test_boxes_give_what_all_cones_at_all_points_give(truncate: float) -> None:
    shape = random_cones(6)  # some cones stick out of the grid
    points = GRID.to_mm(np.moveaxis(np.indices(GRID.shape), 0, -1))
    expected = np.clip(crude(shape, points.reshape(-1, 3)), -truncate, truncate).reshape(GRID.shape)
    found = shape.signed_distance(GRID, truncate)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_points_and_grid_agree_on_a_tree() -> None:
    phantom = coronary_tree(np.random.default_rng(3))
    grid = phantom.grid((1.3, 0.9, 1.7), 2.0)
    voxel = np.random.default_rng(4).integers(0, grid.shape, (600, 3))
    shape = phantom.parts[0].shape
    assert isinstance(shape, RoundCones)
    expected = at(shape, grid.to_mm(voxel), 3.0)
    np.testing.assert_allclose(shape.signed_distance(grid, 3.0)[tuple(voxel.T)], expected, atol=1e-5)


def test_resolution_does_not_matter() -> None:
    shape = random_cones(7)
    fine = Grid((33, 43, 25), (0.35, 0.25, 0.55), GRID.origin)
    np.testing.assert_array_equal(shape.signed_distance(fine, 2.0)[::2, ::2, ::2], shape.signed_distance(GRID, 2.0))


def test_bounds_touch_the_surface_and_the_grid_covers_them() -> None:
    shape = cones([0, 0, 0], [4, 0, -1], 1.0, 0.5)
    low, high = shape.bounds()
    np.testing.assert_allclose([low, high], [[-1, -1, -1.5], [4.5, 1, 1]])
    grid = Phantom((NamedShape("tube", 3, shape),)).grid((0.4, 0.7, 1.1), 1.5)
    np.testing.assert_allclose(grid.origin, low - 1.5)
    last = grid.to_mm(np.asarray(grid.shape) - 1)
    assert np.all(last >= high + 1.5 - 1e-9) and np.all(last < high + 1.5 + 2 * np.asarray(grid.spacing))


def test_parts_of_a_label_are_united_and_others_ignored() -> None:
    one, two, three = (cones([x, 0, 0], [x, 1, 0], 1.0, 1.0) for x in (-3.0, 0.0, 3.0))
    phantom = Phantom((NamedShape("a", 2, one), NamedShape("b", 5, two), NamedShape("c", 2, three)))
    expected = np.minimum(one.signed_distance(GRID, 2.0), three.signed_distance(GRID, 2.0))
    np.testing.assert_array_equal(phantom.signed_distance(GRID, 2.0, 2), expected)
    np.testing.assert_allclose(phantom.bounds(), [[-4, -1, -1], [4, 2, 1]])


def test_unusable_input_is_refused() -> None:
    shape = random_cones(8)
    with pytest.raises(NearError, match="no part has label 4"):
        Phantom((NamedShape("a", 2, shape),)).signed_distance(GRID, 1.0, 4)
    with pytest.raises(NearError, match="at least one part"):
        Phantom(())
    with pytest.raises(NearError, match="truncate must be positive"):
        shape.signed_distance(GRID, 0.0)
    with pytest.raises(NearError, match="radius must be positive"):
        cones([0, 0, 0], [1, 0, 0], 1.0, 0.0)
    with pytest.raises(NearError, match="expected"):
        cones(np.empty((0, 3)), np.empty((0, 3)), [], [])


def test_a_seed_fixes_the_tree() -> None:
    one, two, other = tree_shape(11), tree_shape(11), tree_shape(12)
    for name in ("start", "end", "r0", "r1", "branch", "side"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.start.shape != other.start.shape or not np.array_equal(one.start, other.start)


def test_branches_are_chains_of_short_cones() -> None:
    for shape in trees():
        same = np.diff(shape.branch) == 0
        np.testing.assert_array_equal(shape.start[1:][same], shape.end[:-1][same])
        np.testing.assert_array_equal(shape.r0[1:][same], shape.r1[:-1][same])
        assert lengths(shape).min() > 0.4 and lengths(shape).max() < 1.0
        assert min(shape.r0.min(), shape.r1.min()) >= 0.4


def test_lengths_are_those_of_real_trees() -> None:
    total = np.array([[lengths(s)[s.side == side].sum() for side in (0, 1)] for s in trees()]).ravel()
    assert 240 < np.median(total) < 330
    assert total.min() > 20 and total.max() < 716
    main = [lengths(s)[s.branch == 0].sum() for s in trees()]
    assert 7.5 < np.median(main) < 9.5 and min(main) > 5.5 and max(main) < 12.5


def test_branches_per_side_are_those_of_real_trees() -> None:
    # n branches that fork off one another have n - 1 forks; the left main ends in one, so n branches ~ n - 2 there.
    forks = [len(np.unique(s.branch[s.side == side])) - (2 if side == 0 else 1) for s in trees() for side in (0, 1)]
    assert 2 <= np.median(forks) <= 4 and min(forks) >= 0 and max(forks) <= 10


def test_calibres_are_those_of_real_lumina() -> None:
    """Dodge et al. 1992 for men; half of the phantoms are women, 9 % thinner: 0.955 on average."""
    found: dict[str, list[float]] = {"LM": [], "LAD": [], "distal": []}
    for shape in trees():
        lad = shape.branch == 1
        if lengths(shape)[lad].sum() < 90:  # its annotation stopped early
            continue
        found["LM"].append(2 * float(np.median(shape.r0[shape.branch == 0])))
        found["LAD"].append(2 * float(np.median(shape.r0[lad][:15])))
        found["distal"].append(2 * float(np.median(shape.r0[lad][-10:])))
    for name, mean, deviation in (("LM", 4.5, 0.5), ("LAD", 3.7, 0.4), ("distal", 1.9, 0.4)):
        assert abs(np.mean(found[name]) - 0.955 * mean) < deviation, name
        assert deviation / 2 < np.std(found[name]) < 2.5 * deviation, name


def test_the_wall_thickens_every_vessel_alike() -> None:
    thin, thick = tree_shape(0), tree_shape(0, wall=0.5)
    added = thick.r0[thick.branch == 0] - thin.r0[thin.branch == 0]
    assert 0 < added[0] <= 1.0
    np.testing.assert_allclose(added, added[0])


def test_two_trees_that_do_not_touch() -> None:
    rings = []
    for seed in range(6):
        phantom = coronary_tree(np.random.default_rng(seed))
        inside = phantom.signed_distance(phantom.grid((0.5, 0.5, 0.5), 1.0), 0.5, CORONARY) < 0
        pieces = ndimage.label(inside, np.ones((3, 3, 3)))[1]
        cavities = ndimage.label(~inside)[1] - 1
        rings.append(pieces + cavities - euler_number(inside, connectivity=3))
        assert pieces == 2
    assert max(rings) <= 1  # a hairline crevice of an acute fork on the voxel grid; the curves have no rings


@pytest.mark.parametrize("seed", range(8))
def test_the_two_trees_keep_their_distance(seed: int) -> None:
    shape = tree_shape(seed, wall=0.5)
    right = shape.side == 1
    left = RoundCones(**{n: getattr(shape, n)[~right] for n in ("start", "end", "r0", "r1", "branch", "side")})
    assert (at(left, shape.start[right], 5.0) - shape.r0[right]).min() > 1.5
