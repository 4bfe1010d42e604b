"""DeepFM: a factorisation machine and an MLP on one embedding; all but the embedding once per scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import register
from msr_models.modules.embedding import FieldEmbedding
from msr_models.modules.factorisation import second_order
from msr_models.modules.inputs import InputLayer, SequencePooling
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepFMConfig:
    """The DeepFM paper uses embedding_dim 10 and hidden (400, 400, 400) with dropout 0.5, SSIM hidden
    (1024, 512, 256); the default suits a day of a small log on a CPU.
    """

    embedding_dim: Annotated[int, Field(ge=1)] = 16
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (128, 64)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    sequence_pooling: SequencePooling = "mean"


@register("deepfm", DeepFMConfig)
class DeepFM(MultiScenarioModel):
    """logit_k = Σ_f w_k[id_f] + Σ_{i<j} <v_i, v_j> + MLP_k([v_1 ... v_F]) (Guo et al. 2017, eq. 1-4).

    v_f: vectors [B, F, D] of one shared embedding; the behaviours are one more field of all three parts: pairs and MLP
    take their items' vectors pooled as sequence_pooling says (mean, or target attention), the linear part the mean of
    their items' weights with either: its sum of weights has no vectors that attention could compare. With `none` no
    part reads them.
    The FM's linear weights w_k belong to scenario k and start at zero, so that an id that k never saw says nothing
    there: a second table with K weights per id (a batch with row-sparse steps updates all K of a row).
    The pairwise part has no parameters of its own and is computed once per row; w_k's bias is that of the MLP.

    >>> model = build_model("deepfm", {"hidden": [64]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: DeepFMConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(num_scenarios)
        self.config = config
        self.inputs = InputLayer(layout, config.embedding_dim, config.sequence_pooling, generator)
        self.linear = FieldEmbedding(layout, num_scenarios, generator)
        nn.init.zeros_(self.linear.weight)
        self.embedded_width = self.inputs.total_width
        self.towers = StackedTowers(num_scenarios, self.embedded_width, config.hidden, config.dropout, generator)

    def embed(self, batch: Batch) -> Tensor:
        """e_BE."""
        return self.inputs.concatenated(batch)

    def routed_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V."""
        row_V, scenario_V = routing.row_index_V, routing.scenario_V
        wide_V = self._wide(e_BE, batch).flatten().index_select(0, row_V * self.num_scenarios + scenario_V)
        deep_V: Tensor = self.towers(e_BE.index_select(0, row_V), routing)
        return wide_V + deep_V.float()

    def scenario_logits(self, e_BE: Tensor, batch: Batch) -> Tensor:
        """logits_BK by batched products over all towers."""
        return self._wide(e_BE, batch) + self.towers.every(e_BE).float()

    def _wide(self, e_BE: Tensor, batch: Batch) -> Tensor:
        """The factorisation machine, [B, K]."""
        # A sum of weights is a logit: no lower precision for its terms.
        with torch.autocast(e_BE.device.type, enabled=False):
            linear_BK = self._linear(batch)
            vectors_BFD = e_BE.view(-1, self.inputs.num_vectors, self.config.embedding_dim)
            return linear_BK + second_order(vectors_BFD)[:, None]

    def _linear(self, batch: Batch) -> Tensor:
        """Σ of the linear weights of every scenario, [B, K]; behaviours count with their mean, under `din` too."""
        linear_BK = self.linear.fields(batch).sum(1)
        if self.config.sequence_pooling == "none":
            return linear_BK
        return linear_BK + self.linear.pooled_history(batch)
