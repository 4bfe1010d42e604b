"""HMoE as SSIM's authors compute it: a scenario's score mixes the scores of all scenarios' MMoE towers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import register
from msr_models.modules.experts import GatedExperts
from msr_models.modules.inputs import InputLayer, SequencePooling
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers, routed_product


@dataclass(frozen=True, kw_only=True, slots=True)
class HMoEConfig:
    """hidden: of the towers; SSIM uses (1024, 512, 256) for its MLPs. The default suits a day of a small log on a
    CPU.
    """

    embedding_dim: Annotated[int, Field(ge=1)] = 16
    num_experts: Annotated[int, Field(ge=1)] = 4
    expert_hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (128,)
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (128, 64)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    sequence_pooling: SequencePooling = "mean"


@register("hmoe", HMoEConfig)
class HMoE(MultiScenarioModel):
    """y_i = Σ_j softmax(V_i h)_j · (s_j where j = i, sg(s_j) elsewhere), s_j = sigmoid(tower_j(mixture_j(h))).

    Li et al. 2020 in the form of SSIM's source backbone: scores are mixed, not hidden vectors. h is the embedded input
    e, the concatenated field vectors [B, E]; mixture_j is MMoE's. A row so trains tower i (and what is below it)
    through s_i alone, and V_i through all scores. The logit of y_i is taken from log y_i and log(1 - y_i), fp32.

    Cost: a row needs the scores of all K towers, forward; they run without a gradient beside the visits', so that only
    forward work grows with K. A training step at K = 12 therefore takes more than twice SharedBottom's, and that of
    small towers on a CPU several times as much.

    >>> model = build_model("hmoe", {"num_experts": 4}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(self, config: HMoEConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator) -> None:
        super().__init__(num_scenarios)
        self.config = config
        self.inputs = InputLayer(layout, config.embedding_dim, config.sequence_pooling, generator)
        self.embedded_width = self.inputs.total_width
        self.mixtures = GatedExperts(
            num_scenarios, self.embedded_width, config.num_experts, config.expert_hidden, config.dropout, generator
        )
        width = config.expert_hidden[-1]
        self.towers = StackedTowers(num_scenarios, width, config.hidden, config.dropout, generator)
        self.score_gate_KEK = nn.Parameter(torch.empty(num_scenarios, self.embedded_width, num_scenarios))
        bound = math.sqrt(6.0 / (self.embedded_width + num_scenarios))
        with torch.no_grad():
            self.score_gate_KEK.uniform_(-bound, bound, generator=generator)

    def embed(self, batch: Batch) -> Tensor:
        """e_BE."""
        return self.inputs.concatenated(batch)

    def routed_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V."""
        experts_BXH = self.mixtures.experts(e_BE)
        with torch.no_grad():
            stopped_BK = self.towers.every(self.mixtures.every(e_BE, experts_BXH))
        e_VE = e_BE.index_select(0, routing.row_index_V)
        own_V: Tensor = self.towers(self.mixtures(e_VE, experts_BXH, routing), routing)
        is_own_VK = routing.scenario_V[:, None] == torch.arange(self.num_scenarios, device=e_BE.device)
        scores_VK = stopped_BK.float().index_select(0, routing.row_index_V)
        scores_VK = torch.where(is_own_VK, own_V.float()[:, None], scores_VK)
        return mixed_score_logit(routed_product(e_VE, self.score_gate_KEK, routing.ends_K), scores_VK)


def mixed_score_logit(gate_VK: Tensor, logits_VK: Tensor) -> Tensor:
    """logit of Σ_j softmax(gate)_j sigmoid(logits_j), [V] fp32, also where the sum rounds to 0 or 1."""
    log_gate_VK = F.log_softmax(gate_VK.float(), dim=1)
    log_yes_V = torch.logsumexp(log_gate_VK + F.logsigmoid(logits_VK), dim=1)
    log_no_V = torch.logsumexp(log_gate_VK + F.logsigmoid(-logits_VK), dim=1)
    return log_yes_V - log_no_V
