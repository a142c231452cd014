"""Compact fields: what comes back is what went in, in a fraction of the space, from memory or from a file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from near_monai.anatomy import CORONARY
from near_monai.data.fingerprints import fingerprint
from near_monai.datasets.compact_distances import FULL, ROUNDING, CompactField, at_surface, stored
from near_monai.errors import NearError
from near_monai.geometry.coordinates import Grid, sample_axes
from near_monai.geometry.distance import signed_distance
from near_monai.phantoms.coronary import coronary_tree

TRUNCATE, SPACING = 3.0, 0.5


@pytest.fixture(scope="module")
def distance() -> torch.Tensor:
    """Two channels: a coronary tree, and a ball that has an inside deeper than the truncation."""
    tree = coronary_tree(np.random.default_rng(0))
    grid = tree.grid((SPACING,) * 3, 8.0)
    ball = np.linalg.norm(np.stack(np.meshgrid(*grid.axes_mm(), indexing="ij"), -1), axis=-1) - 20
    fields = np.stack([tree.signed_distance(grid, TRUNCATE, CORONARY), ball.astype(np.float32)])
    return torch.as_tensor(fields).clamp(-TRUNCATE, TRUNCATE)


def test_what_comes_back_is_what_went_in(distance: torch.Tensor) -> None:
    field = CompactField.of(distance, TRUNCATE, SPACING)
    torch.testing.assert_close(field.dense(), distance, rtol=0, atol=TRUNCATE / FULL / 2 + 1e-6)
    assert {-1, -2} < set(field.index.ravel().tolist())  # blocks of one value are not stored
    vessel = field.index[0] >= 0
    assert vessel.mean() < 0.25
    near = np.argwhere(distance.abs().numpy() <= SPACING / 2 * (1 + ROUNDING))
    np.testing.assert_array_equal(field.surface, near)


@pytest.mark.parametrize("start", [(0, 0, 0), (-13, 40, 7), (101, -60, 33), (10_000, 0, 0)])
def test_window_is_a_part_of_the_whole(distance: torch.Tensor, start: tuple[int, int, int]) -> None:
    field = CompactField.of(distance, TRUNCATE, SPACING)
    window = field.window(start, (52, 30, 41))
    whole = torch.nn.functional.pad(field.dense(), (80,) * 6, value=TRUNCATE)
    if start[0] < 1000:
        a, b, c = (s + 80 for s in start)
        torch.testing.assert_close(window, whole[:, a : a + 52, b : b + 30, c : c + 41], rtol=0, atol=1e-6)
    else:
        assert (window == TRUNCATE).all()


def test_field_is_made_once_per_state_of_the_file(distance: torch.Tensor, tmp_path: Path) -> None:
    label = tmp_path / "a.nii.gz"
    label.write_bytes(b"1")
    made = []

    def make() -> tuple[CompactField, np.ndarray]:
        made.append(1)
        return CompactField.of(distance[:1], TRUNCATE, SPACING), np.diag([0.5, 0.5, 0.5, 1.0])

    cache = tmp_path / "cache"
    first, shape, affine = stored(cache, "a", fingerprint(label, [9]), make)
    again = stored(cache, "a", fingerprint(label, [9]), make)
    assert again[0] == first and again[1] == shape == tuple(distance.shape[1:]) and len(made) == 1
    np.testing.assert_array_equal(again[2], affine)
    assert isinstance(first, Path) and first.stat().st_size < 400_000 < distance[:1].numel()
    torch.testing.assert_close(CompactField.load(first).dense(), make()[0].dense(), rtol=0, atol=0)
    stored(cache, "a", fingerprint(label, [8]), make)
    label.write_bytes(b"2")
    stored(cache, "a", fingerprint(label, [9]), make)
    assert len(made) == 4
    first.write_bytes(first.read_bytes()[:500])
    with pytest.raises(NearError, match="delete it"):
        CompactField.load(first)


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(
    st.tuples(*(st.floats(-0.5, 0.5),) * 3),
    st.tuples(*(st.sampled_from((0.2, 0.25, 0.5, 0.7, 1.0, 3.0)),) * 3),
    st.integers(0, 9),
)
def test_a_mask_has_a_surface_whatever_its_grid_and_phase(
    phase: tuple[float, float, float], spacing: tuple[float, float, float], seed: int
) -> None:
    """Where some voxels of the working grid are inside and others not, some are at the surface, close to it."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((16, 14, 12), bool)
    mask[tuple(slice(a, a + n) for a, n in zip(rng.integers(2, 7, 3), rng.integers(1, 6, 3), strict=True))] = True
    native = Grid(mask.shape, spacing)
    target = Grid.of((30, 30, 30), (SPACING,) * 3, np.multiply(phase, SPACING))
    field = sample_axes(torch.as_tensor(signed_distance(mask, spacing))[None, None], target.axes_in(native))[
        0, 0
    ].numpy()
    found = at_surface(field, SPACING)
    assert found.any() == ((field < 0).any() and (field >= 0).any())
    away = np.abs(field)
    if found.any():
        assert found[away <= SPACING / 2].all() and away[found].max() <= max(SPACING / 2, away.min()) * 1.001


def test_full_and_empty_fields_have_no_surface() -> None:
    for value in (-1.0, 0.0, 0.1, 3.0):
        assert not at_surface(np.full((4, 4, 4), value), SPACING).any()
