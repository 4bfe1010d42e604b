"""Experts that each visit selects: those specific to its scenario and those that suit all (a layer of AESM²).

Suffixes: X experts, H width of an expert's output, N inputs (rows, or visits above the first layer).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.modules.routing import Routing
from msr_models.modules.split_linear import SplitLinear
from msr_models.modules.stacked import StackedLinear


class SelectedExperts(nn.Module):
    """z = Σ_{j selected} softmax(G_s)_j E_j(x), E_j one layer with ReLU, G = W [x ; s] + b of shape [K, X].

    The gate is fp32 throughout: in bf16 rounding would decide which of two similar experts is selected.
    Initial weights: Xavier-uniform, biases zero.
    """

    def __init__(
        self,
        num_scenarios: int,
        in_width: int,
        scenario_width: int,
        num_experts: int,
        width: int,
        top_k: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.num_scenarios, self.num_experts, self.top_k = num_scenarios, num_experts, top_k
        self.experts = StackedLinear(num_experts, in_width, width, generator)
        self.gate = SplitLinear(in_width, scenario_width, num_scenarios * num_experts, generator)

    def forward(
        self, x_NI: Tensor, scenario_KD: Tensor, place_V: Tensor, routing: Routing, noise_BG: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(z_VH, divergence_V). Visit v reads x_NI[place_V[v]]; noise_BG [B, K * X] is added to its row's gate."""
        experts_NXH = F.relu(self.experts.every(x_NI)).transpose(0, 1)
        with torch.autocast(x_NI.device.type, enabled=False):
            logits_VG = self.gate.of_scenario(x_NI.float(), scenario_KD, place_V, routing.scenario_V)
            if noise_BG is not None:
                logits_VG = logits_VG + noise_BG.index_select(0, routing.row_index_V)
            logits_VKX = logits_VG.view(-1, self.num_scenarios, self.num_experts)
            gate_VX, divergence_V = selective_gate(logits_VKX, routing.scenario_V, self.top_k)
        experts_VXH = experts_NXH.index_select(0, place_V)
        return torch.einsum("vx,vxh->vh", gate_VX.to(experts_VXH.dtype), experts_VXH), divergence_V


def selective_gate(logits_VKX: Tensor, scenario_V: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """(gate_VX, divergence_V) (Zou et al. 2022, expert selection).

    With Ĝ_j = softmax over the K scenarios of expert j's logits, specific experts are the top_k with the smallest
    KL(onehot_s ‖ Ĝ_j) = −log Ĝ_sj, shared ones those with the smallest KL(uniform ‖ Ĝ_j) = −log K − mean_k log Ĝ_kj;
    of equals the first. gate: softmax of G_s over the union, exactly 0 elsewhere. divergence: mean KL of the selected
    specific experts plus that of the selected shared ones, in nats.
    """
    normaliser_VX = logits_VKX.logsumexp(1)
    own_V1X = scenario_V[:, None, None].expand(-1, 1, logits_VKX.shape[2])
    own_VX = logits_VKX.gather(1, own_V1X).squeeze(1)
    specific_VX = normaliser_VX - own_VX
    shared_VX = normaliser_VX - logits_VKX.mean(1) - math.log(logits_VKX.shape[1])
    selected_VX = torch.zeros_like(own_VX, dtype=torch.bool)
    divergence_V = torch.zeros_like(own_VX[:, 0])
    for kl_VX in (specific_VX, shared_VX):
        # Stable: with one scenario all are equal, and a GPU must select the same as a CPU
        nearest = kl_VX.sort(dim=1, stable=True)
        selected_VX = selected_VX.scatter(1, nearest.indices[:, :top_k], True)
        divergence_V = divergence_V + nearest.values[:, :top_k].mean(1)
    return own_VX.masked_fill(~selected_VX, -math.inf).softmax(1), divergence_V
