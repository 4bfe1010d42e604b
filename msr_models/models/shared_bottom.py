"""SharedBottom, the SSIM slides' MT-Backbone: shared embeddings below, one MLP tower per scenario above."""

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
from msr_models.modules.common_network import CommonNetwork
from msr_models.modules.inputs import InputLayer, SequencePooling
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedBottomConfig:
    """The papers use hidden (1024, 512, 256); the default suits a day of a small log on a CPU. auxiliary: SFPNet's S-B,
    with a tower that is fed the scenario beside the K towers.
    """

    embedding_dim: Annotated[int, Field(ge=1)] = 16
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (128, 64)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    sequence_pooling: SequencePooling = "mean"
    auxiliary: bool = False
    auxiliary_hidden: Annotated[int, Field(ge=1)] = 64


@register("shared_bottom", SharedBottomConfig)
class SharedBottom(MultiScenarioModel):
    """e_BE = field vectors (+ mean of the behaviours' item vectors); logit_k = tower_k(e).

    With `auxiliary` logit_k = tower_k(e) + aux([e ; scenario embedding k]), one aux network for all: SFPNet says what
    it is for ("to enhance the ability to characterize the scenario indicator") and not more, so it is STAR's.

    >>> model = build_model("shared_bottom", {"hidden": [64]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: SharedBottomConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(num_scenarios)
        self.config = config
        self.inputs = InputLayer(layout, config.embedding_dim, config.sequence_pooling, generator)
        self.embedded_width = self.inputs.total_width
        self.towers = StackedTowers(num_scenarios, self.embedded_width, config.hidden, config.dropout, generator)
        self.auxiliary: CommonNetwork | None = None
        if config.auxiliary:
            self.auxiliary = CommonNetwork(
                num_scenarios, self.embedded_width, config.embedding_dim, (config.auxiliary_hidden,), 0.0, generator
            )

    def embed(self, batch: Batch) -> Tensor:
        """e_BE."""
        return self.inputs.concatenated(batch)

    def routed_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V: the visits' rows through their towers."""
        logits_V: Tensor = self.towers(e_BE.index_select(0, routing.row_index_V), routing)
        if self.auxiliary is not None:
            logits_V = logits_V + self.auxiliary(e_BE, routing)
        return logits_V.float()

    def scenario_logits(self, e_BE: Tensor, batch: Batch) -> Tensor:
        """logits_BK by batched products over all towers."""
        if self.auxiliary is not None:
            return super().scenario_logits(e_BE, batch)
        return self.towers.every(e_BE).float()
