"""One network for all scenarios whose input may include the scenario (STAR's auxiliary network, BaseDNN)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.modules.dense import xavier_uniform_
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import rows_of, stacked_layers, through_all


class CommonNetwork(nn.Module):
    """MLP on [e ; embedding of the scenario], shared by all scenarios: ReLU between layers, a linear logit.

    scenario_width 0: on e alone. The first layer's product with e is computed once per row, that with the embedding
    once per scenario. Initial weights: Xavier-uniform, biases zero.
    """

    def __init__(
        self,
        num_scenarios: int,
        in_width: int,
        scenario_width: int,
        hidden: Sequence[int],
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.scenario_KD: nn.Parameter | None = None
        self.scenario_weight_DH: nn.Parameter | None = None
        if scenario_width:
            self.scenario_KD = nn.Parameter(torch.empty(num_scenarios, scenario_width))
            self.scenario_weight_DH = nn.Parameter(torch.empty(scenario_width, hidden[0]))
        self.weight_EH = nn.Parameter(torch.empty(in_width, hidden[0]))
        self.bias_H = nn.Parameter(torch.zeros(hidden[0]))
        self.head_H = nn.Parameter(torch.empty(hidden[-1]))
        self.head_bias = nn.Parameter(torch.zeros(1))
        first_fan = in_width + scenario_width + hidden[0]
        fans = (
            (self.scenario_KD, num_scenarios + scenario_width),
            (self.weight_EH, first_fan),
            (self.scenario_weight_DH, first_fan),
            (self.head_H, hidden[-1] + 1),
        )
        for parameter, fan in fans:
            if parameter is not None:
                xavier_uniform_(parameter, fan, generator)
        self.layers = stacked_layers(1, hidden, generator)
        self.dropout = dropout

    def forward(self, e_BE: Tensor, routing: Routing) -> Tensor:
        """Logits [V] fp32."""
        rows_BH = e_BE @ self.weight_EH
        if self.scenario_KD is None or self.scenario_weight_DH is None:
            h_VH = (rows_BH + self.bias_H.to(rows_BH.dtype)).index_select(0, routing.row_index_V)
        else:
            scenarios_KH = (self.scenario_KD @ self.scenario_weight_DH + self.bias_H).to(rows_BH.dtype)
            h_VH = rows_BH.index_select(0, routing.row_index_V) + rows_of(scenarios_KH, routing.scenario_V)
        h_VH = F.dropout(F.relu(h_VH), self.dropout, self.training)
        h_VH = through_all(self.layers, h_VH, self.dropout, self.training)
        h_VH = h_VH.view(len(routing.row_index_V), len(self.head_H))
        with torch.autocast(e_BE.device.type, enabled=False):
            return (h_VH.float() * self.head_H).sum(1) + self.head_bias
