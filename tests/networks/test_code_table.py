"""Codes of a table: trained by several processes they become what one process makes of them."""

from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from near_monai.networks.code_table import CodeTable
from near_monai.networks.field import OccupancyField
from near_monai.networks.network import NearNetwork
from near_monai.training.optimiser import AdamWithTable

#: Cases of every step, one for each of two processes; the last case is never drawn.
STEPS = [(0, 1), (2, 0), (3, 2)]


def network() -> NearNetwork:
    torch.manual_seed(0)
    field = OccupancyField((8,), (8, 4), stem=4, hidden=(8,), coordinates=True, norm=("group", {"num_groups": 4}))
    return NearNetwork(CodeTable(5, channels=8), field)


def train(module: nn.Module, own: slice) -> dict[str, torch.Tensor]:
    """Some steps on the cases ``own`` of every batch; the weights after them."""
    optimizer = AdamWithTable(module, lr=0.01)
    for cases in STEPS:
        points = torch.rand(2, 50, 3, generator=torch.Generator().manual_seed(cases[0])) * 2 - 1
        optimizer.zero_grad()
        module(torch.tensor(cases)[own], points[own]).sigmoid().square().mean().backward()
        optimizer.step()
    return getattr(module, "module", module).state_dict()


def train_together(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    state = train(DistributedDataParallel(network()), slice(rank, rank + 1))
    torch.save(state, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_make_the_codes_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(train_together, (str(tmp_path),), nprocs=2)
    expected = train(network(), slice(None))
    for rank in range(2):
        for key, value in torch.load(tmp_path / f"{rank}.pt", weights_only=True).items():
            torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-4, msg=key)  # a hundredth of a step
