"""Joints: their course follows the vessel, their features follow from shape, and turning everything changes nothing."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid
from near_monai.repair.courses import Course
from near_monai.repair.joints import FEATURES, REACH_MM, Joint, Pieces, find_joints

GRID = Grid((110, 110, 40), (0.5, 0.5, 0.5))
X, Y, Z = np.indices(GRID.shape) * 0.5


def ring(start: float, stop: float, radius: float = 22.0) -> NDArray[np.bool_]:
    """A vessel of 3 mm that runs on a circle, between two angles in degrees."""
    angle = np.degrees(np.arctan2(Y - 3, X - 3))
    away = np.hypot(np.hypot(X - 3, Y - 3) - radius, Z - 10)
    return np.asarray((away <= 1.5) & (angle >= start) & (angle <= stop))


def joints_of(mask: NDArray[np.bool_], likely: float = 0.2, grid: Grid = GRID) -> list[Joint]:
    return find_joints(Pieces.of(Components.of(mask), np.full(mask.shape, likely, np.float32), grid))


def test_a_course_between_ends_in_line_is_straight() -> None:
    x = np.array([1.0, 0, 0])
    course = Course.between(np.zeros(3), 6 * x, x, x)
    np.testing.assert_allclose(course.points[:, 1:], 0)
    assert course.length_mm == pytest.approx(6) and (np.diff(course.points[:, 0]) > 0).all()
    unknown = Course.between(np.zeros(3), 6 * x, np.zeros(3), np.zeros(3))
    np.testing.assert_allclose(unknown.points, course.points)


def test_a_course_follows_the_bend_of_the_vessel() -> None:
    mask = ring(10, 35) | ring(62, 85)  # a gap of about 10 mm on a bend of 22 mm
    joint = min(joints_of(mask), key=lambda joint: joint.gap_mm)
    middle = joint.course.points[len(joint.course.points) // 2]
    straight = (joint.course.points[0] + joint.course.points[-1]) / 2
    off = [abs(np.hypot(*(point[:2] - 3)) - 22.0) for point in (middle, straight)]
    assert off[0] < 0.6 < off[1]
    box, tube = joint.course.tube(joint.radii, GRID)
    whole = mask.copy()
    whole[box.slices()] |= tube
    assert ndimage.label(whole, np.ones((3, 3, 3)))[1] == 1
    assert np.mean(ring(5, 90, 22.0)[whole]) > 0.9


def test_features_say_what_the_shape_is() -> None:
    (joint, *_) = joints_of(ring(10, 40) | ring(55, 85))
    said = dict(zip(FEATURES, joint.features, strict=True))
    assert said["gap"] == joint.gap_mm == pytest.approx(np.radians(15) * 22, abs=2)  # centrelines stop before flat ends
    assert said["cosine own"] > 0.9 and said["cosine other"] > 0.9 and said["other is an end"] == 1
    assert said["own radius"] == pytest.approx(1.4, abs=0.3) and abs(said["log radii"]) < 0.1
    assert said["log F mean"] == pytest.approx(np.log(0.2)) and said["F own"] == pytest.approx(0.2)
    assert np.isfinite(joint.features).all()


def test_nothing_is_joined_beyond_reach_or_alone() -> None:
    assert joints_of(ring(10, 40)) == []
    far = np.degrees((REACH_MM + 5) / 22)
    assert joints_of(ring(5, 25) | ring(25 + far, 85)) == []


def test_vessels_that_leave_the_volume_are_not_joined_at_its_border() -> None:
    mask = ring(5, 85) & (Z < 10)  # the upper half of a vessel that runs in the last slices
    mask &= (np.hypot(X - 20, Y - 20) > 4) & (Z > 8)
    free = joints_of(mask)
    assert free and not joints_of(mask[:, :, :20], grid=Grid((110, 110, 20), GRID.spacing))


def test_a_blob_has_no_direction_and_can_be_joined() -> None:
    blob = (
        np.sqrt((X - 3 - 22 * np.cos(np.radians(55))) ** 2 + (Y - 3 - 22 * np.sin(np.radians(55))) ** 2 + (Z - 10) ** 2)
        < 1
    )
    joints = joints_of(ring(10, 42) | blob)
    assert joints and all(np.isfinite(joint.features).all() for joint in joints)
