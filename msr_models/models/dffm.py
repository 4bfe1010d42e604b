"""DFFM: interactions of fields and attention to behaviours, both through micro-MLPs of the scenario."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.config import Dropout, ModelConfig, Size, Widths
from msr_models.models.registry import register
from msr_models.modules.field_refinement import PairwiseProducts
from msr_models.modules.inputs import InputLayer, require_behaviours
from msr_models.modules.micro_mlp import MicroMlp
from msr_models.modules.routing import Routing
from msr_models.modules.split_linear import SplitLinear
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class DFFMConfig(ModelConfig):
    """micro_widths: widths of the micro-MLPs' layers. sequence_pooling: the model's own attention to behaviours,
    conditioned on the scenario, or none. Sizes are this code's choice.
    """

    embedding_dim: Size = 16
    micro_widths: Widths = (16, 16)
    hidden: Widths = (128, 64)
    dropout: Dropout = 0.0
    sequence_pooling: Literal["scenario_attention", "none"] = "scenario_attention"


@register("dffm", DFFMConfig)
class DFFM(MultiScenarioModel):
    """logit_k = MLP([e ; interactions_k ; u_k]), one MLP for all scenarios (Guo et al. 2023).

    e: the fields' vectors [B, F, D] side by side. interactions_k: <D_k(e_i), D_k(e_j)> of all pairs i < j, D_k an MLP
    whose weights and biases are reshaped slices of scenario k's embedding (see `MicroMlp`). u_k: attention to the
    behaviours h_l with q, the row's item: Σ_l softmax_l(<Q_k(q), A_k(h_l)> / √width) V_k(h_l) over the real behaviours,
    0 without any; h_l and q are sums of the vectors of item and attributes; Q_k, A_k and V_k are further MLPs of this
    kind (A_k and V_k the halves of one). The item as the query and a single head are this code's choices.
    Raises TrainingError on a data set without behaviours, unless sequence_pooling is `none`.

    Cost: the MLP's product with e runs once per row; interactions and attention, with a scenario's weights, once per
    visit, so that a step on a CPU grows with visits x behaviours. With 20 behaviours it has .6 to .7 of the samples/s
    of SharedBottom with target attention, and less than half of SharedBottom's without.

    >>> model = build_model("dffm", {"micro_widths": [8]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(self, config: DFFMConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator) -> None:
        super().__init__(num_scenarios)
        self.config = config
        self.inputs = InputLayer(layout, config.embedding_dim, "none", generator)
        self.embedded_width = self.inputs.total_width
        self.interaction = MicroMlp(num_scenarios, config.embedding_dim, config.micro_widths, generator)
        self.pairs = PairwiseProducts(layout.num_vectors)
        self.attention: ScenarioAttention | None = None
        visit_width = self.pairs.num_pairs
        if config.sequence_pooling != "none":
            require_behaviours(layout, "model 'dffm' with sequence_pooling 'scenario_attention'")
            self.attention = ScenarioAttention(num_scenarios, config.embedding_dim, config.micro_widths, generator)
            visit_width += config.micro_widths[-1]
        first, *rest = config.hidden
        self.first = SplitLinear(self.embedded_width, visit_width, first, generator)
        self.rest = StackedTowers(1, first, rest, config.dropout, generator)

    def embed(self, batch: Batch) -> Tensor:
        """The vectors of the fields and, with attention, of the behaviours: [B, (F + L) D]."""
        e_BE = self.inputs.concatenated(batch)
        if self.attention is None:
            return e_BE
        return torch.cat([e_BE, self.embedding.history(batch).flatten(1)], dim=1)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        row_V, width = routing.row_index_V, self.config.embedding_dim
        fields_BE = e_BE[:, : self.embedded_width]
        fields_VFD = fields_BE.index_select(0, row_V).view(len(row_V), self.inputs.num_vectors, width)
        read = [self.pairs(self.interaction(fields_VFD, routing))]
        if self.attention is not None:
            mask_VL = self.embedding.history_mask(batch).index_select(0, row_V)
            history_VLD = e_BE[:, self.embedded_width :].index_select(0, row_V).view(*mask_VL.shape, width)
            parts_VA = self.embedding.target_parts(batch).index_select(0, row_V)
            item_VD = self.embedding.target(fields_VFD, parts_VA)
            read.append(self.attention(item_VD, history_VLD, mask_VL, routing))
        rows_BH = self.first.first(fields_BE)
        h_VH = F.relu(rows_BH.index_select(0, row_V) + self.first.second(torch.cat(read, dim=1)))
        h_VH = F.dropout(h_VH, self.config.dropout, self.training)
        return self.rest.every(h_VH).squeeze(1)


class ScenarioAttention(nn.Module):
    """u_k = Σ_l softmax_l(<Q_k(q), A_k(h_l)> / √M) V_k(h_l) over real behaviours, M the micro-MLPs' last width."""

    def __init__(self, num_scenarios: int, width: int, widths: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__()
        self.query = MicroMlp(num_scenarios, width, widths, generator)
        self.behaviour = MicroMlp(num_scenarios, width, (*widths[:-1], 2 * widths[-1]), generator)

    def forward(self, item_VD: Tensor, history_VLD: Tensor, mask_VL: Tensor, routing: Routing) -> Tensor:
        """[V, M]; zeros for a visit without behaviours."""
        query_VM = self.query(item_VD[:, None], routing).squeeze(1)
        key_VLM, value_VLM = self.behaviour(history_VLD, routing).chunk(2, dim=2)
        score_VL = (key_VLM * query_VM[:, None]).sum(2).float() / math.sqrt(query_VM.shape[1])
        # Not -inf, whose softmax is NaN for a row without behaviours; its shares are cleared below
        share_VL = score_VL.masked_fill(~mask_VL, torch.finfo(torch.float32).min).softmax(1)
        share_VL = torch.where(mask_VL, share_VL, 0.0).to(value_VLM.dtype)
        pooled_VM: Tensor = (share_VL[:, :, None] * value_VLM).sum(1)
        return pooled_VM
