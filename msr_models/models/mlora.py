"""MLoRA: one MLP for all scenarios whose layers each scenario changes by a matrix of low rank."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import Size, TowerConfig
from msr_models.models.registry import register
from msr_models.modules.dense import Dense, xavier_parameter
from msr_models.modules.module_list import ModuleList
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import routed_product, rows_of


@dataclass(frozen=True, kw_only=True, slots=True)
class MLoRAConfig(TowerConfig):
    """rank_divisor: a layer of width n has rank max(1, n // rank_divisor); the default is this code's choice.
    pretraining_epochs: how many of the trainer's epochs, the first ones, train the common part alone; behind them it is
    frozen. 0: both parts train together.
    """

    rank_divisor: Size = 16
    pretraining_epochs: Annotated[int, Field(strict=True, ge=0)] = 0


class LowRankLinear(nn.Module):
    """W x + b + B_k A_k x + b_k. W and A_k start Xavier-uniform; B_k and the biases at zero, so that all scenarios
    begin as the common layer.

    Suffix: R rank.
    """

    def __init__(
        self, num_scenarios: int, in_width: int, out_width: int, rank: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.common = Dense(in_width, out_width, generator)
        self.down_KIR = xavier_parameter((num_scenarios, in_width, rank), in_width + rank, generator)
        self.up_KRO = nn.Parameter(torch.zeros(num_scenarios, rank, out_width))
        self.own_bias_KO = nn.Parameter(torch.zeros(num_scenarios, out_width))

    def own(self, x_VI: Tensor, routing: Routing) -> Tensor:
        """B_k A_k x + b_k of the visits, [V, O]."""
        low_VR = routed_product(x_VI, self.down_KIR, routing.ends_K)
        out_VO = routed_product(low_VR, self.up_KRO, routing.ends_K)
        return out_VO + rows_of(self.own_bias_KO.to(out_VO.dtype), routing.scenario_V)


@register("mlora", MLoRAConfig)
class MLoRA(EmbeddingModel[MLoRAConfig]):
    """logit_k = w·h_L + b, h_l = ReLU(W_l h_{l-1} + b_l + B_lk A_lk h_{l-1} + b_lk), h_0 = e (Yang et al. 2024).

    W_l, b_l, w and the embeddings are common; A_lk, B_lk (of rank r, far below the layer's widths) and b_lk belong to
    scenario k (b_lk as in the authors' published code). The paper trains the common part on all rows first and then
    freezes it while the rest trains: `pretraining_epochs` of at least 1. Here that freezes embeddings too (`wide`
    trains on), and a run that starts from the day before does not repeat it: ids that are new by then keep their
    initial vectors. By default all parts train together. A scenario embedding in e, as the authors' code has it, is
    left out: the first layer would turn it into a vector per scenario, which is what b_1k is.

    W_1 e is computed once per row.

    >>> model = build_model("mlora", {"hidden": [256, 128], "rank_divisor": 32}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    is_pretrained: Tensor

    def __init__(
        self, config: MLoRAConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        self.layers = ModuleList(
            LowRankLinear(num_scenarios, i, o, max(1, o // config.rank_divisor), generator)
            for i, o in pairwise([self.embedded_width, *config.hidden])
        )
        self.head = Dense(config.hidden[-1], 1, generator)
        self.register_buffer("is_pretrained", torch.tensor(False))

    @property
    def pretraining_epochs(self) -> int:
        return self.config.pretraining_epochs if self._pretrains() else 0

    def end_pretraining(self) -> None:
        """From now on the common part is frozen."""
        self.is_pretrained.fill_(True)

    def embed(self, batch: Batch) -> Tensor:
        e_BE = super().embed(batch)
        return e_BE.detach() if self._is_frozen() else e_BE

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        h, row_V = e_BE.index_select(0, routing.row_index_V), routing.row_index_V
        for number, layer in enumerate(self.layers):
            # Once per row in the first layer
            z_VO = self._common(layer.common, h) if number else self._common(layer.common, e_BE).index_select(0, row_V)
            if not self._pretrains():
                z_VO = z_VO + layer.own(h, routing)
            h = F.dropout(F.relu(z_VO), self.config.dropout, self.training)
        with torch.autocast(h.device.type, enabled=False):
            return self._common(self.head, h.float()).squeeze(1)

    def _common(self, layer: Dense, x: Tensor) -> Tensor:
        if self._is_frozen():
            return F.linear(x, layer.weight_IO.detach().t(), layer.bias_O.detach())
        out: Tensor = layer(x)
        return out

    # The option is asked first: reading the buffer waits for the device
    def _pretrains(self) -> bool:
        return self.config.pretraining_epochs > 0 and not self.is_pretrained

    def _is_frozen(self) -> bool:
        return self.config.pretraining_epochs > 0 and bool(self.is_pretrained)
