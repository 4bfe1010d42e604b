"""Star topology: a scenario's weights are the shared ones, multiplied and shifted by its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.modules.dense import xavier_uniform_
from msr_models.modules.module_list import ModuleList
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import routed_product, rows_of


class StarLinear(nn.Module):
    """W*_p = W ⊙ W_p, b*_p = b + b_p (Sheng et al. 2021, eq. 7-8).

    W starts Xavier-uniform and W_p at ones, so that all scenarios begin as the shared network; b and b_p at zeros.
    """

    neutral_values: ClassVar[Mapping[str, float]] = {"own_weight_KIO": 1.0}

    def __init__(self, num_scenarios: int, in_width: int, out_width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight_IO = nn.Parameter(torch.empty(in_width, out_width))
        self.bias_O = nn.Parameter(torch.zeros(out_width))
        self.own_weight_KIO = nn.Parameter(torch.ones(num_scenarios, in_width, out_width))
        self.own_bias_KO = nn.Parameter(torch.zeros(num_scenarios, out_width))
        xavier_uniform_(self.weight_IO, in_width + out_width, generator)

    def forward(self, x_VI: Tensor, routing: Routing) -> Tensor:
        """[V, in] of visits sorted by scenario -> [V, out]."""
        out_VO = routed_product(x_VI, self.weight_IO * self.own_weight_KIO, routing.ends_K)
        return out_VO + rows_of((self.bias_O + self.own_bias_KO).to(out_VO.dtype), routing.scenario_V)

    def logits(self, x_VI: Tensor, routing: Routing) -> Tensor:
        """A layer of width 1, [V] fp32: logits rounded to bf16 would be tied."""
        weight_KI, bias_K1 = (self.weight_IO * self.own_weight_KIO).squeeze(2), self.bias_O + self.own_bias_KO
        with torch.autocast(x_VI.device.type, enabled=False):
            weighted_VI = x_VI.float() * rows_of(weight_KI, routing.scenario_V)
            return weighted_VI.sum(1) + rows_of(bias_K1, routing.scenario_V).squeeze(1)


class StarTowers(nn.Module):
    """K towers of StarLinear layers: ReLU and dropout after every hidden layer, and a linear logit."""

    def __init__(
        self, num_scenarios: int, in_width: int, hidden: Sequence[int], dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        widths = [in_width, *hidden, 1]
        self.layers = ModuleList(StarLinear(num_scenarios, i, o, generator) for i, o in pairwise(widths))
        self.dropout = dropout

    def forward(self, x_VI: Tensor, routing: Routing) -> Tensor:
        """Logits [V] of visits sorted by scenario, fp32."""
        h = x_VI
        for layer in self.layers[:-1]:
            h = F.dropout(F.relu(layer(h, routing)), self.dropout, self.training)
        return self.layers[-1].logits(h, routing)
