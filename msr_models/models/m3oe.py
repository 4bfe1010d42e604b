"""M3oE: shared, scenario and task experts behind a star layer, added with trained weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import NoWidths, Size, TowerConfig, Widths
from msr_models.models.registry import register
from msr_models.modules.dense import Dense
from msr_models.modules.experts import GatedExperts
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers, rows_of, stacked_layers, through_all
from msr_models.modules.star_towers import StarLinear

START = 1.0
"""A trained weight before its sigmoid, which makes it 0.73."""


@dataclass(frozen=True, kw_only=True, slots=True)
class M3oEConfig(TowerConfig):
    """star_width, representation_width: of the star layer and of the layer behind it. num_experts: shared ones; each
    scenario has one and the task has one, all of widths expert_hidden. Sizes are this code's choice; the authors' code
    has 512, 256, experts and towers of 64, and four shared experts.
    """

    star_width: Size = 64
    representation_width: Size = 64
    num_experts: Size = 4
    expert_hidden: Widths = (64,)
    hidden: NoWidths = (64,)


@register("m3oe", M3oEConfig)
class M3oE(EmbeddingModel[M3oEConfig]):
    """logit_k = tower_k(z), z = S_k(x) + α_D · (β D_k(x) + (1 − β)/(K − 1) Σ_{j≠k} D_j(x)) + α_T T(x).

    Zhang et al. 2024 (SIGIR), with one task. Domain representation: x = ReLU(W_2 star_k(e) + b_2) + ReLU(W_3 e + b_3),
    star_k(e) = (W ⊙ W_k) e + b + b_k (STAR's layer without an activation, and a skip connection). S_k: MMoE's mixture
    of shared experts by the gate of scenario k; D_j: the expert of scenario j; T: the expert of the task. The first
    level of the fusion balances the scenario's own expert against the others (β), the second one the modules
    (α_D, α_T); each weight is σ of a trained number and common to all scenarios. Skip connection, σ and common weights
    follow the authors' published code.

    This code's choices: no search for the weights on validation rows (the paper's AutoML): they train as all other
    parameters do; no balance among tasks, as there is one; and, unlike the authors' code, no layer normalisation, and a
    gate that reads x with its gradient. With one scenario D_1 has the weight β.

    Cost: every visit runs through the experts of all K scenarios, which therefore learn from the rows of all, and x
    depends on the scenario, so that shared experts run once per visit too; W_3 e is computed once per row. A step at
    K = 12 on a CPU takes two to three times SharedBottom's time.

    >>> model = build_model("m3oe", {"num_experts": 8, "expert_hidden": [32]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(self, config: M3oEConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        width, expert_widths = config.representation_width, [config.representation_width, *config.expert_hidden]
        self.star = StarLinear(num_scenarios, self.embedded_width, config.star_width, generator)
        self.behind_star = Dense(config.star_width, width, generator)
        self.skip = Dense(self.embedded_width, width, generator)
        self.shared = GatedExperts(
            num_scenarios, width, config.num_experts, config.expert_hidden, config.dropout, generator
        )
        self.of_scenarios = stacked_layers(num_scenarios, expert_widths, generator)
        self.of_task = stacked_layers(1, expert_widths, generator)
        self.balance = nn.Parameter(torch.full((1,), START))  # β
        self.scenario_weight = nn.Parameter(torch.full((1,), START))  # α_D
        self.task_weight = nn.Parameter(torch.full((1,), START))  # α_T
        self.towers = StackedTowers(num_scenarios, config.expert_hidden[-1], config.hidden, config.dropout, generator)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        x_VC = self._representation(e_BE, routing)
        # The shared experts read visits: each is its own row
        visits = replace(routing, row_index_V=torch.arange(len(x_VC), device=x_VC.device), num_rows=len(x_VC))
        mixed_VH: Tensor = self.shared(x_VC, self.shared.experts(x_VC), visits)
        dropout = self.config.dropout
        scenarios_KVH = through_all(self.of_scenarios, x_VC, dropout, self.training)
        weight_VK = rows_of(self._balances(), routing.scenario_V)
        balanced_VH = torch.einsum("vk,kvh->vh", weight_VK, scenarios_KVH)
        task_VH = through_all(self.of_task, x_VC, dropout, self.training).squeeze(0)
        z_VH = mixed_VH + self.scenario_weight.sigmoid() * balanced_VH + self.task_weight.sigmoid() * task_VH
        logits_V: Tensor = self.towers(z_VH, routing)
        return logits_V.float()

    def _representation(self, e_BE: Tensor, routing: Routing) -> Tensor:
        """x of the visits, [V, C]."""
        skip_BC = F.relu(self.skip(e_BE))
        star_VS = self.star(e_BE.index_select(0, routing.row_index_V), routing)
        behind_VC: Tensor = F.relu(self.behind_star(star_VS))
        return behind_VC + skip_BC.index_select(0, routing.row_index_V)

    def _balances(self) -> Tensor:
        """[K, K]: row k holds the weights of all scenarios' experts for a visit of scenario k."""
        own, count = self.balance.sigmoid(), self.num_scenarios
        eye_KK = torch.eye(count, device=own.device)
        return own * eye_KK + (1 - own) / max(1, count - 1) * (1 - eye_KK)
