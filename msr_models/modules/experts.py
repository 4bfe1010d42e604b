"""Experts that all scenarios share, and a gate per scenario that mixes them (the part of MMoE below its towers).

Suffixes: X experts, H width of an expert's output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedLinear, routed_product


class GatedExperts(nn.Module):
    """mixture_k(x) = Σ_e softmax(W_k x)_e E_e(x) (Ma et al. 2018, eq. 6-7): a gate is a product and a softmax, no more.

    Experts are MLPs with ReLU after every layer. `experts` runs once per row; `forward` mixes what it gave for the
    visits of a routing, `every` for all scenarios. Initial weights: Xavier-uniform per expert and per gate.
    """

    def __init__(
        self,
        num_scenarios: int,
        in_width: int,
        num_experts: int,
        expert_hidden: Sequence[int],
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        widths = [in_width, *expert_hidden]
        self.layers = nn.ModuleList(StackedLinear(num_experts, i, o, generator) for i, o in pairwise(widths))
        self.gate_KEX = nn.Parameter(torch.empty(num_scenarios, in_width, num_experts))
        bound = math.sqrt(6.0 / (in_width + num_experts))
        with torch.no_grad():
            self.gate_KEX.uniform_(-bound, bound, generator=generator)
        self.dropout = dropout

    def experts(self, x_BE: Tensor) -> Tensor:
        """Every expert on every row, [B, X, H]."""
        h = x_BE
        for layer in self.layers:
            assert isinstance(layer, StackedLinear)
            h = F.dropout(F.relu(layer.every(h)), self.dropout, self.training)
        return h.transpose(0, 1)

    def forward(self, x_VE: Tensor, experts_BXH: Tensor, routing: Routing) -> Tensor:
        """[V, H]: each visit's row mixed by its scenario's gate; x_VE are the visits' inputs."""
        gate_VX = routed_product(x_VE, self.gate_KEX, routing.ends_K).softmax(1)
        experts_VXH = experts_BXH.index_select(0, routing.row_index_V)
        return torch.einsum("vx,vxh->vh", gate_VX, experts_VXH)

    def every(self, x_BE: Tensor, experts_BXH: Tensor) -> Tensor:
        """[K, B, H]: every row mixed by every scenario's gate."""
        gate_KBX = torch.matmul(x_BE, self.gate_KEX).softmax(2)
        return torch.einsum("kbx,bxh->kbh", gate_KBX, experts_BXH)
