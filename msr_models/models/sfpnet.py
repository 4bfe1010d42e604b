"""SFPNet: every behaviour tailored to the scenario before target attention pools them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import register
from msr_models.modules.inputs import InputLayer, require_behaviours
from msr_models.modules.routing import Routing
from msr_models.modules.split_linear import scenario_vectors
from msr_models.modules.tailoring_block import ScenarioTailoringBlock
from msr_models.modules.tailoring_gate import ScenarioAwareDNN, Visits
from msr_models.modules.target_attention import TargetAttention


@dataclass(frozen=True, kw_only=True, slots=True)
class SFPNetConfig:
    """num_blocks: the paper tries 1 to 5 and takes 3 (2 on Ali-CCP). without: the paper's ablations; distribution-aware
    pooling, Scenario-Adaptive Module, Residual-Tailoring Module, S-DNN (then a plain DNN), whole blocks.
    The paper uses embedding_dim 40 and hidden (256, 128, 64) and names no widths of gate (eq. 3, 10) and context
    (eq. 5); the defaults suit a day of a small log on a CPU.
    """

    embedding_dim: Annotated[int, Field(ge=1)] = 16
    num_blocks: Annotated[int, Field(ge=1)] = 3
    gate_hidden: Annotated[int, Field(ge=1)] = 64
    context_hidden: Annotated[int, Field(ge=1)] = 64
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (128, 64)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    without: Literal["dap", "sam", "rtm", "s_dnn", "stb"] | None = None


@register("sfpnet", SFPNetConfig)
class SFPNet(MultiScenarioModel):
    """x^l, v^l = block_l(x^{l-1}, v^{l-1}, s); logit = S-DNN([x^L ; DIN(v^L)], s) (Zhang et al. 2024, eq. 2-11).

    x^0 [F, D] are the fields' vectors, v^0 [L, D] those of the behaviours' items, s [D] the scenario's embedding; the
    blocks: see ScenarioTailoringBlock. The target of DIN is the item as the last block gives it, tailored like v^L.
    Departure: the paper's b_i pools the item's vector with those of its attributes (category, brand); ours is the
    item's vector alone, because a batch carries only the items of behaviours.

    Cost: the scenario is in the first block already, so that all later blocks and the attention run once per visit (in
    block 1, and everywhere without `sam` or `stb`, what knows no scenario runs once per row). With the default sizes,
    18 fields and 20 behaviours a visit takes about nine times the products of SharedBottom's small tower: a CPU step
    at K = 12 trains a quarter of its samples/s with `din` (a sixth with a tenth of the rows shared), two fifths with
    one block, half with SSIM's hidden (1024, 512, 256).

    Joint training is that of every model; alone, as in the paper's comparison, is model `single_task` with backbone
    `sfpnet`: K of them, each on its scenario's rows.

    >>> model = build_model("sfpnet", {"num_blocks": 2}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: SFPNetConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(num_scenarios)
        require_behaviours(layout, "model 'sfpnet'")
        self.config, without = config, config.without
        num_fields, width = layout.num_fields, config.embedding_dim
        self.inputs = InputLayer(layout, width, "none", generator)
        self.scenario_KS = scenario_vectors(num_scenarios, width, generator)
        self.blocks = nn.ModuleList(
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

    def routed_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V."""
        layout = self.embedding.layout
        vectors_BID = e_BE.view(-1, layout.num_fields + layout.hist_length, self.config.embedding_dim)
        x, v = torch.split(vectors_BID, [layout.num_fields, layout.hist_length], dim=1)
        real, visits = self.embedding.history_mask(batch), Visits(routing.scenario_V, routing.row_index_V)
        for block in self.blocks:
            if self.config.without == "sam":  # knows no scenario: once per row
                x, v = block(x, v, real, self.scenario_KS, visits.reached())
            else:
                x, v = block(x, v, real, self.scenario_KS, visits)
                real, visits = visits.of(real), visits.reached()
        pooled = self.attention(x[:, layout.item_field], v, real)
        logits_V: Tensor = self.head(torch.cat([x.flatten(1), pooled], dim=1), self.scenario_KS, visits)
        return logits_V
