"""HiNet: shared experts, the scenario's own, and an attention to the experts of the other scenarios."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import Size, TowerConfig, Widths
from msr_models.models.registry import register
from msr_models.modules.dense import xavier_parameter
from msr_models.modules.experts import GatedExperts
from msr_models.modules.progressive import ScenarioExperts, at_visits
from msr_models.modules.routing import Routing
from msr_models.modules.split_linear import scenario_vectors
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class HiNetConfig(TowerConfig):
    """Numbers of sub-experts: of the shared module, and of each scenario's. Sizes are this code's choice."""

    num_shared_experts: Size = 2
    num_specific_experts: Size = 2
    expert_hidden: Widths = (64,)


@register("hinet", HiNetConfig)
class HiNet(EmbeddingModel[HiNetConfig]):
    """logit_k = tower_k([G ; S_k ; A_k]) (Zhou et al. 2023): HiNet's scenario extraction layer below one task's tower.

    A sub-expert integration module (SEI) is an MMoE with one gate: Σ_x softmax(W e)_x E_x(e). G is the SEI that all
    scenarios share, S_m that of scenario m, and A_k = Σ_{m≠k} α_km S_m (scenario-aware attentive network, SAN) with
    α_k = softmax over m≠k of (M s_k)_m, s_k the embedding of scenario k. With one scenario A is zero.
    With one task the task extraction layer (customised gates among tasks) is the task's tower. This code's choices: a
    tower per scenario; one matrix M that all scenarios share, whose softmax leaves k out.

    Cost: A_k needs the modules of all K scenarios on every row, which so grows with K (and a scenario's module also
    learns from the other scenarios' rows); the towers run once per visit. At K = 12 a step on a CPU takes five to nine
    times SharedBottom's time.

    >>> model = build_model("hinet", {"num_specific_experts": 4}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: HiNetConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        width, hidden, dropout = self.embedded_width, config.expert_hidden, config.dropout
        self.shared = GatedExperts(1, width, config.num_shared_experts, hidden, dropout, generator)
        self.specific = SpecificModules(num_scenarios, width, config.num_specific_experts, hidden, dropout, generator)
        self.attention = OtherScenarios(num_scenarios, config.embedding_dim, generator)
        self.towers = StackedTowers(num_scenarios, 3 * hidden[-1], config.hidden, dropout, generator)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        shared_BH = self.shared.every(e_BE, self.shared.experts(e_BE)).squeeze(0)
        own_BKH = self.specific(e_BE)
        others_BKH = self.attention.shares().to(own_BKH.dtype) @ own_BKH
        read_BKH = torch.cat([own_BKH, others_BKH], dim=2)
        read_VH = torch.cat([at_visits(shared_BH, routing), at_visits(read_BKH, routing)], dim=1)
        logits_V: Tensor = self.towers(read_VH, routing)
        return logits_V.float()


class SpecificModules(nn.Module):
    """The SEI of every scenario: its sub-experts and its gate, a product and a softmax."""

    def __init__(
        self,
        num_scenarios: int,
        width: int,
        num_experts: int,
        hidden: tuple[int, ...],
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.experts = ScenarioExperts(num_scenarios, width, num_experts, hidden, dropout, generator)
        self.gate_KEX = xavier_parameter((num_scenarios, width, num_experts), width + num_experts, generator)

    def forward(self, e_BE: Tensor) -> Tensor:
        """All scenarios' modules on all rows, [B, K, H]."""
        experts_BKXH = self.experts.every(e_BE)
        gate_BKX = torch.einsum("be,kex->bkx", e_BE, self.gate_KEX).softmax(2)
        return torch.einsum("bkx,bkxh->bkh", gate_BKX, experts_BKXH)


class OtherScenarios(nn.Module):
    """SAN: how much a scenario takes from each other one, by its embedding."""

    is_own_KK: Tensor

    def __init__(self, num_scenarios: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.scenario_KD = scenario_vectors(num_scenarios, width, generator)
        self.scores_DK = xavier_parameter((width, num_scenarios), width + num_scenarios, generator)
        self.register_buffer("is_own_KK", torch.eye(num_scenarios, dtype=torch.bool), persistent=False)

    def shares(self) -> Tensor:
        """α, [K, K]: row k sums to 1 with 0 at k; a single scenario has 0."""
        scores_KK = self.scenario_KD @ self.scores_DK
        # Not -inf, whose softmax is NaN for a single scenario
        others_KK = scores_KK.float().masked_fill(self.is_own_KK, torch.finfo(torch.float32).min).softmax(1)
        return others_KK.masked_fill(self.is_own_KK, 0.0)
