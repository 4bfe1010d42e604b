"""SFPNet: fields and behaviours are tailored to the scenario before target attention pools the behaviours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.config import Dropout, ModelConfig, Size, Widths
from msr_models.models.registry import register
from msr_models.modules.inputs import InputLayer, require_behaviours
from msr_models.modules.module_list import ModuleList
from msr_models.modules.routing import Routing
from msr_models.modules.split_linear import scenario_vectors
from msr_models.modules.tailoring_block import ScenarioTailoringBlock
from msr_models.modules.tailoring_gate import ScenarioAwareDNN, Visits
from msr_models.modules.target_attention import TargetAttention


@dataclass(frozen=True, kw_only=True, slots=True)
class SFPNetConfig(ModelConfig):
    """num_blocks: the paper tries 1 to 5 and uses 3 (2 on Ali-CCP). without: the paper's ablations, which remove
    distribution-aware pooling, Scenario-Adaptive Module, Residual-Tailoring Module, the gates of S-DNN, or all blocks.
    The paper uses embedding_dim 40 and hidden (256, 128, 64), and gives no widths of gate and context (eq. 3, 5, 10).
    """

    embedding_dim: Size = 16
    num_blocks: Size = 3
    gate_hidden: Size = 64
    context_hidden: Size = 64
    hidden: Widths = (128, 64)
    dropout: Dropout = 0.0
    without: Literal["dap", "sam", "rtm", "s_dnn", "stb"] | None = None


@register("sfpnet", SFPNetConfig)
class SFPNet(MultiScenarioModel):
    """x^l, v^l = block_l(x^{l-1}, v^{l-1}, s); logit = S-DNN([x^L ; DIN(v^L)], s) (Zhang et al. 2024, eq. 2-11).

    x^0 [F, D]: the fields' vectors; v^0 [L, D]: those of the behaviours, each the sum of its item's and its attributes'
    (the paper pools them without saying how); s [D]: embedding of the scenario. The target of DIN is the sum of the
    row's own item and attributes after the last block.

    Cost: the first block already reads the scenario, so that later blocks and the attention run once per visit (what
    does not depend on it, and everything with `without` sam or stb, once per row). With the default sizes, 18 fields
    and 20 behaviours a visit takes about nine times the products of SharedBottom's default tower: a CPU step at K = 12
    trains a quarter of the samples/s of SharedBottom with `din` (a sixth with a tenth of the rows shared), two fifths
    with one block, half with SSIM's hidden (1024, 512, 256).

    The paper's models trained alone, one per scenario, are `single_task` with backbone `sfpnet`.

    >>> model = build_model("sfpnet", {"num_blocks": 2}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: SFPNetConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(num_scenarios)
        require_behaviours(layout, "model 'sfpnet'")
        self.config, without = config, config.without
        num_fields, width = layout.num_vectors, config.embedding_dim
        self.inputs = InputLayer(layout, width, "none", generator)
        self.scenario_KS = scenario_vectors(num_scenarios, width, generator)
        self.blocks = ModuleList(
            ScenarioTailoringBlock(
                num_fields,
                width,
                config.gate_hidden,
                config.context_hidden,
                None if without == "s_dnn" or without == "stb" else without,
                generator,
            )
            for _ in range(0 if without == "stb" else config.num_blocks)
        )
        self.attention = TargetAttention(width, generator)
        gate_hidden = None if without == "s_dnn" else config.gate_hidden
        joined = (num_fields + 1) * width
        self.head = ScenarioAwareDNN(joined, width, config.hidden, gate_hidden, config.dropout, generator)

    def embed(self, batch: Batch) -> Tensor:
        """The vectors of fields and behaviours, [B, (F + L) D]."""
        return torch.cat([self.inputs(batch), self.embedding.history(batch)], dim=1).flatten(1)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        layout = self.embedding.layout
        vectors_BID = e_BE.view(-1, layout.num_vectors + layout.hist_length, self.config.embedding_dim)
        x, v = torch.split(vectors_BID, [layout.num_vectors, layout.hist_length], dim=1)
        real, parts = self.embedding.history_mask(batch), self.embedding.target_parts(batch)
        visits = Visits(routing.scenario_V, routing.row_index_V)
        for block in self.blocks:
            if self.config.without == "sam":  # independent of the scenario: once per row
                x, v = block(x, v, real, self.scenario_KS, visits.reached())
            else:
                x, v = block(x, v, real, self.scenario_KS, visits)
                real, parts, visits = visits.of(real), visits.of(parts), visits.reached()
        pooled = self.attention(self.embedding.target(x, parts), v, real)
        logits_V: Tensor = self.head(torch.cat([x.flatten(1), pooled], dim=1), self.scenario_KS, visits)
        return logits_V
