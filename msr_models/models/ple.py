"""PLE: levels of experts, shared ones and ones of each scenario; with one level it is CGC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import register
from msr_models.modules.inputs import InputLayer, SequencePooling
from msr_models.modules.progressive import ProgressiveExperts
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class PLEConfig:
    """levels 1: CGC. Experts are per level, num_specific_experts per scenario. OptMSM gives MMoE two experts per
    scenario and PLE two shared ones more, of three layers each; the default suits a day of a small log on a CPU.
    """

    embedding_dim: Annotated[int, Field(ge=1)] = 16
    levels: Annotated[int, Field(ge=1)] = 2
    num_specific_experts: Annotated[int, Field(ge=1)] = 1
    num_shared_experts: Annotated[int, Field(ge=1)] = 2
    expert_hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (128,)
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (128, 64)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    sequence_pooling: SequencePooling = "mean"


@register("ple", PLEConfig)
class PLE(MultiScenarioModel):
    """logit_k = tower_k(x_k of the last level); the levels' equations are those of ProgressiveLevel.

    Tang et al. 2020: on the first level every stream is e, the concatenated fields [B, E]; a scenario's gate mixes its
    own and the shared experts, and on every level but the last a shared gate mixes the experts of all scenarios.

    Cost: that shared gate needs all K scenarios' experts on every row, so that each level but the last grows with K
    (and a scenario's experts there also learn from other scenarios' rows); the last level and the towers run once per
    visit. At K = 12 a step on a CPU with the default two levels so takes six times SharedBottom's, with one level three
    times.

    >>> model = build_model("ple", {"levels": 3, "expert_hidden": [16]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(self, config: PLEConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator) -> None:
        super().__init__(num_scenarios)
        self.config = config
        self.inputs = InputLayer(layout, config.embedding_dim, config.sequence_pooling, generator)
        self.embedded_width = self.inputs.total_width
        self.experts = ProgressiveExperts(
            num_scenarios,
            self.embedded_width,
            config.levels,
            config.num_specific_experts,
            config.num_shared_experts,
            config.expert_hidden,
            config.dropout,
            generator,
        )
        width = config.expert_hidden[-1]
        self.towers = StackedTowers(num_scenarios, width, config.hidden, config.dropout, generator)

    def embed(self, batch: Batch) -> Tensor:
        """e_BE."""
        return self.inputs.concatenated(batch)

    def routed_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V."""
        logits_V: Tensor = self.towers(self.experts(e_BE, routing), routing)
        return logits_V.float()
