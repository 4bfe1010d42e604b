"""SharedBottom: shared embeddings below, one MLP tower per scenario above."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import Flag, Size, TowerConfig
from msr_models.models.registry import register
from msr_models.modules.common_network import CommonNetwork
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedBottomConfig(TowerConfig):
    """auxiliary: add a network that all scenarios share and whose input includes the scenario (S-B of Zhang et al.
    2024). SSIM uses hidden (1024, 512, 256).
    """

    auxiliary: Flag = False
    auxiliary_hidden: Size = 64


@register("shared_bottom", SharedBottomConfig)
class SharedBottom(EmbeddingModel[SharedBottomConfig]):
    """logit_k = tower_k(e); with `auxiliary` logit_k = tower_k(e) + aux([e ; embedding of scenario k]).

    MT-Backbone of SSIM with the DNN. Zhang et al. 2024 describe the auxiliary network only by its purpose ("to enhance
    the ability to characterize the scenario indicator"); this one is STAR's.

    >>> model = build_model("shared_bottom", {"hidden": [64]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: SharedBottomConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        self.towers = StackedTowers(num_scenarios, self.embedded_width, config.hidden, config.dropout, generator)
        self.auxiliary: CommonNetwork | None = None
        if config.auxiliary:
            self.auxiliary = CommonNetwork(
                num_scenarios, self.embedded_width, config.embedding_dim, (config.auxiliary_hidden,), 0.0, generator
            )

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        logits_V: Tensor = self.towers(e_BE.index_select(0, routing.row_index_V), routing)
        if self.auxiliary is not None:
            logits_V = logits_V + self.auxiliary(e_BE, routing)
        return logits_V.float()

    def scenario_network_logits(self, e_BE: Tensor, batch: Batch) -> Tensor:
        """logits_BK by batched products over all towers."""
        if self.auxiliary is not None:
            return super().scenario_network_logits(e_BE, batch)
        return self.towers.every(e_BE).float()
