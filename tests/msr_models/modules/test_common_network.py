"""The network that all scenarios share: what it runs per row, and where its weights start."""

from __future__ import annotations

import math

import torch

from msr_models.modules.common_network import CommonNetwork
from msr_models.modules.routing import Routing


def test_initial_weights_are_xavier() -> None:
    network = CommonNetwork(3, 40, 8, (24, 16), 0.0, torch.Generator().manual_seed(1))
    for parameter, fans in (
        (network.weight_EH, 40 + 8 + 24),
        (network.scenario_weight_DH, 40 + 8 + 24),
        (network.layers[0].weight, 24 + 16),
        (network.head_H, 16 + 1),
    ):
        assert parameter is not None
        bound = math.sqrt(6 / fans)
        assert 0.8 * bound < parameter.abs().max() <= bound
    assert network.bias_H.abs().max() == network.head_bias.abs().max() == 0


def test_a_rows_logit_in_a_scenario_does_not_depend_on_the_other_visits() -> None:
    network = CommonNetwork(3, 10, 4, (6, 5), 0.0, torch.Generator().manual_seed(1))
    x = torch.randn(20, 10, generator=torch.Generator().manual_seed(2))
    every = network(x, Routing.everywhere(20, 3, x.device)).view(3, 20)
    scenario = torch.arange(20) % 3
    own = Routing.own(scenario, 3)
    torch.testing.assert_close(own.to_rows(network(x, own)), every[scenario, torch.arange(20)])
    assert (every[0] - every[1]).abs().min() > 0


def test_without_a_scenario_it_has_no_parameters_for_one() -> None:
    network = CommonNetwork(3, 10, 0, (6,), 0.0, torch.Generator().manual_seed(1))
    assert [key for key, _ in network.named_parameters()] == ["weight_EH", "bias_H", "head_H", "head_bias"]
