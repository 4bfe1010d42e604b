"""Gated experts against a loop over visits and experts."""

from __future__ import annotations

import math

import pytest
import torch

from msr_models.modules.experts import GatedExperts
from msr_models.modules.routing import Routing


def mixture(gated: GatedExperts, x: torch.Tensor, k: int) -> torch.Tensor:
    """One row for one scenario, in the words of the paper."""
    scores = [torch.exp(gated.gate_KEX[k, :, e] @ x) for e in range(gated.gate_KEX.shape[2])]
    mixed = torch.zeros(())
    for e, score in enumerate(scores):
        h = x
        for layer in gated.layers:
            h = (h @ layer.weight[e] + layer.bias[e]).relu()
        mixed = mixed + score / sum(scores) * h
    return mixed


@pytest.mark.parametrize("num_scenarios", [1, 3, 12])
@pytest.mark.parametrize("expert_hidden", [(6,), (7, 5)])
def test_visits_and_every_scenario_are_the_loop(num_scenarios: int, expert_hidden: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(3)
    gated = GatedExperts(num_scenarios, 10, 4, expert_hidden, 0.0, generator)
    x = torch.randn(30, 10, generator=generator, requires_grad=True)
    scenario = torch.randint(0, num_scenarios, (30,), generator=generator)
    routing = Routing.own_and_shared(scenario, torch.rand(30, generator=generator) < 0.3, num_scenarios)
    experts = gated.experts(x)
    assert experts.shape == (30, 4, expert_hidden[-1])
    got = gated(x.index_select(0, routing.row_index_V), experts, routing)
    visits = list(zip(routing.row_index_V.tolist(), routing.scenario_V.tolist(), strict=True))
    want = torch.stack([mixture(gated, x[row], k) for row, k in visits])
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    every = gated.every(x, experts)
    assert every.shape == (num_scenarios, 30, expert_hidden[-1])
    torch.testing.assert_close(every[routing.scenario_V, routing.row_index_V], want, atol=1e-5, rtol=1e-5)
    upstream = torch.randn(got.shape, generator=generator)
    parameters = [x, *gated.parameters()]
    for mine, theirs in zip(
        torch.autograd.grad(got, parameters, upstream), torch.autograd.grad(want, parameters, upstream), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_a_gate_sees_the_input_as_it_is() -> None:
    """No normalisation in front of the softmax: an input five times as long has five times the log odds."""
    gated = GatedExperts(2, 10, 4, (6,), 0.0, torch.Generator().manual_seed(3))
    x = torch.randn(20, 10, generator=torch.Generator().manual_seed(4))
    routing = Routing.own(torch.arange(20) % 2, 2)
    one_hot = torch.eye(4).expand(20, 4, 4)  # experts that say who they are: the mixture is the gate
    weak, strong = (gated(scale * x[routing.row_index_V], one_hot, routing) for scale in (1.0, 5.0))
    odds_weak, odds_strong = ((gate / gate[:, :1]).log() for gate in (weak, strong))
    torch.testing.assert_close(odds_strong, 5 * odds_weak, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(weak.sum(1), torch.ones(20))


def test_initial_weights_are_xavier() -> None:
    gated = GatedExperts(3, 40, 4, (24,), 0.0, torch.Generator().manual_seed(1))
    assert 0.95 * math.sqrt(6 / 44) < gated.gate_KEX.abs().max() <= math.sqrt(6 / 44)
    assert 0.95 * math.sqrt(6 / 64) < gated.layers[0].weight.abs().max() <= math.sqrt(6 / 64)
