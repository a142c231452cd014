"""Losses: equal to MONAI's at weight 1, to repetition at whole weights; the penalty; the lazy optimiser."""

import pytest
import torch
from monai.losses import DiceFocalLoss

from near_monai.networks.code_table import CodeTable
from near_monai.networks.field import OccupancyField
from near_monai.networks.network import NearNetwork
from near_monai.training.losses import CodePenalty, PointDiceFocalLoss
from near_monai.training.optimiser import AdamWithTable


def codes(network: NearNetwork) -> torch.Tensor:
    weight: torch.Tensor = network.get_parameter("source.codes.weight")
    return weight


def tiny() -> NearNetwork:
    return NearNetwork(CodeTable(3, 4), OccupancyField((4,), (8,), 2, (8,), norm=("group", {"num_groups": 2})))


def test_equals_monai_at_weight_one() -> None:
    torch.manual_seed(0)
    logits, occupancy = torch.randn(2, 1, 40), torch.randint(0, 2, (2, 1, 40)).float()
    ours = PointDiceFocalLoss(0.7, 0.3, 4.0)(logits, torch.cat([occupancy, torch.ones_like(occupancy)], 1))
    theirs = DiceFocalLoss(sigmoid=True, batch=True, lambda_dice=0.7, lambda_focal=0.3, gamma=4.0)(logits, occupancy)
    torch.testing.assert_close(ours, theirs)


def test_weight_two_is_a_point_counted_twice() -> None:
    torch.manual_seed(0)
    logits, occupancy = torch.randn(1, 1, 6), torch.randint(0, 2, (1, 1, 6)).float()
    weight = torch.tensor([[[2.0, 1, 1, 2, 1, 1]]])
    twice = [0, 0, 1, 2, 3, 3, 4, 5]
    loss = PointDiceFocalLoss(1.0, 0.0)
    repeated = torch.cat([occupancy[..., twice], torch.ones(1, 1, 8)], 1)
    expected = loss(logits[..., twice], repeated)
    torch.testing.assert_close(loss(logits, torch.cat([occupancy, weight], 1)), expected)


def test_a_right_answer_on_an_empty_window_costs_nothing() -> None:
    target = torch.cat([torch.zeros(1, 1, 9), torch.ones(1, 1, 9)], 1)
    assert PointDiceFocalLoss()(torch.full((1, 1, 9), -30.0), target).item() == pytest.approx(0, abs=1e-4)


def test_penalty_is_the_mean_squared_norm_of_the_codes_in_use() -> None:
    network = tiny()
    target = torch.ones(2, 2, 5)
    logits = network(torch.tensor([0, 2]), torch.zeros(2, 5, 3))
    plain = PointDiceFocalLoss()
    rows = codes(network)[[0, 2]]
    expected = plain(logits, target) + 0.01 * rows.square().sum(1).mean()
    torch.testing.assert_close(CodePenalty(plain, network, 0.01)(logits, target), expected)


def test_codes_of_absent_cases_do_not_move() -> None:
    torch.manual_seed(0)
    network = tiny()
    optimiser = AdamWithTable(network, lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 4)
    start = codes(network).detach().clone()
    for case in (0, 2, 2):  # by its momentum, dense Adam would move case 0 in steps 2 and 3
        optimiser.zero_grad()
        network(torch.tensor([case]), torch.rand(1, 5, 3)).sum().backward()
        optimiser.step()
        schedule.step()
        if case == 0:
            after_first = codes(network).detach().clone()
    end = codes(network).detach()
    assert not torch.equal(end[0], start[0])
    assert not torch.equal(end[2], start[2])
    torch.testing.assert_close(end[0], after_first[0], rtol=0, atol=0)
    torch.testing.assert_close(end[1], start[1], rtol=0, atol=0)
    assert all(part.param_groups[0]["lr"] == pytest.approx(schedule.get_last_lr()[0]) for part in optimiser.parts)


def test_optimiser_state_comes_back() -> None:
    torch.manual_seed(0)
    ends = []
    for interrupt in (False, True):
        torch.manual_seed(1)
        network = tiny()
        optimiser = AdamWithTable(network, lr=0.1)
        for step in range(4):
            if interrupt and step == 2:
                state = optimiser.state_dict()
                optimiser = AdamWithTable(network, lr=0.5)
                optimiser.load_state_dict(state)
            optimiser.zero_grad()
            network(torch.tensor([step % 2]), torch.linspace(-1, 1, 15).reshape(1, 5, 3)).sum().backward()
            optimiser.step()
        ends.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)
