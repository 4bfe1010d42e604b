"""A linear layer whose input comes in two parts."""

from __future__ import annotations

import torch

from msr_models.modules.split_linear import SplitLinear, scenario_vectors


def test_the_parts_add_up_to_the_layer_on_both_inputs() -> None:
    generator = torch.Generator().manual_seed(1)
    layer, vectors = SplitLinear(4, 3, 5, generator), scenario_vectors(2, 3, generator)
    with torch.no_grad():
        layer.bias_O.uniform_(generator=generator)
    x, place, scenario = torch.randn(6, 4, generator=generator), torch.tensor([5, 0, 0]), torch.tensor([0, 0, 1])
    both = torch.cat([x[place], vectors[scenario]], dim=1)
    weight = torch.cat([layer.first_weight_IO, layer.second_weight_JO])
    torch.testing.assert_close(layer.of_scenario(x, vectors, place, scenario), both @ weight + layer.bias_O)


def test_weights_start_within_the_bound_of_the_whole_layer() -> None:
    layer = SplitLinear(40, 30, 50, torch.Generator().manual_seed(1))
    bound = (6 / 120) ** 0.5
    for weight in (layer.first_weight_IO, layer.second_weight_JO):
        assert 0.95 * bound < weight.abs().max() <= bound
