"""HMoE in the form of SSIM's experiments: a scenario's score mixes the scores of all scenarios' MMoE towers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.mmoe import MMoEConfig
from msr_models.models.registry import register
from msr_models.modules.dense import xavier_uniform_
from msr_models.modules.experts import GatedExperts
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers, routed_product


@dataclass(frozen=True, kw_only=True, slots=True)
class HMoEConfig(MMoEConfig):
    """SSIM uses (1024, 512, 256) for its MLPs."""


@register("hmoe", HMoEConfig)
class HMoE(EmbeddingModel[HMoEConfig]):
    """y_i = Σ_j softmax(V_i e)_j · (s_j where j = i, sg(s_j) elsewhere), s_j = sigmoid(tower_j(mixture_j(e))).

    Li et al. 2020 as SSIM computes it: scores are mixed, not hidden vectors. mixture_j: MMoE's; sg: stop gradient.
    So a row trains tower i (and what is below it) through s_i alone, and V_i through all scores. The logit of y_i is
    computed from log y_i and log(1 - y_i), fp32.

    Cost: a row needs the scores of all K towers. Those of other scenarios are computed without gradients, so that only
    forward work grows with K: a training step at K = 12 takes more than twice SharedBottom's time, with small towers on
    a CPU several times as much.

    >>> model = build_model("hmoe", {"num_experts": 4}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(self, config: HMoEConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        self.mixtures = GatedExperts(
            num_scenarios, self.embedded_width, config.num_experts, config.expert_hidden, config.dropout, generator
        )
        width = config.expert_hidden[-1]
        self.towers = StackedTowers(num_scenarios, width, config.hidden, config.dropout, generator)
        self.score_gate_KEK = nn.Parameter(torch.empty(num_scenarios, self.embedded_width, num_scenarios))
        xavier_uniform_(self.score_gate_KEK, self.embedded_width + num_scenarios, generator)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        experts_BXH = self.mixtures.experts(e_BE)
        with torch.no_grad():
            stopped_BK = self.towers.every(self.mixtures.every(e_BE, experts_BXH))
        e_VE = e_BE.index_select(0, routing.row_index_V)
        own_V: Tensor = self.towers(self.mixtures(e_VE, experts_BXH, routing), routing)
        is_own_VK = routing.scenario_V[:, None] == torch.arange(self.num_scenarios, device=e_BE.device)
        scores_VK = stopped_BK.float().index_select(0, routing.row_index_V)
        scores_VK = torch.where(is_own_VK, own_V.float()[:, None], scores_VK)
        gate_VK = routed_product(e_VE, self.score_gate_KEK, routing.ends_K)
        return mixed_score_logit(self._of_same_label(gate_VK, routing), scores_VK)

    def _of_same_label(self, gate_VK: Tensor, routing: Routing) -> Tensor:
        """Scores of one label alone are mixed: a purchase is no opinion on a click."""
        if self.labels_per_scenario == 1:
            return gate_VK
        label_K = torch.arange(self.num_scenarios, device=gate_VK.device) % self.labels_per_scenario
        is_same_VK = label_K.index_select(0, routing.scenario_V)[:, None] == label_K
        # Not -inf, whose product with a share of 0 is NaN in the gradient
        return gate_VK.float().masked_fill(~is_same_VK, torch.finfo(torch.float32).min / 2)


def mixed_score_logit(gate_VK: Tensor, logits_VK: Tensor) -> Tensor:
    """logit of Σ_j softmax(gate)_j sigmoid(logits_j), [V] fp32, finite also where the sum rounds to 0 or 1."""
    log_gate_VK = F.log_softmax(gate_VK.float(), dim=1)
    log_yes_V = torch.logsumexp(log_gate_VK + F.logsigmoid(logits_VK), dim=1)
    log_no_V = torch.logsumexp(log_gate_VK + F.logsigmoid(-logits_VK), dim=1)
    return log_yes_V - log_no_V
