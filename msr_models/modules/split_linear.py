"""A linear layer on two inputs side by side, with the product of each taken where that input is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from msr_models.modules.stacked import rows_of


class SplitLinear(nn.Module):
    """W [x ; y] + b = first(x) + second(y), so that neither product is repeated because the other input differs.

    Shapes: x [N, I], y [M, J], each result [., O]. Initial weights: Xavier-uniform of the whole layer, b zero.
    """

    def __init__(self, first_width: int, second_width: int, out_width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first_weight_IO = nn.Parameter(torch.empty(first_width, out_width))
        self.second_weight_JO = nn.Parameter(torch.empty(second_width, out_width))
        self.bias_O = nn.Parameter(torch.zeros(out_width))
        bound = math.sqrt(6.0 / (first_width + second_width + out_width))
        with torch.no_grad():
            self.first_weight_IO.uniform_(-bound, bound, generator=generator)
            self.second_weight_JO.uniform_(-bound, bound, generator=generator)

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
    bound = math.sqrt(6.0 / (num_scenarios + width))
    return nn.Parameter(torch.empty(num_scenarios, width).uniform_(-bound, bound, generator=generator))
