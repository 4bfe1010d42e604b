"""OptMSM's transfer operations FCN, MoE and CGC: from gated inputs x_VE of the visits to representations r_VH.

All end in a ReLU or a mixture of ReLUs, so that r and the cosine of two r are not negative. Suffix: X experts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.modules.dense import xavier_parameter
from msr_models.modules.module_list import ModuleList
from msr_models.modules.progressive import ScenarioExperts
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedLinear, routed_product, stacked_layers, through_all
from msr_models.modules.star_towers import StarLinear


class Transfer(nn.Module, ABC):
    """x_VE of visits sorted by scenario -> r_VH, H the last of `hidden`."""

    def __init__(self, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.out_width = hidden[-1]
        self.dropout = dropout

    @abstractmethod
    def forward(self, x_VE: Tensor, routing: Routing) -> Tensor:
        """r_VH."""

    def _shared_experts(self, layers: ModuleList[StackedLinear], x_VE: Tensor) -> Tensor:
        """[V, X, H]: every expert on every visit."""
        return through_all(layers, x_VE, self.dropout, self.training).transpose(0, 1)


class StarTransfer(Transfer):
    """FCN: layers (W ⊗ W^m) x + b + b^m (Tang et al. 2023, eq. 8; StarLinear), each followed by a ReLU."""

    def __init__(
        self, num_scenarios: int, in_width: int, hidden: Sequence[int], dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__(hidden, dropout)
        widths = pairwise([in_width, *hidden])
        self.layers = ModuleList(StarLinear(num_scenarios, i, o, generator) for i, o in widths)

    def forward(self, x_VE: Tensor, routing: Routing) -> Tensor:
        """r_VH."""
        h = x_VE
        for layer in self.layers:
            h = F.dropout(F.relu(layer(h, routing), inplace=True), self.dropout, self.training)
        return h


class MixtureTransfer(Transfer):
    """MoE: Σ_e softmax(W^m x)_e MLP_e(x) over experts that all scenarios share (Ma et al. 2018, eq. 5-7).

    x is gated by the scenario: unlike MMoE's, experts run once per visit.
    """

    def __init__(
        self,
        num_scenarios: int,
        in_width: int,
        num_experts: int,
        hidden: Sequence[int],
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__(hidden, dropout)
        self.shared = stacked_layers(num_experts, [in_width, *hidden], generator)
        self.gate_KEX = xavier_parameter((num_scenarios, in_width, num_experts), in_width + num_experts, generator)

    def forward(self, x_VE: Tensor, routing: Routing) -> Tensor:
        """r_VH."""
        gate_VX = routed_product(x_VE, self.gate_KEX, routing.ends_K).softmax(1)
        return torch.einsum("vx,vxh->vh", gate_VX, self._shared_experts(self.shared, x_VE))


class CustomisedTransfer(Transfer):
    """CGC: softmax(W^m x) mixes scenario m's own experts and those that all share (Tang et al. 2020, eq. 1-4).

    A visit runs the shared experts and those of its scenario, which come first in the gate.
    """

    def __init__(
        self,
        num_scenarios: int,
        in_width: int,
        num_own: int,
        num_shared: int,
        hidden: Sequence[int],
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__(hidden, dropout)
        self.own = ScenarioExperts(num_scenarios, in_width, num_own, hidden, dropout, generator)
        self.shared = stacked_layers(num_shared, [in_width, *hidden], generator)
        experts = num_own + num_shared
        self.gate_KEX = xavier_parameter((num_scenarios, in_width, experts), in_width + experts, generator)

    def forward(self, x_VE: Tensor, routing: Routing) -> Tensor:
        """r_VH."""
        gate_VX = routed_product(x_VE, self.gate_KEX, routing.ends_K).softmax(1)
        experts_VXH = torch.cat([self.own(x_VE, routing), self._shared_experts(self.shared, x_VE)], dim=1)
        return torch.einsum("vx,vxh->vh", gate_VX, experts_VXH)
