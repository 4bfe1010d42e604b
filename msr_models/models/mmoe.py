"""MMoE: experts shared by all scenarios, one gate and one tower per scenario."""

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
from msr_models.modules.experts import GatedExperts
from msr_models.modules.inputs import InputLayer, SequencePooling
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class MMoEConfig:
    """hidden: of the towers. The MMoE paper uses 8 experts of one layer of 16 and towers of 8; the default suits a day
    of a small log on a CPU.
    """

    embedding_dim: Annotated[int, Field(ge=1)] = 16
    num_experts: Annotated[int, Field(ge=1)] = 4
    expert_hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (128,)
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (128, 64)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    sequence_pooling: SequencePooling = "mean"


@register("mmoe", MMoEConfig)
class MMoE(MultiScenarioModel):
    """logit_k = tower_k(Σ_e softmax(W_k x)_e E_e(x)) (Ma et al. 2018, eq. 5-7), x the concatenated fields [B, E].

    Experts run once per row, however many scenarios it visits; gate, mixture and tower once per visit. Cost: with the
    default sizes the experts take twice the products of a visit's tower and a mixture is wider than a small e, so that
    a step on a CPU may take more than twice SharedBottom's; with towers of SSIM's size it does not.

    >>> model = build_model("mmoe", {"num_experts": 8, "expert_hidden": [16]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(self, config: MMoEConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator) -> None:
        super().__init__(num_scenarios)
        self.config = config
        self.inputs = InputLayer(layout, config.embedding_dim, config.sequence_pooling, generator)
        self.embedded_width = self.inputs.total_width
        self.mixtures = GatedExperts(
            num_scenarios, self.embedded_width, config.num_experts, config.expert_hidden, config.dropout, generator
        )
        width = config.expert_hidden[-1]
        self.towers = StackedTowers(num_scenarios, width, config.hidden, config.dropout, generator)

    def embed(self, batch: Batch) -> Tensor:
        """e_BE."""
        return self.inputs.concatenated(batch)

    def routed_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V."""
        e_VE = e_BE.index_select(0, routing.row_index_V)
        mixed_VH: Tensor = self.mixtures(e_VE, self.mixtures.experts(e_BE), routing)
        logits_V: Tensor = self.towers(mixed_VH, routing)
        return logits_V.float()

    def scenario_logits(self, e_BE: Tensor, batch: Batch) -> Tensor:
        """logits_BK by batched products over all gates and towers."""
        mixed_KBH = self.mixtures.every(e_BE, self.mixtures.experts(e_BE))
        return self.towers.every(mixed_KBH).float()
