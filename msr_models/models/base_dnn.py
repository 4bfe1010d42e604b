"""BaseDNN, also called Mix: one MLP for the rows of all scenarios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

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


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseDNNConfig:
    """scenario_input: whether the network is told the row's scenario. OptMSM's Mix and SFPNet's BaseDNN have three
    layers; the default suits a day of a small log on a CPU.
    """

    embedding_dim: Annotated[int, Field(ge=1)] = 16
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (128, 64)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    sequence_pooling: SequencePooling = "mean"
    scenario_input: bool = True


@register("base_dnn", BaseDNNConfig)
class BaseDNN(MultiScenarioModel):
    """logit = MLP([e ; scenario embedding]) for every row, e the fields' vectors [B, E].

    Mix in OptMSM, BaseDNN in SFPNet and, for the DNN backbone, what SSIM's slides call ST-Backbone ("directly
    aggregates all scenario instances"). The scenario is one more field by default: the papers' logs carry it among
    their features, and without it the network cannot even learn each scenario's rate of positives.
    It has no towers: a row's logit in another scenario is a change of that input.

    >>> model = build_model("base_dnn", {"hidden": [256, 128, 64]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    has_towers: ClassVar[bool] = False

    def __init__(
        self, config: BaseDNNConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(num_scenarios)
        self.config = config
        self.inputs = InputLayer(layout, config.embedding_dim, config.sequence_pooling, generator)
        self.embedded_width = self.inputs.total_width
        scenario_width = config.embedding_dim if config.scenario_input else 0
        self.network = CommonNetwork(
            num_scenarios, self.embedded_width, scenario_width, config.hidden, config.dropout, generator
        )

    def embed(self, batch: Batch) -> Tensor:
        """e_BE."""
        return self.inputs.concatenated(batch)

    def routed_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V."""
        logits_V: Tensor = self.network(e_BE, routing)
        return logits_V
