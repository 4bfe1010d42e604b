"""MMoE: experts shared by all scenarios, one gate and one tower per scenario."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import Size, TowerConfig, Widths
from msr_models.models.registry import register
from msr_models.modules.experts import GatedExperts
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class MMoEConfig(TowerConfig):
    """Ma et al. 2018 use 8 experts of one layer of 16 and towers of 8."""

    num_experts: Size = 4
    expert_hidden: Widths = (128,)


@register("mmoe", MMoEConfig)
class MMoE(EmbeddingModel[MMoEConfig]):
    """logit_k = tower_k(Σ_x softmax(W_k e)_x E_x(e)) (Ma et al. 2018, eq. 5-7).

    Experts run once per row, however many scenarios it visits; gate, mixture and tower once per visit. Cost: the
    default experts take twice the products of a visit's tower, so that a step on a CPU may take more than twice
    SharedBottom's time; with towers of SSIM's size it does not.

    >>> model = build_model("mmoe", {"num_experts": 8, "expert_hidden": [16]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(self, config: MMoEConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        self.mixtures = GatedExperts(
            num_scenarios, self.embedded_width, config.num_experts, config.expert_hidden, config.dropout, generator
        )
        width = config.expert_hidden[-1]
        self.towers = StackedTowers(num_scenarios, width, config.hidden, config.dropout, generator)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        e_VE = e_BE.index_select(0, routing.row_index_V)
        mixed_VH: Tensor = self.mixtures(e_VE, self.mixtures.experts(e_BE), routing)
        logits_V: Tensor = self.towers(mixed_VH, routing)
        return logits_V.float()

    def scenario_network_logits(self, e_BE: Tensor, batch: Batch) -> Tensor:
        """logits_BK by batched products over all gates and towers."""
        mixed_KBH = self.mixtures.every(e_BE, self.mixtures.experts(e_BE))
        return self.towers.every(mixed_KBH).float()
