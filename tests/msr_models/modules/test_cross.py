"""Cross networks that never make their layers, against ones that do."""

from __future__ import annotations

import math

import pytest
import torch

from msr_models.modules.cross import StackedCross
from msr_models.modules.routing import Routing


def made_up(num_scenarios: int, width: int, depth: int) -> StackedCross:
    generator = torch.Generator().manual_seed(3)
    cross = StackedCross(num_scenarios, width, depth, generator)
    with torch.no_grad():
        cross.bias_KLE.uniform_(-1, 1, generator=generator)
    return cross


def layer_by_layer(cross: StackedCross, x_0: torch.Tensor, k: int) -> torch.Tensor:
    """One row, in the words of the paper."""
    x = x_0
    for depth in range(cross.weight_KEL.shape[2]):
        x = x_0 * (cross.weight_KEL[k, :, depth] @ x) + cross.bias_KLE[k, depth] + x
    return cross.head_KE[k] @ x


@pytest.mark.parametrize("num_scenarios", [1, 3, 12])
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_values_and_gradients_are_those_of_the_layers(num_scenarios: int, depth: int) -> None:
    cross = made_up(num_scenarios, 10, depth)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(40, 10, generator=generator, requires_grad=True)
    scenario = torch.randint(0, num_scenarios, (40,), generator=generator)
    routing = Routing.own_and_shared(scenario, torch.rand(40, generator=generator) < 0.3, num_scenarios)
    got = cross(x.index_select(0, routing.row_index_V), routing)
    visits = zip(routing.row_index_V.tolist(), routing.scenario_V.tolist(), strict=True)
    want = torch.stack([layer_by_layer(cross, x[row], k) for row, k in visits])
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    upstream = torch.randn(len(got), generator=generator)
    parameters = [x, *cross.parameters()]
    for mine, theirs in zip(
        torch.autograd.grad(got, parameters, upstream), torch.autograd.grad(want, parameters, upstream), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-3)


def test_initial_weights_are_xavier_and_biases_zero() -> None:
    cross = StackedCross(3, 50, 4, torch.Generator().manual_seed(1))
    bound = math.sqrt(6 / 51)
    assert 0.95 * bound < cross.weight_KEL.abs().max() <= bound
    assert 0.9 * bound < cross.head_KE.abs().max() <= bound
    assert cross.bias_KLE.abs().max() == 0


def test_a_bf16_product_keeps_fp32_logits_apart() -> None:
    cross = made_up(2, 32, 3)
    x = 0.3 * torch.randn(200, 32, generator=torch.Generator().manual_seed(2))
    routing = Routing.own(torch.arange(200) % 2, 2)
    exact = cross(x[routing.row_index_V], routing)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = cross(x[routing.row_index_V], routing)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, exact, atol=0.1, rtol=0.02)
    assert not torch.equal(low, exact)
    assert len(low.unique()) > 190 > len(low.bfloat16().unique())
