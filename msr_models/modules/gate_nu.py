"""PEPNet's gates: a GateNU is δ(x) = 2 σ(W' relu(W x + b) + b') (Chang et al. 2023, eq. 1-2), so that 1 is neutral.

Suffixes: G hidden width of a gate, P width of the prior features, H widths of a tower's hidden layers.
A gate's input is a concatenation, so its first product is a sum of products with the parts, each computed once per row,
scenario or visit. Initial weights: Xavier-uniform, biases zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.modules.dense import xavier_parameter
from msr_models.modules.module_list import ModuleList
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedLinear, StackedTowers, rows_of


class EmbeddingGate(nn.Module):
    """EPNet: O = δ([E_scenario ; sg(e)]) ⊗ e (eq. 3-5), one gate for all scenarios.

    The gate's input is detached: only the product trains e.
    """

    def __init__(
        self, num_scenarios: int, in_width: int, scenario_width: int, hidden: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        fan = scenario_width + in_width + hidden
        self.scenario_KD = xavier_parameter((num_scenarios, scenario_width), num_scenarios + scenario_width, generator)
        self.scenario_weight_DG = xavier_parameter((scenario_width, hidden), fan, generator)
        self.weight_EG = xavier_parameter((in_width, hidden), fan, generator)
        self.bias_G = nn.Parameter(torch.zeros(hidden))
        self.gate_weight_GE = xavier_parameter((hidden, in_width), hidden + in_width, generator)
        self.gate_bias_E = nn.Parameter(torch.zeros(in_width))

    def forward(self, e_BE: Tensor, routing: Routing) -> Tensor:
        """O_VE of the visits."""
        rows_BG = e_BE.detach() @ self.weight_EG
        scenarios_KG = (self.scenario_KD @ self.scenario_weight_DG + self.bias_G).to(rows_BG.dtype)
        row_V = routing.row_index_V
        h_VG = F.relu(rows_BG.index_select(0, row_V) + rows_of(scenarios_KG, routing.scenario_V), inplace=True)
        return gate(F.linear(h_VG, self.gate_weight_GE.t(), self.gate_bias_E)) * e_BE.index_select(0, row_V)


class PersonalisedTowers(nn.Module):
    """PPNet: h_l ← δ_l([prior ; sg(O)]) ⊗ h_l after every hidden layer of K towers (eq. 6-8), O the towers' input.

    The towers see O with its gradient, the gates without. δ has one value per hidden unit of every tower: W' belongs to
    a tower, W is common to all. The W of all layers are one product.
    """

    def __init__(
        self,
        num_scenarios: int,
        prior_width: int,
        in_width: int,
        hidden: Sequence[int],
        gate_hidden: int,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.towers = StackedTowers(num_scenarios, in_width, hidden, dropout, generator)
        fan, width = prior_width + in_width + gate_hidden, gate_hidden * len(hidden)
        self.prior_weight_PG = xavier_parameter((prior_width, width), fan, generator)
        self.weight_EG = xavier_parameter((in_width, width), fan, generator)
        self.bias_G = nn.Parameter(torch.zeros(width))
        self.gates = ModuleList(StackedLinear(num_scenarios, gate_hidden, h, generator) for h in hidden)

    def of_prior(self, prior_BP: Tensor) -> Tensor:
        """The prior's part of the hidden layers of all gates, [B, layers * G]."""
        product = prior_BP @ self.prior_weight_PG
        return product + self.bias_G.to(product.dtype)

    def of_input(self, o_NE: Tensor) -> Tensor:
        """O's part of the same, [N, layers * G], without a gradient to O; N rows or visits."""
        return o_NE.detach() @ self.weight_EG

    def forward(self, o_VE: Tensor, gates_VG: Tensor, routing: Routing) -> Tensor:
        """Logits [V] fp32; gates_VG: sum of the two parts for the visits."""
        *layers, last = self.towers.layers
        h = o_VE
        hidden_of_layers = F.relu(gates_VG).chunk(len(layers), dim=1)
        for layer, own_gate, hidden_VG in zip(layers, self.gates, hidden_of_layers, strict=True):
            h = F.relu(layer(h, routing)) * gate(own_gate(hidden_VG, routing))
            h = F.dropout(h, self.towers.dropout, self.training)
        logits_V1: Tensor = last(h, routing)
        return logits_V1.squeeze(1)


def gate(logits: Tensor) -> Tensor:
    """2 σ(logits)."""
    return 2.0 * logits.sigmoid()
