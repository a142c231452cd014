"""What does not fit a set is found, and what fits is not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from near_monai.audit.case_geometry import geometry_of, picture_of, unpacked
from near_monai.audit.set_checks import FEWEST, robust, said, set_remarks, set_weight, turned, turns
from near_monai.formats.label_maps import LabelMap

Array = NDArray[np.uint8]
COUNT = 24


def corner(number: int) -> Array:
    """Three arms of different lengths, each case a little different."""
    rng = np.random.default_rng(number)
    array = np.zeros((44, 44, 44), np.uint8)
    a, b, c = rng.integers(-2, 3, 3).tolist()
    array[6 : 38 + a, 6:10, 6:10] = 9
    array[6:10, 6 : 26 + b, 6:9] = 9
    array[6:9, 6:9, 6 : 18 + c] = 9
    return array


def geometry(array: Array, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> dict[str, Any]:
    file = LabelMap.from_array(array, np.diag([*spacing, 1.0]))
    labels = sorted(set(np.unique(array).tolist()) - {0})
    found = geometry_of(file, {label: np.argwhere(array == label) for label in labels})
    for row in found["classes"].values():
        row["components"] = 1
    return found


def clean() -> dict[str, dict[str, Any]]:
    return {str(number): geometry(corner(number)) for number in range(COUNT)}


@pytest.fixture(scope="module")
def cases() -> dict[str, dict[str, Any]]:
    return clean()


def test_nothing_is_said_of_cases_that_fit(cases: dict[str, dict[str, Any]]) -> None:
    different = {case["content"]: name for name, case in cases.items()}  # the tiny set has copies
    only = {name: cases[name] for name in different.values()}
    assert [name for name, remarks in set_remarks(only).items() if said(remarks)] == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda a: geometry(a[::-1].copy()), "mirrored left-right"),
        (lambda a: geometry(a[:, :, ::-1].copy()), "mirrored head-foot"),
        (lambda a: geometry(np.ascontiguousarray(a.transpose(1, 0, 2))), "with its axes in another order"),
        (lambda a: geometry(a, (2.0, 2.0, 2.0)), "voxel size along axis 0: 2 mm, in the set 1"),
        (lambda a: geometry(np.where(np.arange(44)[:, None, None] < 22, a, 0)), "left-right extent"),
        (lambda a: geometry(np.where(a == 9, 8, 0).astype(np.uint8)), "lacks class 9, which the set has"),
        (lambda a: geometry(corner(3)), "same content as 3"),
    ],
)
def test_what_does_not_fit_is_said(
    cases: dict[str, dict[str, Any]], change: Callable[[Array], dict[str, Any]], text: str
) -> None:
    changed = change(corner(COUNT + 7))
    remarks = set_remarks(cases | {"wrong": changed})["wrong"]
    assert any(text in remark.text for remark in said(remarks)), [remark.text for remark in remarks[:4]]
    assert set_weight(remarks) >= 1


@pytest.mark.parametrize(
    "stored",
    [
        lambda a: a[:, ::-1],
        lambda a: np.transpose(a, (2, 0, 1))[::-1],
        lambda a: np.pad(a, 3),
        lambda a: a.astype(np.uint16),
    ],
)
def test_a_copy_is_known_however_it_is_stored(stored: Callable[[Array], Array]) -> None:
    array = corner(0)
    array[20:24, 20:22, 20] = 2
    other = array.copy()
    other[24, 21, 20] = 2
    cases = {name: geometry(np.ascontiguousarray(a)) for name, a in (("a", array), ("b", stored(array)), ("c", other))}
    assert {name: [remark.text for remark in found] for name, found in set_remarks(cases).items()} == {
        "a": ["same content as b"],
        "b": ["same content as a"],
        "c": [],
    }


def test_swapped_classes(cases: dict[str, dict[str, Any]]) -> None:
    def two(number: int) -> Array:
        array = corner(number)
        array[30:40, 30:40, 30:40] = 3
        return array

    hearts = {str(number): geometry(two(number)) for number in range(COUNT)}
    swapped = two(COUNT)
    hearts["wrong"] = geometry(np.array([0, 0, 0, 9, 0, 0, 0, 0, 0, 3], np.uint8)[swapped])
    assert "classes 3 and 9 look swapped" in [remark.text for remark in said(set_remarks(hearts)["wrong"])]


def test_a_set_without_a_common_pose_has_no_flips() -> None:
    arrays = [np.flip(corner(number), number % 3) if number % 2 else corner(number) for number in range(COUNT)]
    remarks = set_remarks({str(n): geometry(np.ascontiguousarray(array)) for n, array in enumerate(arrays)})
    assert not any("more like the others" in remark.text for found in remarks.values() for remark in said(found))


def test_a_few_cases_are_no_set() -> None:
    few = {str(number): geometry(corner(number)) for number in range(FEWEST - 2)}
    few["wrong"] = geometry(corner(9), (3.0, 3.0, 3.0))
    assert said(set_remarks(few)["wrong"]) == []


def test_robust_deviations_count_the_floor() -> None:
    values = robust(np.array([1.0, 1.0, 1.0, 2.0]), least=0.5)
    assert values.tolist() == [0, 0, 0, 2]


def test_a_picture_does_not_know_place_and_size() -> None:
    points = np.random.default_rng(0).normal(size=(500, 3)) * [3, 2, 1]
    np.testing.assert_allclose(picture_of(points), picture_of(points * 7 + [1, 2, 3]), atol=1e-12)
    packed = geometry(corner(0))["picture"]
    assert abs(float((unpacked(packed) ** 2).sum()) - 1) < 1e-9


def test_turns_hold_every_order_and_flip_once() -> None:
    picture = np.arange(27.0).reshape(3, 3, 3)
    seen = {turned(picture, *turn).tobytes() for turn in turns()}
    assert len(seen) == 48
    np.testing.assert_array_equal(turned(picture, *turns()[0]), picture)
