"""Gates that a scenario's embedding opens and closes, and SFPNet's S-DNN made of them.

Suffixes: R rows that are read, S width of a scenario's embedding, C context, G hidden, H out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.modules.dense import Dense, xavier_uniform_
from msr_models.modules.split_linear import SplitLinear
from msr_models.modules.stacked import rows_of


@dataclass(frozen=True, slots=True)
class Visits:
    """V visits of scenarios: visit v reads row row_index_V[v] of what a layer is given (None: its row v)."""

    scenario_V: Tensor
    row_index_V: Tensor | None

    def of(self, rows: Tensor) -> Tensor:
        """What each visit reads, [V, ...]."""
        return rows if self.row_index_V is None else rows.index_select(0, self.row_index_V)

    def reached(self) -> Visits:
        """The same visits where rows have become visits."""
        return replace(self, row_index_V=None)


class ScenarioGate(nn.Module):
    """A = σ(W_1 LN(ReLU(W_0 [x ; s] + b_0)) + b_1), s the scenario's embedding (SFPNet, eq. 3 and 10); 0 < A < 1.

    The product of W_0 with x is taken once per row and that with s once per scenario. Initial weights: Xavier-uniform,
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
        # In full precision, as a GPU would: the norm's own gradient is a small difference of large sums.
        gate_VO: Tensor = self.out(self.norm(h_VG.float()))
        return gate_VO.sigmoid()


class ScenarioAwareDNN(nn.Module):
    """S-DNN: H^j = ReLU(W (H^{j-1} ⊗ A^j) + b), A^j a ScenarioGate of H^{j-1} (SFPNet, eq. 10-11), and a linear logit.

    gate_hidden None: without gates, a plain DNN that does not know the scenario.
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
        self.layers = nn.ModuleList(Dense(i, o, generator) for i, o in pairwise(widths))
        self.gates: nn.ModuleList | None = None
        if gate_hidden is not None:
            self.gates = nn.ModuleList(ScenarioGate(i, scenario_width, gate_hidden, i, generator) for i in widths[:-1])
        self.head_H = nn.Parameter(torch.empty(widths[-1]))
        self.head_bias = nn.Parameter(torch.zeros(1))
        xavier_uniform_(self.head_H, widths[-1] + 1, generator)
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
