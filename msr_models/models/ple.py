"""PLE: levels of experts, shared ones and ones of each scenario; with one level it is CGC."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import Size, TowerConfig, Widths
from msr_models.models.registry import register
from msr_models.modules.progressive import ProgressiveExperts
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class PLEConfig(TowerConfig):
    """levels: 1 is CGC. Experts are counted per level, specific ones per scenario. Tang et al. 2023 give PLE two
    specific and two shared experts of three layers.
    """

    levels: Size = 2
    num_specific_experts: Size = 1
    num_shared_experts: Size = 2
    expert_hidden: Widths = (128,)


@register("ple", PLEConfig)
class PLE(EmbeddingModel[PLEConfig]):
    """logit_k = tower_k(x_k of the last level) (Tang et al. 2020); ProgressiveLevel has the equations of a level.

    On the first level every stream is e. A scenario's gate mixes its own and the shared experts; on every level but the
    last a shared gate mixes the experts of all scenarios.

    Cost: the shared gate needs the experts of all K scenarios on every row, so that each level but the last grows with
    K (and a scenario's experts there also learn from other scenarios' rows); the last level and the towers run once per
    visit. At K = 12 a step on a CPU takes six times SharedBottom's time with two levels, three times with one.

    >>> model = build_model("ple", {"levels": 3, "expert_hidden": [16]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(self, config: PLEConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator) -> None:
        super().__init__(config, layout, num_scenarios, generator)
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

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        logits_V: Tensor = self.towers(self.experts(e_BE, routing), routing)
        return logits_V.float()
