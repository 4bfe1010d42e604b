"""AutoInt: self-attention among the fields, shared by all scenarios, below one tower per scenario."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import NoWidths, Size, TowerConfig
from msr_models.models.registry import register
from msr_models.modules.dense import xavier_uniform_
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoIntConfig(TowerConfig):
    """Song et al. 2019 use 3 layers of 2 heads of 32 on embeddings of 16, and no hidden layer (eq. 9)."""

    layers: Size = 2
    heads: Size = 2
    head_dim: Size = 8
    hidden: NoWidths = (128, 64)


@register("autoint", AutoIntConfig)
class AutoInt(EmbeddingModel[AutoIntConfig]):
    """logit_k = tower_k(x_1 ⊕ ... ⊕ x_F), x the fields' vectors after `layers` of self-attention (Song et al. 2019).

    `InteractingLayer` has eq. 5-8. The vector of the behaviours is one more field. The paper knows no scenarios; that
    they share the attention, which runs once per row, and have towers of their own is this code's choice.

    Cost: F² products of heads that are too short for a CPU. With 18 fields and the default towers a step
    has at most a fifth of SharedBottom's samples/s at 12 scenarios; with SSIM's towers (1024, 512, 256) it has 0.8.

    >>> model = build_model("autoint", {"layers": 3, "head_dim": 32, "hidden": []}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: AutoIntConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        width = config.heads * config.head_dim
        widths = [config.embedding_dim, *[width] * (config.layers - 1)]
        self.interactions = nn.Sequential(
            *(InteractingLayer(w, config.heads, config.head_dim, generator) for w in widths)
        )
        self.embedded_width = self.inputs.num_vectors * width
        self.towers = StackedTowers(num_scenarios, self.embedded_width, config.hidden, config.dropout, generator)

    def embed(self, batch: Batch) -> Tensor:
        """The fields' vectors after the attention, side by side: e_BE."""
        x_BFW: Tensor = self.interactions(self.inputs(batch))
        return x_BFW.flatten(1)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        logits_V: Tensor = self.towers(e_BE.index_select(0, routing.row_index_V), routing)
        return logits_V.float()

    def scenario_network_logits(self, e_BE: Tensor, batch: Batch) -> Tensor:
        """logits_BK by batched products over all towers."""
        return self.towers.every(e_BE).float()


class InteractingLayer(nn.Module):
    """x_m ← ReLU(head_1m ⊕ ... ⊕ head_Hm + W_res x_m), head_hm = Σ_n softmax_n(<Q_h x_m, K_h x_n>) V_h x_n.

    Song et al. 2019, eq. 5-8; scores are plain inner products, not divided by √width. There is no bias.
    """

    def __init__(self, width: int, heads: int, head_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.weight_DO = nn.Parameter(torch.empty(width, 4 * heads * head_dim))  # Q, K, V and W_res of all heads
        xavier_uniform_(self.weight_DO, width + heads * head_dim, generator)

    def forward(self, x_BFD: Tensor) -> Tensor:
        """[B, F, D] -> [B, F, heads * head_dim]."""
        *attended, residual = (x_BFD @ self.weight_DO).chunk(4, dim=2)
        query, key, value = (part.view(*part.shape[:2], self.heads, self.head_dim).transpose(1, 2) for part in attended)
        mixed_BHFW = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return F.relu(mixed_BHFW.transpose(1, 2).flatten(2) + residual)
