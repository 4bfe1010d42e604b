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


@pytest.mark.parametrize("num_scenarios", [1, 3, 12])
def test_a_fixed_number_of_visits_changes_neither_values_nor_gradients(num_scenarios: int) -> None:
    generator = torch.Generator().manual_seed(4)
    towers = StackedTowers(num_scenarios, 8, (8, 4), 0.0, generator)
    x = torch.randn(30, 8, generator=generator, requires_grad=True)
    scenario = torch.randint(0, num_scenarios, (30,), generator=generator)
    shared = torch.rand(30, generator=generator) < 0.3
    exact = Routing.own_and_shared(scenario, shared, num_scenarios)
    visits = len(exact.row_index_V)
    for capacity in (visits, visits + 17):
        fixed = Routing.own_and_shared(scenario, shared, num_scenarios, capacity)
        assert len(fixed.row_index_V) == capacity == int(fixed.ends_K[-1])
        assert fixed.real_V is not None and int(fixed.real_V.sum()) == visits
        assert torch.equal(fixed.row_index_V[:visits], exact.row_index_V)
        assert torch.equal(fixed.scenario_V[:visits], exact.scenario_V)
        results = []
        for routing in (exact, fixed):
            logits = towers(x.index_select(0, routing.row_index_V), routing)
            counted = logits.sin() if routing.real_V is None else torch.where(routing.real_V, logits.sin(), 0.0)
            results.append([counted.sum(), *torch.autograd.grad(counted.sum(), [x, *towers.parameters()])])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_bf16_products_keep_fp32_logits() -> None:
    towers = StackedTowers(3, 32, (64, 16), 0.0, torch.Generator().manual_seed(1))
    x = torch.randn(200, 32, generator=torch.Generator().manual_seed(2))
    routing = Routing.own(torch.arange(200) % 3, 3)
    exact = towers(x[routing.row_index_V], routing)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = towers(x[routing.row_index_V], routing)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, exact, atol=0.03, rtol=0.05)
    assert not torch.equal(low, exact)
    # A bf16 logit would have at most 8 significant bits: of 200 values most could not be told from a neighbour.
    assert len(low.unique()) > 190 > len(low.bfloat16().unique())
