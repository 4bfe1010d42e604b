"""PPNet, the parameter half of PEPNet: gates on the towers' hidden units, conditioned on user and item."""

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
from msr_models.modules.gate_nu import PersonalisedTowers
from msr_models.modules.inputs import InputLayer, SequencePooling
from msr_models.modules.prior_fields import PriorFields
from msr_models.modules.routing import Routing


@dataclass(frozen=True, kw_only=True, slots=True)
class PPNetConfig:
    """gate_fields: the paper's user, item and author, None: fields `user` (where there is one) and the item's.
    gate_hidden: of a layer's gate, which the paper leaves open; the default suits a day of a small log on a CPU.
    """

    embedding_dim: Annotated[int, Field(ge=1)] = 16
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (128, 64)
    gate_hidden: Annotated[int, Field(ge=1)] = 32
    gate_fields: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    sequence_pooling: SequencePooling = "mean"


@register("ppnet", PPNetConfig)
class PPNet(MultiScenarioModel):
    """tower_k with h_l <- δ_l([E_user ; E_item ; ...] ; sg(e)) ⊗ h_l (Chang et al. 2023, eq. 6-8), e the fields [B, E].

    Only the gates' input is detached: the towers see e with its gradient, and the prior fields get one from the gates.
    The gates' first layer runs once per row. Raises TrainingError for a gate field that the data set lacks.

    >>> model = build_model("ppnet", {"gate_fields": ["user", "item"]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: PPNetConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(num_scenarios)
        self.config = config
        self.inputs = InputLayer(layout, config.embedding_dim, config.sequence_pooling, generator)
        self.prior = PriorFields(layout, config.gate_fields, config.embedding_dim)
        self.embedded_width = self.inputs.total_width
        self.towers = PersonalisedTowers(
            num_scenarios,
            self.prior.total_width,
            self.embedded_width,
            config.hidden,
            config.gate_hidden,
            config.dropout,
            generator,
        )

    def embed(self, batch: Batch) -> Tensor:
        """e_BE."""
        return self.inputs.concatenated(batch)

    def routed_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V."""
        row_V = routing.row_index_V
        gates_BG = self.towers.of_prior(self.prior(e_BE)) + self.towers.of_input(e_BE)
        logits_V: Tensor = self.towers(e_BE.index_select(0, row_V), gates_BG.index_select(0, row_V), routing)
        return logits_V.float()
