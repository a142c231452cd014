"""Windows and inference: the sparse road equals the dense one, on any grid, and codes redraw the mask."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate

from near_monai.geometry import windows
from near_monai.geometry.coordinates import Grid, sample_axes
from near_monai.geometry.distance import signed_distance
from near_monai.geometry.working_space import WorkingSpace
from near_monai.inferers import decoding
from near_monai.inferers.decoding import decode
from near_monai.inferers.encoding import encode
from near_monai.inferers.near_inferer import NearInferer
from near_monai.inferers.occupancy import occupancy
from near_monai.networks import encoder
from near_monai.networks.encoder import CodeEncoder
from near_monai.networks.field import OccupancyField
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import load_network

NATIVE = Grid((70, 44, 38), (0.45, 0.6, 0.8))
SPACE = WorkingSpace(spacing=0.5, truncate=2.0, margin=3.0)


@pytest.fixture
def network() -> Iterator[NearNetwork]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield NearNetwork(CodeEncoder((4, 3), (4, 8), (1,)), OccupancyField((4, 3), (8, 6), hidden=(8,))).eval()


@pytest.fixture
def mask() -> np.ndarray:
    """Two slanted tubes with empty space between, so that blocks are active here and there."""
    i, j, k = np.meshgrid(*NATIVE.axes_mm(), indexing="ij")
    return ((j - 6 - 0.1 * i) ** 2 + (k - 6) ** 2 < 1.5**2) | ((j - 21) ** 2 + (k - 24) ** 2 < 1.2**2) & (i > 10)


@pytest.mark.parametrize("margin", [1.0, 3.0, 4.0, 9.3])
def test_blocks_are_active_exactly_within_the_margin(margin: float) -> None:
    grid = Grid((64, 48, 80), (0.5,) * 3, (3.0, -7.0, 1.0))
    point = grid.to_mm([[30.0, 9.0, 41.0]])
    crude = np.abs(np.stack(np.meshgrid(*grid.axes_mm(), indexing="ij"), -1) - point) <= margin + 0.25
    expected = crude.all(-1).reshape(8, 8, 6, 8, 10, 8).any(axis=(1, 3, 5))
    native = Grid((1, 1, 1), (0.4, 0.5, 0.6), tuple(point[0]))
    mask = np.ones((1, 1, 1), bool)
    np.testing.assert_array_equal(windows.active_blocks(mask, native, grid, margin), expected)


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_windows_cover_every_active_block_once(size: int) -> None:
    blocks = np.random.default_rng(0).random((7, 5, 6)) < 0.15
    seen = np.zeros([n * windows.BLOCK for n in blocks.shape], int)
    for box in windows.windows(blocks, size):
        assert max(box.shape) <= size * windows.BLOCK
        seen[box.slices()] += 1
    assert seen.max() == 1
    assert seen.reshape(7, 8, 5, 8, 6, 8).min(axis=(1, 3, 5))[blocks].all()


def test_patches_nest_in_windows() -> None:
    blocks = np.random.default_rng(1).random((9, 5, 6)) < 0.3
    outer = list(windows.windows(blocks, 4))
    for box in outer:
        for patch in windows.windows(blocks, 2, box):
            assert all(a <= b for a, b in zip(box.start, patch.start, strict=True))
            assert all(a >= b for a, b in zip(box.stop, patch.stop, strict=True))
    assert sum(len(list(windows.windows(blocks, 2, box))) for box in outer) == len(list(windows.windows(blocks, 2)))


def test_windowed_equals_dense(network: NearNetwork, mask: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small windows with enough halo, one window, and one that holds everything give the same probability."""
    code = encode(mask, NATIVE, network, SPACE)
    probability = decode(code, network.field, NATIVE)
    assert code.blocks is not None and not code.blocks.all()
    for name, size in (("WINDOWS", 4), ("TILES", 2), ("PATCHES", 1)):
        monkeypatch.setattr(decoding, name, replace(getattr(decoding, name), size=size))
    monkeypatch.setattr(encoder, "FINE", replace(encoder.FINE, size=2))
    monkeypatch.setattr(encoder, "COARSE", replace(encoder.COARSE, size=4, halo=24))  # what this small encoder can see
    assert len(list(windows.windows(code.blocks, 4))) > 4
    cut = encode(mask, NATIVE, network, SPACE)
    inside = probability > 0
    assert inside[mask].all()
    np.testing.assert_allclose(decode(cut, network.field, NATIVE)[inside], probability[inside], atol=2e-3)  # float16


def test_near_equals_forward_on_the_whole_grid(network: NearNetwork, mask: np.ndarray) -> None:
    """Dense evaluation, the reference: one forward pass over everything. Same voxels, and nearly the same numbers."""
    code = encode(mask, NATIVE, network, SPACE)
    probability = decode(code, network.field, NATIVE)
    assert code.blocks is not None and 0 < code.blocks.mean() < 0.9
    distance = torch.as_tensor(signed_distance(mask, NATIVE.spacing, SPACE.truncate))[None, None]
    image = SPACE.image(sample_axes(distance, code.grid.axes_in(NATIVE)))
    features = network.field.features(network.source(image))
    dense = network.field.on_axes(features, NATIVE.axes_in(code.grid))[0, 0].sigmoid().numpy()
    inside = probability > 0
    np.testing.assert_allclose(dense[inside], probability[inside], atol=2e-3)  # codes are kept in float16
    threshold = float(np.median(dense[inside]))
    clear = np.abs(dense - threshold) > 2e-3
    np.testing.assert_array_equal((dense > threshold)[inside & clear], (probability > threshold)[inside & clear])


def test_another_grid_asks_the_same_function(network: NearNetwork, mask: np.ndarray) -> None:
    code = encode(mask, NATIVE, network, SPACE)
    native = decode(code, network.field, NATIVE)
    sub = NATIVE.crop([3, 4, 5], (30, 20, 25))
    np.testing.assert_allclose(decode(code, network.field, sub), native[3:33, 4:24, 5:30], atol=1e-5)
    odd = Grid((15, 15, 15), (0.9, 1.2, 1.6))  # every other voxel
    np.testing.assert_allclose(decode(code, network.field, odd), native[:30:2, :30:2, :30:2], atol=1e-5)


def test_inferer_reads_the_spacing_and_returns_the_same_grid(network: NearNetwork, mask: np.ndarray) -> None:
    affine = torch.diag(torch.tensor([-0.45, 0.6, 0.8, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.as_tensor(mask[None, None].astype(np.float32)), affine)
    out = NearInferer(SPACE)(image, network)
    assert isinstance(out, MetaTensor)
    torch.testing.assert_close(out.affine, image.affine)
    expected = occupancy(mask[None], NATIVE, network, SPACE).probability
    np.testing.assert_allclose(out[0].numpy(), expected, atol=1e-6)
    assert NearInferer(SPACE)(torch.zeros_like(image), network).sum() == 0


@pytest.mark.parametrize("place", [(0, 0, 0), (69, 43, 37), (30, 20, 15)])
def test_one_voxel_is_seen_and_what_is_far_from_it_is_not(network: NearNetwork, place: tuple[int, int, int]) -> None:
    mask = np.zeros(NATIVE.shape, bool)
    mask[place] = True
    probability = decode(encode(mask, NATIVE, network, SPACE), network.field, NATIVE)
    offsets = (axis - axis[n] for axis, n in zip(NATIVE.axes_mm(), place, strict=True))
    apart = np.abs(np.meshgrid(*offsets, indexing="ij")).max(axis=0)
    assert (probability[apart <= SPACE.margin] > 0).all()
    assert not probability[apart > SPACE.margin + windows.BLOCK * SPACE.spacing].any()


def test_every_case_of_a_batch_is_refined_with_its_own_spacing(network: NearNetwork, mask: np.ndarray) -> None:
    steps = ((0.5, 0.5, 0.5), (0.8, 0.6, 0.7))
    masks = [torch.as_tensor(m[None].astype(np.float32)) for m in (mask, mask[::-1].copy())]
    affines = [torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64)) for spacing in steps]
    alone = [NearInferer(SPACE)(MetaTensor(m[None], a), network)[0] for m, a in zip(masks, affines, strict=True)]
    batch = list_data_collate([MetaTensor(m, a) for m, a in zip(masks, affines, strict=True)])
    found = NearInferer(SPACE)(batch, network)
    np.testing.assert_array_equal(found.numpy(), torch.stack(alone).numpy())
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("start", [(0, 0, 0), (1, 0, 1), (0, 1, 1)])
def test_voxels_finer_than_f_knows_are_interpolated(start: tuple[int, int, int]) -> None:
    """Of what is interpolated on a fine grid, every other voxel is nearly what is asked there."""
    network, space = load_network(device="cpu")
    grid = Grid((90, 110, 88), (0.2, 0.18, 0.19))
    i, j, k = np.meshgrid(*grid.axes_mm(), indexing="ij")
    code = encode((j - 10 - 0.1 * i) ** 2 + (k - 8) ** 2 < 2.5**2, grid, network, space)
    coarse = Grid((45, 55, 44), (0.4, 0.36, 0.38), tuple(grid.to_mm(start)))
    asked = decode(code, network.field, coarse)
    there = decode(code, network.field, grid)[tuple(slice(first, None, 2) for first in start)]
    assert np.abs(there - asked).max() < 0.25
    assert np.count_nonzero((there > 0.5) != (asked > 0.5)) < 0.015 * np.count_nonzero(asked > 0.5)
