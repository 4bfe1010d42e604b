"""Experts that all scenarios share, and a gate per scenario that mixes them (the part of MMoE below its towers).

Suffixes: X experts, H width of an expert's output.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from msr_models.modules.dense import xavier_parameter
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import routed_product, stacked_layers, through_all


class GatedExperts(nn.Module):
    """mixture_k(x) = Σ_e softmax(W_k x)_e E_e(x) (Ma et al. 2018, eq. 6-7); a gate is a product and a softmax.

    Experts are MLPs with ReLU after every layer. `experts` runs once per row; `forward` mixes its result for the visits
    of a routing, `every` for all scenarios. Initial weights: Xavier-uniform per expert and per gate.
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
        self.layers = stacked_layers(num_experts, [in_width, *expert_hidden], generator)
        self.gate_KEX = xavier_parameter((num_scenarios, in_width, num_experts), in_width + num_experts, generator)
        self.dropout = dropout

    def experts(self, x_BE: Tensor) -> Tensor:
        """Every expert on every row, [B, X, H]."""
        return through_all(self.layers, x_BE, self.dropout, self.training).transpose(0, 1)

    def forward(self, x_VE: Tensor, experts_BXH: Tensor, routing: Routing) -> Tensor:
        """[V, H]: each visit's row mixed by its scenario's gate; x_VE are the visits' inputs."""
        gate_VX = routed_product(x_VE, self.gate_KEX, routing.ends_K).softmax(1)
        experts_VXH = experts_BXH.index_select(0, routing.row_index_V)
        return torch.einsum("vx,vxh->vh", gate_VX, experts_VXH)

    def every(self, x_BE: Tensor, experts_BXH: Tensor) -> Tensor:
        """[K, B, H]: every row mixed by every scenario's gate."""
        gate_KBX = torch.matmul(x_BE, self.gate_KEX).softmax(2)
        return torch.einsum("kbx,bxh->kbh", gate_KBX, experts_BXH)
