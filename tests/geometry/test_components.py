"""Components are the same, whether they are kept as lists of voxels or numbered in place."""

from unittest import mock

import numpy as np
import pytest
from scipy import ndimage

from near_monai.geometry.boxes import Box
from near_monai.geometry.components import Components, count_components


def mask_of(share: float, seed: int) -> np.ndarray:
    """Blobs that fill a ``share`` of a volume, with some rim around them."""
    blobs = ndimage.gaussian_filter(np.random.default_rng(seed).random((14, 18, 22)), 1.0)
    return np.pad(blobs > np.quantile(blobs, 1 - share), ((2, 1), (0, 3), (1, 1)))


@pytest.mark.parametrize("share", [0.03, 0.1, 0.3])
def test_lists_and_numbers_in_place_agree(share: float) -> None:
    mask = mask_of(share, 7)
    with mock.patch("near_monai.geometry.components.SPARSE", 1.0):
        listed = Components.of(mask)
    with mock.patch("near_monai.geometry.components.SPARSE", 0.0):
        placed = Components.of(mask)
    assert type(listed) is not type(placed) and len(listed) == len(placed) > 1
    np.testing.assert_array_equal(listed.index(), ndimage.label(mask, np.ones((3, 3, 3)))[0])
    values = np.random.default_rng(1).random(mask.shape)
    chosen = np.arange(len(listed)) % 2 == 0
    for one, other in zip(views(listed, values, chosen), views(placed, values, chosen), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    assert listed.boxes == placed.boxes


def views(found: Components, values: np.ndarray, chosen: np.ndarray) -> list[np.ndarray]:
    """All that can be asked of components."""
    (a, b, c), changed, near = values.shape, values.copy(), found.near(chosen, 1)
    found.put(changed, chosen, -1.0)
    arrays: list[np.ndarray] = [found.voxels, found.owner, found.sizes, found.index()]
    arrays += [found.sums(values), found.sums(values > 0.5)]
    arrays += [changed, near.voxels, near.owner, found.only(chosen).index()]
    arrays += [found.mask(number) for number in range(len(found))] + [found.mask(1, Box((0, 0, 0), (a, b, c)))]
    return [*arrays, *found.parts]


def test_nothing_has_no_components() -> None:
    nothing = np.zeros((4, 5, 6), bool)
    assert count_components(nothing) == 0 and Components.of(nothing).parts == []
    assert count_components(~nothing) == 1
