"""DCN-V2: a cross network of matrices beside or below an MLP, both per scenario, on a shared embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import Size, TowerConfig
from msr_models.models.registry import register
from msr_models.modules.dense import xavier_parameter
from msr_models.modules.module_list import ModuleList
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedLinear, StackedTowers, routed_product, rows_of


@dataclass(frozen=True, kw_only=True, slots=True)
class DCNV2Config(TowerConfig):
    """rank: of the cross layers' matrices, None: full. cross_experts: more than one needs a rank. structure: whether
    the MLP reads e beside the cross network, or the cross network's output.
    """

    cross_layers: Size = 3
    rank: Size | None = None
    cross_experts: Size = 1
    structure: Literal["parallel", "stacked"] = "parallel"

    def __post_init__(self) -> None:
        if self.rank is None and self.cross_experts > 1:
            raise ValueError(
                f"cross_experts is {self.cross_experts}, and experts are of low rank: set rank, such as 16"
            )


@register("dcn_v2", DCNV2Config)
class DCNV2(EmbeddingModel[DCNV2Config]):
    """parallel: logit_k = u_k·[x_L ; MLP_k(e)] + bias_k; stacked: logit_k = u_k·MLP_k(x_L) + bias_k (Wang et al. 2021).

    x_L is the output of scenario k's cross layers, of which each has a matrix where DCN has a vector:
    x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l, x_0 = e (eq. 1). With a rank W_l = U_l V_lᵀ; with cross_experts their mixture
    x_{l+1} = Σ_i G_i(x_l) x_0 ⊙ (U_li g(C_li g(V_liᵀ x_l)) + b_l) + x_l.
    This code's choices: a copy per scenario, as of the other networks of one scenario; g = tanh; G a product and a
    softmax over the experts, its weights each layer's own; a single matrix of low rank has neither g nor C.

    Cost: a layer of full rank takes E² products per visit, with 18 fields about twice those of a tower, so that a step
    on a CPU takes four to five times SharedBottom's time; `rank: 16` needs a ninth of these products.

    >>> model = build_model("dcn_v2", {"rank": 16, "cross_experts": 4}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: DCNV2Config, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        width = self.embedded_width
        self.cross = ModuleList(
            _cross_layer(config, num_scenarios, width, generator) for _ in range(config.cross_layers)
        )
        self.towers = StackedTowers(num_scenarios, width, config.hidden, config.dropout, generator)
        is_parallel = config.structure == "parallel"
        self.head_KE = xavier_parameter((num_scenarios, width), width + 1, generator) if is_parallel else None

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        e_VE = e_BE.index_select(0, routing.row_index_V)
        x_VE = e_VE
        for layer in self.cross:
            x_VE = e_VE * layer(x_VE, routing) + x_VE
        if self.head_KE is None:
            stacked_V: Tensor = self.towers(x_VE, routing)
            return stacked_V.float()
        deep_V: Tensor = self.towers(e_VE, routing)
        cross_V = (x_VE.float() * rows_of(self.head_KE, routing.scenario_V)).sum(1)
        return cross_V + deep_V.float()


def _cross_layer(
    config: DCNV2Config, num_scenarios: int, width: int, generator: torch.Generator
) -> StackedLinear | LowRankLayer | LowRankMixture:
    """What a cross layer multiplies x_0 with, [V, E] of x_l."""
    if config.rank is None:
        return StackedLinear(num_scenarios, width, width, generator)
    if config.cross_experts == 1:
        return LowRankLayer(num_scenarios, width, config.rank, generator)
    return LowRankMixture(num_scenarios, width, config.rank, config.cross_experts, generator)


class LowRankLayer(nn.Module):
    """U Vᵀ x + b per scenario; U and V Xavier-uniform, b zero. Suffix R: the rank."""

    def __init__(self, num_scenarios: int, width: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.v_KER = xavier_parameter((num_scenarios, width, rank), width + rank, generator)
        self.u = StackedLinear(num_scenarios, rank, width, generator)

    def forward(self, x_VE: Tensor, routing: Routing) -> Tensor:
        """[V, E] of visits sorted by scenario -> [V, E]."""
        out_VE: Tensor = self.u(routed_product(x_VE, self.v_KER, routing.ends_K), routing)
        return out_VE


class LowRankMixture(nn.Module):
    """Σ_i softmax(G x)_i U_i tanh(C_i tanh(V_iᵀ x)) + b per scenario, all Xavier-uniform but b, which is zero.

    The gates sum to 1, so that b counts once, and the sum over i is one product of U_1 ... U_X side by side with the
    gated vectors. Suffixes: X experts, R rank, Y = X R.
    """

    def __init__(self, num_scenarios: int, width: int, rank: int, experts: int, generator: torch.Generator) -> None:
        super().__init__()
        self.v_KEY = xavier_parameter((num_scenarios, width, experts * rank), width + rank, generator)
        self.c_KXRR = xavier_parameter((num_scenarios, experts, rank, rank), 2 * rank, generator)
        self.u_KYE = xavier_parameter((num_scenarios, experts * rank, width), rank + width, generator)
        self.bias_KE = nn.Parameter(torch.zeros(num_scenarios, width))
        self.gate_KEX = xavier_parameter((num_scenarios, width, experts), width + experts, generator)

    def forward(self, x_VE: Tensor, routing: Routing) -> Tensor:
        """[V, E] of visits sorted by scenario -> [V, E]."""
        visits, (experts, rank) = x_VE.shape[0], self.c_KXRR.shape[1:3]
        h_VXR = routed_product(x_VE, self.v_KEY, routing.ends_K).tanh().view(visits, experts, rank)
        # Every expert has an input of its own: groups are (expert, scenario)
        starts_X1 = visits * torch.arange(experts, device=x_VE.device, dtype=torch.int32)[:, None]
        grouped = self.c_KXRR.transpose(0, 1).flatten(0, 1)
        ends = (routing.ends_K + starts_X1).flatten()
        c_XVR = routed_product(h_VXR.transpose(0, 1).flatten(0, 1), grouped, ends).tanh().view(experts, visits, rank)
        gate_VX = routed_product(x_VE, self.gate_KEX, routing.ends_K).softmax(1)
        gated_VXR = gate_VX[:, :, None].to(c_XVR.dtype) * c_XVR.transpose(0, 1)
        out_VE = routed_product(gated_VXR.flatten(1), self.u_KYE, routing.ends_K)
        return out_VE + rows_of(self.bias_KE.to(out_VE.dtype), routing.scenario_V)
