"""DCN: a cross network beside an MLP, both per scenario, on a shared embedding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import Size, TowerConfig
from msr_models.models.registry import register
from msr_models.modules.cross import StackedCross
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class DCNConfig(TowerConfig):
    """Wang et al. 2017 use 6 cross layers and hidden (1024, 1024); SSIM hidden (1024, 512, 256)."""

    cross_layers: Size = 3


@register("dcn", DCNConfig)
class DCN(EmbeddingModel[DCNConfig]):
    """logit_k = u_k·[cross_k(e) ; MLP_k(e)] + bias_k (Wang et al. 2017, eq. 3-5).

    cross_k: x_{l+1} = x_0 (w_l·x_l) + b_l + x_l with x_0 = e. The product of u_k with the concatenation is the sum of
    its products with the two parts: StackedCross computes the first, the towers' last layer the second.

    >>> model = build_model("dcn", {"cross_layers": 2}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(self, config: DCNConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        self.cross = StackedCross(num_scenarios, self.embedded_width, config.cross_layers, generator)
        self.towers = StackedTowers(num_scenarios, self.embedded_width, config.hidden, config.dropout, generator)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        e_VE = e_BE.index_select(0, routing.row_index_V)
        cross_V: Tensor = self.cross(e_VE, routing)
        deep_V: Tensor = self.towers(e_VE, routing)
        return cross_V + deep_V.float()
