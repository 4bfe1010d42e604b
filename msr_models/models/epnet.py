"""EPNet, the embedding half of PEPNet: a gate per element of the input, conditioned on the scenario."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import Size, TowerConfig
from msr_models.models.registry import register
from msr_models.modules.gate_nu import EmbeddingGate
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class EPNetConfig(TowerConfig):
    """gate_hidden: hidden width of the gate, which the paper does not give."""

    gate_hidden: Size = 32


@register("epnet", EPNetConfig)
class EPNet(EmbeddingModel[EPNetConfig]):
    """logit_k = tower_k(δ([E_k ; sg(e)]) ⊗ e) (Chang et al. 2023, eq. 3-5); δ: see EmbeddingGate.

    E_k: embedding of scenario k. The scenario's statistics of user and item, which the paper puts beside it, are fields
    of e (`statistics` of a data set), those of the row's own scenario on every visit (SSIM eq. 5). The products of the
    gate's first layer are computed once per row and scenario.

    >>> model = build_model("epnet", {"gate_hidden": 64}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: EPNetConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        width = self.embedded_width
        self.gate = EmbeddingGate(num_scenarios, width, config.embedding_dim, config.gate_hidden, generator)
        self.towers = StackedTowers(num_scenarios, width, config.hidden, config.dropout, generator)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        logits_V: Tensor = self.towers(self.gate(e_BE, routing), routing)
        return logits_V.float()
