"""F(z, p): pointwise, the same by every road, and the described network as a special case."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from near_monai.networks.code_table import CodeTable
from near_monai.networks.encoder import CodeEncoder
from near_monai.networks.field import OccupancyField, PointwiseMLP
from near_monai.networks.network import NearNetwork


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def refiner(**field: Any) -> NearNetwork:
    return NearNetwork(
        CodeEncoder((6, 4), (8, 16), (1,)), OccupancyField((6, 4), (12, 8), hidden=(16,), **field)
    ).eval()


def described() -> NearNetwork:
    field = OccupancyField((256,), (64, 48, 32, 16), 4, (256, 256, 128, 64), 2, True, ("group", {"num_groups": 8}))
    return NearNetwork(CodeTable(3), field)


def test_described_mlp_has_the_described_cost() -> None:
    layers = [described().field.mlp.last, *described().field.mlp.layers]
    assert sum(layer.weight.numel() for layer in layers) == pytest.approx(169e3, rel=0.01)


def test_described_levels_have_4_8_16_32_cells() -> None:
    network = described()
    maps = network.field.features(network.source(torch.tensor([1])))
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 4, 4, 4), (48, 8, 8, 8), (32, 16, 16, 16), (16, 32, 32, 32)]


@pytest.mark.parametrize("make", [refiner, described])
def test_a_point_does_not_depend_on_the_others(make: Callable[[], NearNetwork]) -> None:
    network = make()
    image = torch.tensor([0, 2]) if make is described else torch.rand(2, 1, 8, 12, 16)
    points = torch.rand(2, 50, 3) * 2 - 1
    alone = network(image, points[:, 7:8])
    torch.testing.assert_close(network(image, points)[..., 7:8], alone)


def test_chunks_equal_the_whole_with_gradients() -> None:
    network = refiner(chunk=7)
    image, points = torch.rand(1, 1, 8, 8, 8), torch.rand(1, 30, 3) * 2 - 1
    with torch.enable_grad():
        chunked = network(image, points)
        chunked.sum().backward()
        gradient = network.field.mlp.last.weight.grad
        network.zero_grad()
        network.field.chunk = 100
        whole = network(image, points)
        whole.sum().backward()
    torch.testing.assert_close(chunked, whole)
    torch.testing.assert_close(gradient, network.field.mlp.last.weight.grad)


@pytest.mark.parametrize("coordinates", [False, True])
def test_grid_equals_points(coordinates: bool) -> None:
    network = refiner(coordinates=coordinates)
    image = torch.rand(1, 1, 8, 12, 16)
    axes = (torch.linspace(-1, 0.5, 5), torch.linspace(-0.7, 1, 4), torch.tensor([0.1]))
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(1, -1, 3)
    grid = network.field.on_axes(network.field.features(network.source(image)), axes)
    torch.testing.assert_close(grid, network(image, points).reshape(1, 1, 5, 4, 1))


def test_voxels_equal_points() -> None:
    network, image = refiner(), torch.rand(2, 1, 8, 12, 16)
    axes = [(torch.arange(n) * 2 + 1) / n - 1 for n in image.shape[2:]]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(1, -1, 3).expand(2, -1, -1)
    torch.testing.assert_close(network(image), network(image, points).reshape(image.shape))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_traced_module_takes_other_sizes() -> None:
    network = refiner()
    traced = torch.jit.trace(network, torch.rand(1, 1, 8, 8, 8))
    image = torch.rand(2, 1, 12, 8, 16)
    torch.testing.assert_close(traced(image), network(image))


def one_scale() -> NearNetwork:
    return NearNetwork(CodeEncoder((6,), (8, 16), (1,)), OccupancyField((6,), (12, 8), hidden=(16,))).eval()


@pytest.mark.parametrize("make", [refiner, one_scale])
def test_encoder_moves_with_its_input(make: Callable[[], NearNetwork]) -> None:
    network = make()
    image = torch.zeros(1, 1, 48, 16, 16)
    image[..., 14:20, 5:9, 6:10] = 1.0
    moved = image.roll(4, 2)
    torch.testing.assert_close(network(moved)[..., 16:32, :, :], network(image)[..., 12:28, :, :])


def test_mlp_starts_at_the_output_bias() -> None:
    mlp = PointwiseMLP(4, (8,), None, -4.6)
    assert mlp(torch.zeros(1, 4)).sigmoid().item() == pytest.approx(0.01, rel=0.3)
