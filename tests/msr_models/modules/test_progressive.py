"""Experts of scenarios: visits against a loop, and everything at once against the visits."""

from __future__ import annotations

import math

import pytest
import torch

from msr_models.modules.progressive import ProgressiveLevel, ScenarioExperts
from msr_models.modules.routing import Routing


@pytest.mark.parametrize("num_scenarios", [1, 3, 12])
@pytest.mark.parametrize("hidden", [(6,), (7, 5), (7, 6, 5)])
def test_visits_and_every_scenario_are_the_loop(num_scenarios: int, hidden: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(3)
    experts = ScenarioExperts(num_scenarios, 10, 2, hidden, 0.0, generator)
    with torch.no_grad():
        for bias in experts.biases:
            bias.normal_(generator=generator)
    x = torch.randn(30, 10, generator=generator)
    scenario = torch.randint(0, num_scenarios, (30,), generator=generator)
    routing = Routing.own_and_shared(scenario, torch.rand(30, generator=generator) < 0.3, num_scenarios)
    want = []
    for row, k in zip(routing.row_index_V.tolist(), routing.scenario_V.tolist(), strict=True):
        for e in range(2):
            h = x[row]
            for weight, bias in zip(experts.weights, experts.biases, strict=True):
                h = (h @ weight[k, :, e] + bias[k, e]).relu()
            want.append(h)
    want_VXH = torch.stack(want).view(-1, 2, hidden[-1])
    torch.testing.assert_close(experts(x[routing.row_index_V], routing), want_VXH, atol=1e-5, rtol=1e-5)
    for every in (experts.every(x), experts.every(x[:, None].repeat(1, num_scenarios, 1))):
        assert every.shape == (30, num_scenarios, 2, hidden[-1])
        at_visits = every[routing.row_index_V, routing.scenario_V]
        torch.testing.assert_close(at_visits, want_VXH, atol=1e-5, rtol=1e-5)


def test_initial_weights_are_xavier_per_expert() -> None:
    level = ProgressiveLevel(3, 40, 2, 4, (24,), 0.0, False, torch.Generator().manual_seed(1))
    assert level.shared_gate_CX is not None
    for parameter, fans in (
        (level.own.weights[0], 40 + 24),
        (level.shared[0].weight, 40 + 24),
        (level.gate_KCX, 40 + 6),
        (level.shared_gate_CX, 40 + 10),
    ):
        bound = math.sqrt(6 / fans)
        assert 0.95 * bound < parameter.abs().max() <= bound
