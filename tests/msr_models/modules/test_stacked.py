"""Routed towers against a naive loop over scenarios."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedLinear, StackedTowers, routed_product


def naive_tower(towers: StackedTowers, x: torch.Tensor, k: int) -> torch.Tensor:
    for depth, layer in enumerate(towers.layers):
        x = x @ layer.weight[k] + layer.bias[k]
        if depth < len(towers.layers) - 1:
            x = F.relu(x)
    return x.squeeze(-1)


@pytest.mark.parametrize("num_scenarios", [1, 3, 12])
@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_routed_towers_equal_the_naive_loop(num_scenarios: int, absent: bool, share: float) -> None:
    generator = torch.Generator().manual_seed(1)
    towers = StackedTowers(num_scenarios, 10, (7, 5), 0.0, generator)  # widths that are no multiple of 4
    x = torch.randn(50, 10, generator=generator, requires_grad=True)
    present = num_scenarios - 1 if absent and num_scenarios > 1 else num_scenarios
    scenario = torch.randint(0, present, (50,), generator=generator)
    shared = torch.rand(50, generator=generator) < share
    routing = Routing.own_and_shared(scenario, shared, num_scenarios)
    got = towers(x.index_select(0, routing.row_index_V), routing)
    every = torch.stack([naive_tower(towers, x, k) for k in range(num_scenarios)], dim=1)
    want = every[routing.row_index_V, routing.scenario_V]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)
    torch.testing.assert_close(towers.every(x), every, atol=1e-5, rtol=0)
    parameters = [x, *towers.parameters()]
    upstream = torch.randn(len(got), generator=generator)
    for mine, theirs in zip(
        torch.autograd.grad(got, parameters, upstream, retain_graph=True),
        torch.autograd.grad(want, parameters, upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_visits_are_own_for_all_and_every_other_scenario_for_shared_rows() -> None:
    scenario, shared = torch.tensor([2, 0, 2]), torch.tensor([False, True, False])
    routing = Routing.own_and_shared(scenario, shared, 4)
    visits = sorted(zip(routing.row_index_V.tolist(), routing.scenario_V.tolist(), strict=True))
    assert visits == [(0, 2), (1, 0), (1, 1), (1, 2), (1, 3), (2, 2)]
    assert routing.ends_K.tolist() == [1, 2, 5, 6]
    assert routing.scenario_V.tolist() == sorted(routing.scenario_V.tolist())


def test_own_visits_come_back_in_row_order() -> None:
    scenario = torch.tensor([2, 0, 1, 0])
    routing = Routing.own(scenario, 3)
    assert torch.equal(routing.to_rows(routing.row_index_V * 10), torch.tensor([0, 10, 20, 30]))


def test_no_visits_at_all() -> None:
    layer = StackedLinear(3, 4, 2, torch.Generator())
    empty = torch.zeros(0, dtype=torch.int64)
    assert layer(torch.zeros(0, 4), Routing.own(empty, 3)).shape == (0, 2)


def test_product_of_an_empty_group_has_no_gradient() -> None:
    weight = torch.randn(3, 4, 4, requires_grad=True)
    ends = torch.tensor([2, 2, 5], dtype=torch.int32)
    routed_product(torch.randn(5, 4), weight, ends).sum().backward()
    assert weight.grad is not None
    assert weight.grad[1].abs().max() == 0
    assert weight.grad[0].abs().max() > 0 and weight.grad[2].abs().max() > 0


def test_initial_weights_are_xavier_per_scenario_and_follow_the_generator() -> None:
    a, b = (StackedLinear(3, 40, 24, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a.weight, b.weight)
    bound = math.sqrt(6 / 64)
    assert 0.95 * bound < a.weight.abs().max() <= bound
    assert not torch.equal(a.weight[0], a.weight[1])
    assert a.bias.abs().max() == 0
