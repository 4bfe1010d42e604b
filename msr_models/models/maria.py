"""MARIA: fields are scaled, refined and correlated by scenario before a mixture of experts reads them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import NoWidths, Size, TowerConfig, Widths
from msr_models.models.registry import register
from msr_models.modules.experts import GatedExperts
from msr_models.modules.field_refinement import FieldRefinement, PairwiseProducts
from msr_models.modules.routing import Routing
from msr_models.modules.split_linear import SplitLinear, scenario_vectors
from msr_models.modules.stacked import StackedTowers

SCALE = 2.0
"""Factor of the gate: a gate of 1/2 leaves an element unchanged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MariaConfig(TowerConfig):
    """num_refiners: per field. hidden: widths of the scenarios' towers and of the shared one. Sizes are this code's."""

    num_refiners: Size = 2
    num_experts: Size = 4
    expert_hidden: Widths = (64,)
    hidden: NoWidths = (64,)


@register("maria", MariaConfig)
class Maria(EmbeddingModel[MariaConfig]):
    """logit_k = tower_k(z) + shared tower(z), z = MMoE's mixture_k of [f' ; correlations] (Tian et al. 2023).

    With f_1 ... f_F the fields' vectors [B, F, D], e their concatenation and s the embedding of scenario k:
    feature scaling: f̂ = 2σ(W [e ; s] + b) ⊙ e, one factor per element;
    feature refinement: f'_i = Σ_r softmax(S_i s + c_i)_r ReLU(W_ir f̂_i + b_ir), a few refiners per field;
    feature correlation: <f'_i, f'_j> of all pairs i < j, beside f'.
    This code's choices where the paper is brief: one layer each for scaling, refiner and selector (which reads the
    scenario alone); MMoE's gate per scenario; the logits of the two towers are added.

    Cost: W e is computed once per row. All else depends on the scenario and runs once per visit, experts included, so
    that a step at K = 12 on a CPU takes four to five times SharedBottom's time.

    >>> model = build_model("maria", {"num_refiners": 3}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: MariaConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        width, fields = config.embedding_dim, self.inputs.num_vectors
        self.scenario_KD = scenario_vectors(num_scenarios, width, generator)
        self.scaling = SplitLinear(self.embedded_width, width, self.embedded_width, generator)
        self.refinement = FieldRefinement(fields, width, config.num_refiners, width, generator)
        self.correlations = PairwiseProducts(fields)
        read = self.embedded_width + self.correlations.num_pairs
        self.mixtures = GatedExperts(
            num_scenarios, read, config.num_experts, config.expert_hidden, config.dropout, generator
        )
        out = config.expert_hidden[-1]
        self.towers = StackedTowers(num_scenarios, out, config.hidden, config.dropout, generator)
        self.shared_tower = StackedTowers(1, out, config.hidden, config.dropout, generator)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        x_VI = self._features(e_BE, routing)
        # The experts read visits: each is its own row
        visits = replace(routing, row_index_V=torch.arange(len(x_VI), device=x_VI.device), num_rows=len(x_VI))
        z_VH = self.mixtures(x_VI, self.mixtures.experts(x_VI), visits)
        own_V: Tensor = self.towers(z_VH, routing)
        return own_V + self.shared_tower.every(z_VH).squeeze(1)

    def _features(self, e_BE: Tensor, routing: Routing) -> Tensor:
        """[f' ; correlations] of the visits, [V, E + P]."""
        row_V, scenario_V = routing.row_index_V, routing.scenario_V
        gate_VE = self.scaling.of_scenario(e_BE, self.scenario_KD, row_V, scenario_V).sigmoid()
        scaled_VE = SCALE * gate_VE * e_BE.index_select(0, row_V)
        scaled_VFD = scaled_VE.view(len(row_V), self.inputs.num_vectors, self.config.embedding_dim)
        refined_VFD = self.refinement(scaled_VFD, self.scenario_KD, scenario_V)
        return torch.cat([refined_VFD.flatten(1), self.correlations(refined_VFD)], dim=1)
