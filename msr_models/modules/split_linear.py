"""A linear layer on two concatenated inputs whose two products are computed separately."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msr_models.modules.dense import xavier_parameter, xavier_uniform_
from msr_models.modules.stacked import rows_of


class SplitLinear(nn.Module):
    """W [x ; y] + b = first(x) + second(y): each product is computed once per row of its own input.

    Shapes: x [N, I], y [M, J], each result [., O]. Initial weights: Xavier-uniform of the whole layer, b zero.
    """

    def __init__(self, first_width: int, second_width: int, out_width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first_weight_IO = nn.Parameter(torch.empty(first_width, out_width))
        self.second_weight_JO = nn.Parameter(torch.empty(second_width, out_width))
        self.bias_O = nn.Parameter(torch.zeros(out_width))
        for weight in (self.first_weight_IO, self.second_weight_JO):
            xavier_uniform_(weight, first_width + second_width + out_width, generator)

    def first(self, x_NI: Tensor) -> Tensor:
        """[N, O] without the bias."""
        return x_NI @ self.first_weight_IO

    def second(self, y_MJ: Tensor) -> Tensor:
        """[M, O] with the bias."""
        out_MO = y_MJ @ self.second_weight_JO
        return out_MO + self.bias_O.to(out_MO.dtype)

    def of_scenario(self, x_NI: Tensor, scenario_KJ: Tensor, place_V: Tensor, scenario_V: Tensor) -> Tensor:
        """[V, O] of [x_NI[place_V] ; scenario_KJ[scenario_V]]: one product per place and one per scenario."""
        first_NO, second_KO = self.first(x_NI), self.second(scenario_KJ)
        return first_NO.index_select(0, place_V) + rows_of(second_KO.to(first_NO.dtype), scenario_V)


def scenario_vectors(num_scenarios: int, width: int, generator: torch.Generator) -> nn.Parameter:
    """One trainable vector per scenario, [K, D], Xavier-uniform."""
    return xavier_parameter((num_scenarios, width), num_scenarios + width, generator)
