"""DCN: a cross network beside an MLP, both once per scenario, on a shared embedding."""

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
from msr_models.modules.cross import StackedCross
from msr_models.modules.inputs import InputLayer, SequencePooling
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class DCNConfig:
    """The DCN paper uses 6 cross layers and hidden (1024, 1024), SSIM hidden (1024, 512, 256); the default suits a day
    of a small log on a CPU.
    """

    embedding_dim: Annotated[int, Field(ge=1)] = 16
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (128, 64)
    cross_layers: Annotated[int, Field(ge=1)] = 3
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    sequence_pooling: SequencePooling = "mean"


@register("dcn", DCNConfig)
class DCN(MultiScenarioModel):
    """logit_k = u_k·[cross_k(e) ; MLP_k(e)] + bias_k (Wang et al. 2017, eq. 3-5), e the concatenated field vectors.

    cross_k: x_{l+1} = x_0 (w_l·x_l) + b_l + x_l with x_0 = e. The product with the concatenation is the sum of one with
    either half: StackedCross gives the first, the towers' last layer the second.

    >>> model = build_model("dcn", {"cross_layers": 2}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(self, config: DCNConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator) -> None:
        super().__init__(num_scenarios)
        self.config = config
        self.inputs = InputLayer(layout, config.embedding_dim, config.sequence_pooling, generator)
        self.embedded_width = self.inputs.total_width
        self.cross = StackedCross(num_scenarios, self.embedded_width, config.cross_layers, generator)
        self.towers = StackedTowers(num_scenarios, self.embedded_width, config.hidden, config.dropout, generator)

    def embed(self, batch: Batch) -> Tensor:
        """e_BE."""
        return self.inputs.concatenated(batch)

    def routed_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V."""
        e_VE = e_BE.index_select(0, routing.row_index_V)
        cross_V: Tensor = self.cross(e_VE, routing)
        deep_V: Tensor = self.towers(e_VE, routing)
        return cross_V + deep_V.float()
