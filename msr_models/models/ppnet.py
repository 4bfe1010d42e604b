"""PPNet, the parameter half of PEPNet: gates on the towers' hidden units, conditioned on user and item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import Size, TowerConfig
from msr_models.models.registry import register
from msr_models.modules.gate_nu import PersonalisedTowers
from msr_models.modules.prior_fields import PriorFields
from msr_models.modules.routing import Routing


@dataclass(frozen=True, kw_only=True, slots=True)
class PPNetConfig(TowerConfig):
    """gate_fields: prior fields (user, item and author in the paper); None: the
    fields whose sources are `columns.user` and `columns.item`, whatever their names.
    gate_hidden: hidden width of every gate, which the paper does not give.
    """

    gate_hidden: Size = 32
    gate_fields: Annotated[tuple[str, ...], Field(min_length=1)] | None = None


@register("ppnet", PPNetConfig)
class PPNet(EmbeddingModel[PPNetConfig]):
    """tower_k with h_l ← δ_l([E_user ; E_item ; ...] ; sg(e)) ⊗ h_l (Chang et al. 2023, eq. 6-8).

    Only the gates' input is detached: the towers see e with its gradient, and the gates train the prior vectors.
    The gates' first layer runs once per row. Raises TrainingError for a gate field that the data set lacks.

    >>> model = build_model("ppnet", {"gate_fields": ["user", "item"]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: PPNetConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        self.prior = PriorFields(layout, config.gate_fields, config.embedding_dim)
        width, gate_hidden = self.embedded_width, config.gate_hidden
        self.towers = PersonalisedTowers(
            num_scenarios, self.prior.total_width, width, config.hidden, gate_hidden, config.dropout, generator
        )

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        row_V = routing.row_index_V
        gates_BG = self.towers.of_prior(self.prior(e_BE)) + self.towers.of_input(e_BE)
        logits_V: Tensor = self.towers(e_BE.index_select(0, row_V), gates_BG.index_select(0, row_V), routing)
        return logits_V.float()
