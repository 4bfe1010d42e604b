"""Star towers against weights put together by hand."""

from __future__ import annotations

import math

import pytest
import torch

from msr_models.modules.routing import Routing
from msr_models.modules.star_towers import StarLinear, StarTowers


def by_hand(towers: StarTowers, x: torch.Tensor, k: int) -> torch.Tensor:
    *layers, last = towers.layers
    for layer in layers:
        x = (x @ (layer.weight_IO * layer.own_weight_KIO[k]) + layer.bias_O + layer.own_bias_KO[k]).relu()
    return (x @ (last.weight_IO * last.own_weight_KIO[k]) + last.bias_O + last.own_bias_KO[k])[0]


@pytest.mark.parametrize("num_scenarios", [1, 3, 12])
def test_a_tower_is_shared_weights_times_own_ones(num_scenarios: int) -> None:
    generator = torch.Generator().manual_seed(1)
    towers = StarTowers(num_scenarios, 10, (7, 5), 0.0, generator)
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    x = torch.randn(30, 10, generator=generator, requires_grad=True)
    scenario = torch.randint(0, num_scenarios, (30,), generator=generator)
    routing = Routing.own_and_shared(scenario, torch.rand(30, generator=generator) < 0.3, num_scenarios)
    got = towers(x.index_select(0, routing.row_index_V), routing)
    visits = zip(routing.row_index_V.tolist(), routing.scenario_V.tolist(), strict=True)
    want = torch.stack([by_hand(towers, x[row], k) for row, k in visits])
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    upstream = torch.randn(len(got), generator=generator)
    parameters = [x, *towers.parameters()]
    for mine, theirs in zip(
        torch.autograd.grad(got, parameters, upstream), torch.autograd.grad(want, parameters, upstream), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_all_towers_start_as_the_shared_network() -> None:
    layer = StarLinear(3, 40, 24, torch.Generator().manual_seed(1))
    bound = math.sqrt(6 / 64)
    assert 0.95 * bound < layer.weight_IO.abs().max() <= bound
    assert (layer.own_weight_KIO == 1).all() and (layer.own_bias_KO == 0).all() and (layer.bias_O == 0).all()


def test_bf16_products_keep_fp32_logits() -> None:
    towers = StarTowers(3, 32, (64, 16), 0.0, torch.Generator().manual_seed(1))
    x = torch.randn(200, 32, generator=torch.Generator().manual_seed(2))
    routing = Routing.own(torch.arange(200) % 3, 3)
    exact = towers(x[routing.row_index_V], routing)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = towers(x[routing.row_index_V], routing)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, exact, atol=0.03, rtol=0.05)
    assert not torch.equal(low, exact)
    assert len(low.unique()) > 190 > len(low.bfloat16().unique())
