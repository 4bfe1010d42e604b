"""AutoInt: self-attention among the fields, shared by all scenarios, under one tower per scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import register
from msr_models.modules.dense import xavier_uniform_
from msr_models.modules.inputs import InputLayer, SequencePooling
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoIntConfig:
    """The paper uses 3 layers of 2 heads of 32 on embeddings of 16, and `hidden` () for its logit (eq. 9); the default
    suits a day of a small log on a CPU.
    """

    embedding_dim: Annotated[int, Field(ge=1)] = 16
    layers: Annotated[int, Field(ge=1)] = 2
    heads: Annotated[int, Field(ge=1)] = 2
    head_dim: Annotated[int, Field(ge=1)] = 8
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (128, 64)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    sequence_pooling: SequencePooling = "mean"


@register("autoint", AutoIntConfig)
class AutoInt(MultiScenarioModel):
    """logit_k = tower_k(x_1 ⊕ ... ⊕ x_F), x the fields' vectors behind `layers` of self-attention (Song et al. 2019).

    See `InteractingLayer` for eq. 5-8. The vector of the behaviours is one more field. The paper knows no scenarios:
    that they share the attention, which so runs once per row, and have the rest for themselves, is this code's choice.

    Cost: F² products of heads too short for a CPU to be quick at. With 18 fields and the default's small towers a step
    has at most a fifth of SharedBottom's samples/s at 12 scenarios, with towers of SSIM's size (1024, 512, 256) 0.8.

    >>> model = build_model("autoint", {"layers": 3, "head_dim": 32, "hidden": []}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: AutoIntConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(num_scenarios)
        self.config = config
        self.inputs = InputLayer(layout, config.embedding_dim, config.sequence_pooling, generator)
        width = config.heads * config.head_dim
        widths = [config.embedding_dim, *[width] * (config.layers - 1)]
        self.interactions = nn.Sequential(
            *(InteractingLayer(w, config.heads, config.head_dim, generator) for w in widths)
        )
        self.embedded_width = self.inputs.num_vectors * width
        self.towers = StackedTowers(num_scenarios, self.embedded_width, config.hidden, config.dropout, generator)

    def embed(self, batch: Batch) -> Tensor:
        """The fields' vectors behind the attention, side by side: e_BE."""
        x_BFW: Tensor = self.interactions(self.inputs(batch))
        return x_BFW.flatten(1)

    def routed_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V."""
        logits_V: Tensor = self.towers(e_BE.index_select(0, routing.row_index_V), routing)
        return logits_V.float()

    def scenario_logits(self, e_BE: Tensor, batch: Batch) -> Tensor:
        """logits_BK by batched products over all towers."""
        return self.towers.every(e_BE).float()


class InteractingLayer(nn.Module):
    """x_m ← ReLU(head_1m ⊕ ... ⊕ head_Hm + W_res x_m), head_hm = Σ_n softmax_n(<Q_h x_m, K_h x_n>) V_h x_n (eq. 5-8).

    The paper's scores are plain inner products, without attention's 1/√width. There is no bias.
    """

    def __init__(self, width: int, heads: int, head_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.weight_DO = nn.Parameter(torch.empty(width, 4 * heads * head_dim))  # Q, K, V and W_res of all heads
        xavier_uniform_(self.weight_DO, width + heads * head_dim, generator)

    def forward(self, x_BFD: Tensor) -> Tensor:
        """[B, F, D] -> [B, F, heads * head_dim]."""
        *asked, residual = (x_BFD @ self.weight_DO).chunk(4, dim=2)
        query, key, value = (part.view(*part.shape[:2], self.heads, self.head_dim).transpose(1, 2) for part in asked)
        mixed_BHFW = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return F.relu(mixed_BHFW.transpose(1, 2).flatten(2) + residual)
