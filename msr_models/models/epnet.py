"""EPNet, the embedding half of PEPNet: a gate per element of the input, conditioned on the scenario."""

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
from msr_models.modules.gate_nu import EmbeddingGate
from msr_models.modules.inputs import InputLayer, SequencePooling
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class EPNetConfig:
    """gate_hidden: of the gate, which the paper leaves open; the default suits a day of a small log on a CPU."""

    embedding_dim: Annotated[int, Field(ge=1)] = 16
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (128, 64)
    gate_hidden: Annotated[int, Field(ge=1)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    sequence_pooling: SequencePooling = "mean"


@register("epnet", EPNetConfig)
class EPNet(MultiScenarioModel):
    """logit_k = tower_k(δ([E_k ; sg(e)]) ⊗ e) (Chang et al. 2023, eq. 3-5), e the fields' vectors [B, E].

    E_k: an embedding of the scenario; its statistics of user and item, which the paper puts beside it, are fields of e
    (a data set's `statistics`). Of the gate's first layer only a sum is left to do per visit.

    >>> model = build_model("epnet", {"gate_hidden": 64}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: EPNetConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(num_scenarios)
        self.config = config
        self.inputs = InputLayer(layout, config.embedding_dim, config.sequence_pooling, generator)
        self.embedded_width = self.inputs.total_width
        self.gate = EmbeddingGate(
            num_scenarios, self.embedded_width, config.embedding_dim, config.gate_hidden, generator
        )
        self.towers = StackedTowers(num_scenarios, self.embedded_width, config.hidden, config.dropout, generator)

    def embed(self, batch: Batch) -> Tensor:
        """e_BE."""
        return self.inputs.concatenated(batch)

    def routed_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V."""
        logits_V: Tensor = self.towers(self.gate(e_BE, routing), routing)
        return logits_V.float()
