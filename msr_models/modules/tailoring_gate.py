"""SFPNet's gates on the embedding of the scenario, and its S-DNN.

Suffixes: R input rows, S width of a scenario's embedding, C context, G hidden, H output width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.modules.dense import Dense, xavier_parameter
from msr_models.modules.module_list import ModuleList
from msr_models.modules.split_linear import SplitLinear
from msr_models.modules.stacked import rows_of


@dataclass(frozen=True, slots=True)
class Visits:
    """V visits: visit v reads row row_index_V[v] of a layer's input (None: row v)."""

    scenario_V: Tensor
    row_index_V: Tensor | None

    def of(self, rows: Tensor) -> Tensor:
        """The visits' rows, [V, ...]."""
        return rows if self.row_index_V is None else rows.index_select(0, self.row_index_V)

    def reached(self) -> Visits:
        """The same visits for an input that has one row per visit."""
        return replace(self, row_index_V=None)


class ScenarioGate(nn.Module):
    """A = σ(W_1 LN(ReLU(W_0 [x ; s] + b_0)) + b_1), s the scenario's embedding (SFPNet, eq. 3 and 10); 0 < A < 1.

    The product of W_0 with x is computed once per row, that with s once per scenario. Initial weights: Xavier-uniform,
    biases zero.
    """

    def __init__(
        self, in_width: int, scenario_width: int, hidden: int, out_width: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.joined = SplitLinear(in_width, scenario_width, hidden, generator)
        self.norm = nn.LayerNorm(hidden)
        self.out = Dense(hidden, out_width, generator)

    def forward(self, x_RI: Tensor, scenario_KS: Tensor, visits: Visits) -> Tensor:
        """[V, out]."""
        rows_RG, scenarios_KG = self.joined.first(x_RI), self.joined.second(scenario_KS)
        h_VG = F.relu(visits.of(rows_RG) + rows_of(scenarios_KG.to(rows_RG.dtype), visits.scenario_V))
        # fp32 also under autocast on a CPU: the norm's gradient is a small difference of large sums
        gate_VO: Tensor = self.out(self.norm(h_VG.float()))
        return gate_VO.sigmoid()


class ScenarioAwareDNN(nn.Module):
    """S-DNN: H^j = ReLU(W (H^{j-1} ⊗ A^j) + b), A^j a ScenarioGate of H^{j-1} (SFPNet, eq. 10-11), and a linear logit.

    gate_hidden None: a plain DNN, without gates and independent of the scenario.
    """

    def __init__(
        self,
        in_width: int,
        scenario_width: int,
        hidden: Sequence[int],
        gate_hidden: int | None,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        widths = [in_width, *hidden]
        self.layers = ModuleList(Dense(i, o, generator) for i, o in pairwise(widths))
        self.gates: ModuleList[ScenarioGate] | None = None
        if gate_hidden is not None:
            self.gates = ModuleList(ScenarioGate(i, scenario_width, gate_hidden, i, generator) for i in widths[:-1])
        self.head_H = xavier_parameter((widths[-1],), widths[-1] + 1, generator)
        self.head_bias = nn.Parameter(torch.zeros(1))
        self.dropout = dropout

    def forward(self, h_RI: Tensor, scenario_KS: Tensor, visits: Visits) -> Tensor:
        """Logits [V], fp32."""
        for j, layer in enumerate(self.layers):
            h_VI = visits.of(h_RI)
            if self.gates is not None:
                h_VI = h_VI * self.gates[j](h_RI, scenario_KS, visits)
            h_RI = F.dropout(F.relu(layer(h_VI), inplace=True), self.dropout, self.training)
            visits = visits.reached()
        with torch.autocast(h_RI.device.type, enabled=False):
            return (h_RI.float() * self.head_H).sum(1) + self.head_bias
