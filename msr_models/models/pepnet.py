"""PEPNet: EPNet's gate on the input by scenario, and above it PPNet's gates on the towers by user and item."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.ppnet import PPNetConfig
from msr_models.models.registry import register
from msr_models.modules.gate_nu import EmbeddingGate, PersonalisedTowers
from msr_models.modules.prior_fields import PriorFields
from msr_models.modules.routing import Routing


@dataclass(frozen=True, kw_only=True, slots=True)
class PEPNetConfig(PPNetConfig):
    """As PPNetConfig; gate_hidden is also the hidden width of the gate on the input."""


@register("pepnet", PEPNetConfig)
class PEPNet(EmbeddingModel[PEPNetConfig]):
    """O = δ([E_k ; sg(e)]) ⊗ e; logit_k = tower_k(O) with h_l ← δ_l([E_user ; E_item ; ...] ; sg(O)) ⊗ h_l.

    Chang et al. 2023, eq. 1-8; E_k: embedding of scenario k, δ: a GateNU. The paper's towers belong to tasks; here, as
    in Tang et al. 2023, to scenarios. Only the gates' inputs are detached (not the prior fields' own vectors). Raises
    TrainingError for a gate field that the data set lacks.

    >>> model = build_model("pepnet", {"gate_fields": ["user", "item"]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: PEPNetConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        self.prior = PriorFields(layout, config.gate_fields, config.embedding_dim)
        width, gate_hidden = self.embedded_width, config.gate_hidden
        self.gate = EmbeddingGate(num_scenarios, width, config.embedding_dim, gate_hidden, generator)
        self.towers = PersonalisedTowers(
            num_scenarios, self.prior.total_width, width, config.hidden, gate_hidden, config.dropout, generator
        )

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        o_VE: Tensor = self.gate(e_BE, routing)
        prior_BG = self.towers.of_prior(self.prior(e_BE))
        gates_VG = prior_BG.index_select(0, routing.row_index_V) + self.towers.of_input(o_VE)
        logits_V: Tensor = self.towers(o_VE, gates_VG, routing)
        return logits_V.float()
