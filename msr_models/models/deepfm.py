"""DeepFM: a factorisation machine and an MLP on one embedding; all but the embedding per scenario."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import TowerConfig
from msr_models.models.registry import register
from msr_models.modules.embedding import FieldEmbedding
from msr_models.modules.factorisation import second_order
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepFMConfig(TowerConfig):
    """Guo et al. 2017 use embedding_dim 10 and hidden (400, 400, 400) with dropout 0.5, SSIM (1024, 512, 256)."""


@register("deepfm", DeepFMConfig)
class DeepFM(EmbeddingModel[DeepFMConfig]):
    """logit_k = Σ_f w_k[id_f] + Σ_{i<j} <v_i, v_j> + MLP_k([v_1 ... v_F]) (Guo et al. 2017, eq. 1-4).

    v_f: vectors [B, F, D] of one shared embedding. The behaviours are one more field of all three parts: pairs and MLP
    read their pooled vector (sequence_pooling), the linear part the mean of their weights, each the sum over item and
    attributes, under `din` too, because attention needs vectors; with `none` no part reads them.
    w_k: linear weights of scenario k, a second table [rows, K] that starts at zero, so that an id never seen in k adds
    nothing there, and an update leaves those of other scenarios alone. A dense value has a weight per scenario too, and
    its vector among the v_f. The MLP's bias serves as theirs. The pairwise part has no parameters of its own and is
    computed once per row.

    >>> model = build_model("deepfm", {"hidden": [64]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: DeepFMConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        self.linear = FieldEmbedding(layout.without_dense(), num_scenarios, generator)
        nn.init.zeros_(self.linear.weight)
        self.linear.columns_are_scenarios = True
        self.linear_dense_KZ: nn.Parameter | None = None
        if layout.dense_names:
            self.linear_dense_KZ = nn.Parameter(torch.zeros(num_scenarios, len(layout.dense_names)))
        self.towers = StackedTowers(num_scenarios, self.embedded_width, config.hidden, config.dropout, generator)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        row_V, scenario_V = routing.row_index_V, routing.scenario_V
        wide_V = self._wide(e_BE, batch).flatten().index_select(0, row_V * self.num_scenarios + scenario_V)
        deep_V: Tensor = self.towers(e_BE.index_select(0, row_V), routing)
        return wide_V + deep_V.float()

    def scenario_network_logits(self, e_BE: Tensor, batch: Batch) -> Tensor:
        """logits_BK by batched products over all towers."""
        return self._wide(e_BE, batch) + self.towers.every(e_BE).float()

    def _wide(self, e_BE: Tensor, batch: Batch) -> Tensor:
        """The factorisation machine, [B, K]."""
        # A sum of weights is a logit: its terms stay in full precision
        with torch.autocast(e_BE.device.type, enabled=False):
            linear_BK = self.linear.fields(batch).sum(1)
            if self.config.sequence_pooling != "none":
                linear_BK = linear_BK + self.linear.pooled_history(batch)
            if self.linear_dense_KZ is not None and batch.dense_BZ is not None:
                linear_BK = linear_BK + batch.dense_BZ @ self.linear_dense_KZ.t()
            vectors_BFD = e_BE.view(-1, self.inputs.num_vectors, self.config.embedding_dim)
            return linear_BK + second_order(vectors_BFD)[:, None]
