"""M2M: experts that all scenarios share, weighted and followed by layers whose weights the scenario generates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import Size, TowerConfig
from msr_models.models.registry import register
from msr_models.modules.dense import Dense, xavier_parameter, xavier_uniform_
from msr_models.modules.module_list import ModuleList
from msr_models.modules.routing import Routing
from msr_models.modules.split_linear import scenario_vectors
from msr_models.modules.stacked import StackedTowers, routed_product, rows_of, stacked_layers, through_all


@dataclass(frozen=True, kw_only=True, slots=True)
class M2MConfig(TowerConfig):
    """hidden: widths of an expert's layers, the last one that of the meta tower too. knowledge_width: of the scenario's
    and of the task's vector. attention_width: of the meta unit in the attention. Sizes are this code's choice.
    """

    num_experts: Size = 4
    knowledge_width: Size = 16
    attention_width: Size = 16
    tower_layers: Size = 2


@register("m2m", M2MConfig)
class M2M(EmbeddingModel[M2MConfig]):
    """logit_k = w·L_n + b, L_0 = R, L_j = σ(Meta_kj(L_{j-1}) + L_{j-1}) (Zhang et al. 2022, the meta tower).

    Scenario knowledge: S_k = σ(P s_k + p), s_k the embedding of scenario k. Meta unit: Meta_k(h) = W_k h + b_k whose
    weights are generated, W_k = reshape(V S_k + v) and b_k = V' S_k + v'; σ is LeakyReLU.
    Meta attention: R = Σ_x α_x E_x(e) with α = softmax over the experts x of vᵀ σ(Meta_k([E_x(e) ; T])), T the vector
    of the task: one task here, so one T.
    This code's choices: the experts are MLPs on e with ReLU after every layer (the paper's read the output of a
    Transformer over sequences); the knowledge is the scenario's alone (the paper's also reads the advertiser's
    profile), so that weights are generated once per scenario and not per row; one layer in a meta unit; V and v start
    Xavier-uniform as the layer that they generate; a logit that all scenarios share, where the paper has a Poisson
    regression.

    Cost: experts run once per row, attention and tower once per visit, the meta unit of the attention once per visit
    and expert, so that a step at K = 12 on a CPU takes two to three times SharedBottom's time.

    >>> model = build_model("m2m", {"num_experts": 8, "tower_layers": 3}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(self, config: M2MConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        width, known = config.hidden[-1], config.knowledge_width
        self.scenario_KD = scenario_vectors(num_scenarios, config.embedding_dim, generator)
        self.knowledge = Dense(config.embedding_dim, known, generator)
        self.experts = stacked_layers(config.num_experts, [self.embedded_width, *config.hidden], generator)
        self.attention = MetaAttention(known, width, config.attention_width, generator)
        self.tower = ModuleList(MetaUnit(known, width, width, generator) for _ in range(config.tower_layers))
        self.head = StackedTowers(1, width, (), 0.0, generator)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        experts_BXH = through_all(self.experts, e_BE, self.config.dropout, self.training).transpose(0, 1)
        knowledge_KS = F.leaky_relu(self.knowledge(self.scenario_KD))
        h_VH: Tensor = self.attention(experts_BXH.index_select(0, routing.row_index_V), knowledge_KS, routing)
        for unit in self.tower:
            h_VH = F.leaky_relu(unit(h_VH, knowledge_KS, routing) + h_VH)
            h_VH = F.dropout(h_VH, self.config.dropout, self.training)
        return self.head.every(h_VH).squeeze(1)


class MetaUnit(nn.Module):
    """W_k h + b_k with W_k = reshape(V S_k + v) [in, out] and b_k = V' S_k + v' of the scenario's knowledge S_k.

    V and v start Xavier-uniform for a layer of these widths, V' and v' at zero. Suffixes: S width of the knowledge,
    I input, O output.
    """

    def __init__(self, knowledge_width: int, in_width: int, out_width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight_SIO = xavier_parameter((knowledge_width, in_width, out_width), in_width + out_width, generator)
        self.common_weight_IO = xavier_parameter((in_width, out_width), in_width + out_width, generator)
        self.bias_SO = nn.Parameter(torch.zeros(knowledge_width, out_width))
        self.common_bias_O = nn.Parameter(torch.zeros(out_width))

    def generated(self, knowledge_KS: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [K, I, O] and biases [K, O] of all scenarios."""
        width, (in_width, out_width) = knowledge_KS.shape[0], self.common_weight_IO.shape
        weight_KIO = (knowledge_KS @ self.weight_SIO.flatten(1)).view(width, in_width, out_width)
        return weight_KIO + self.common_weight_IO, knowledge_KS @ self.bias_SO + self.common_bias_O

    def forward(self, h_VI: Tensor, knowledge_KS: Tensor, routing: Routing) -> Tensor:
        """[V, I] of visits sorted by scenario -> [V, O]."""
        weight_KIO, bias_KO = self.generated(knowledge_KS)
        out_VO = routed_product(h_VI, weight_KIO, routing.ends_K)
        return out_VO + rows_of(bias_KO.to(out_VO.dtype), routing.scenario_V)


class MetaAttention(nn.Module):
    """Σ_x softmax_x(vᵀ σ(Meta_k([E_x ; T]))) E_x; T starts Xavier-uniform, as v does.

    The product with T is the same for all rows and experts of a scenario: it joins the bias.
    """

    def __init__(self, knowledge_width: int, width: int, unit_width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.task_T = nn.Parameter(torch.empty(knowledge_width))
        self.unit = MetaUnit(knowledge_width, width + knowledge_width, unit_width, generator)
        self.head_O = nn.Parameter(torch.empty(unit_width))
        xavier_uniform_(self.task_T, knowledge_width + 1, generator)
        xavier_uniform_(self.head_O, unit_width + 1, generator)

    def forward(self, experts_VXH: Tensor, knowledge_KS: Tensor, routing: Routing) -> Tensor:
        """[V, H] of the experts' outputs [V, X, H] at visits sorted by scenario."""
        visits, experts, width = experts_VXH.shape
        weight_KIO, bias_KO = self.unit.generated(knowledge_KS)
        constant_KO = bias_KO + torch.einsum("t,kto->ko", self.task_T, weight_KIO[:, width:])
        weight_KHO = weight_KIO[:, :width].contiguous()
        h_NO = routed_product(experts_VXH.flatten(0, 1), weight_KHO, routing.ends_K * experts)
        h_VXO = h_NO.view(visits, experts, self.head_O.shape[0])
        h_VXO = F.leaky_relu(h_VXO + rows_of(constant_KO.to(h_VXO.dtype), routing.scenario_V)[:, None])
        share_VX = (h_VXO @ self.head_O).softmax(1)
        return torch.einsum("vx,vxh->vh", share_VX, experts_VXH)
