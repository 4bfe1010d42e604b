"""SAR-Net: attention to behaviours by item and scenario, a transformation per scenario, shared and own experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.config import Dropout, Flag, ModelConfig, Size, Widths
from msr_models.models.registry import register
from msr_models.modules.dense import xavier_parameter, xavier_uniform_
from msr_models.modules.inputs import InputLayer, require_behaviours
from msr_models.modules.progressive import ScenarioExperts
from msr_models.modules.routing import Routing
from msr_models.modules.split_linear import SplitLinear, scenario_vectors
from msr_models.modules.stacked import StackedTowers, routed_product, rows_of, stacked_layers, through_all


@dataclass(frozen=True, kw_only=True, slots=True)
class SARNetConfig(ModelConfig):
    """hidden: widths of an expert's layers, which end in the logit. sequence_pooling: the model's own attention to
    behaviours, or none. behaviour_scenarios: also attend to the scenarios that the behaviours happened in. Sizes are
    this code's choice.
    """

    embedding_dim: Size = 16
    attention_width: Size = 16
    num_shared_experts: Size = 2
    num_specific_experts: Size = 1
    hidden: Widths = (128, 64)
    dropout: Dropout = 0.0
    sequence_pooling: Literal["scenario_attention", "none"] = "scenario_attention"
    behaviour_scenarios: Flag = True


@register("sar_net", SARNetConfig)
class SARNet(MultiScenarioModel):
    """logit_k = w_k·Σ_x softmax(W_k v'_k)_x E_x(v'_k) + b_k, E_x the shared experts and those of scenario k.

    v'_k = v_k ⊙ β_k + γ_k (scenario-specific linear transformation), v_k = [e ; s_k ; u_k ; t_k]: the fields' vectors
    side by side, the embedding of scenario k, and two attentions. u_k: the behaviours h_l by the row's item q, composed
    as they are, u_k = Σ_l softmax_l(zᵀ tanh(H h_l + Q q + S s_k + c)) h_l over the real behaviours, 0 without any.
    t_k: the behaviours' scenarios m(l) by scenario k, t_k = Σ_l softmax_l(yᵀ tanh(G r_m(l) + R s_k + d)) r_m(l) over
    those that happened in a known scenario, 0 without any, so that a log that does not tell them has v_k without t_k.
    Shen et al. 2021 ("SAR-Net", CIKM).

    What differs from the paper: its first attention does not read the row's scenario. Its experts are debiased by a
    fairness coefficient of the sample, for items whose exposure was raised by hand; a log does not tell these, and
    every coefficient is 1. This code's choices: the additive scores; r, a table of its own; a gate per scenario;
    experts give vectors, which a linear layer per scenario reads; β starts at 1 and γ at 0.
    Raises TrainingError on a data set without behaviours, unless sequence_pooling is `none`.

    Cost: v'_k depends on the scenario, so that all experts run once per visit: with two shared and one own expert three
    times the products of SharedBottom's tower; a step takes about twice SharedBottom's time with target attention.

    >>> model = build_model("sar_net", {"num_shared_experts": 4}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: SARNetConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(num_scenarios)
        self.config, width = config, config.embedding_dim
        self.inputs = InputLayer(layout, width, "none", generator)
        self.embedded_width = self.inputs.total_width
        self.scenario_KD = scenario_vectors(num_scenarios, width, generator)
        self.attention: ScenarioAttention | None = None
        self.origins: OriginAttention | None = None
        read = self.embedded_width + width
        if config.sequence_pooling != "none":
            require_behaviours(layout, "model 'sar_net' with sequence_pooling 'scenario_attention'")
            self.attention = ScenarioAttention(width, config.attention_width, generator)
            read += width
            if config.behaviour_scenarios:
                self.origins = OriginAttention(num_scenarios, width, config.attention_width, generator)
                read += width
        self.transformation = ScenarioTransformation(num_scenarios, read)
        self.experts = ExpertGroups(
            num_scenarios,
            read,
            config.num_shared_experts,
            config.num_specific_experts,
            config.hidden,
            config.dropout,
            generator,
        )
        self.head = StackedTowers(num_scenarios, config.hidden[-1], (), 0.0, generator)

    def embed(self, batch: Batch) -> Tensor:
        """The vectors of the fields and, with attention, of the behaviours: [B, (F + L) D]."""
        e_BE = self.inputs.concatenated(batch)
        if self.attention is None:
            return e_BE
        return torch.cat([e_BE, self.embedding.history(batch).flatten(1)], dim=1)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        row_V, width = routing.row_index_V, self.config.embedding_dim
        fields_BE = e_BE[:, : self.embedded_width]
        read = [fields_BE.index_select(0, row_V), rows_of(self.scenario_KD, routing.scenario_V).to(e_BE.dtype)]
        if self.attention is not None:
            mask_BL = self.embedding.history_mask(batch)
            history_BLD = e_BE[:, self.embedded_width :].view(*mask_BL.shape, width)
            fields_BFD = fields_BE.view(len(mask_BL), self.inputs.num_vectors, width)
            item_BD = self.embedding.target(fields_BFD, self.embedding.target_parts(batch))
            read.append(self.attention(item_BD, history_BLD, mask_BL, self.scenario_KD, routing))
            if self.origins is not None:
                happened_BL = torch.where(mask_BL, batch.hist_scenario_BL, -1)
                read.append(self.origins(happened_BL, self.scenario_KD, routing).to(e_BE.dtype))
        v_VC = self.transformation(torch.cat(read, dim=1), routing)
        logits_V: Tensor = self.head(self.experts(v_VC, routing), routing)
        return logits_V.float()


class ScenarioAttention(nn.Module):
    """u_k = Σ_l softmax_l(zᵀ tanh(H h_l + Q q + S s_k + c)) h_l over real behaviours, zeros without any.

    H h_l and Q q are computed once per row, S s_k + c once per scenario. Suffixes: A width of the score's layer.
    """

    def __init__(self, width: int, score_width: int, generator: torch.Generator) -> None:
        super().__init__()
        fans = 3 * width + score_width
        self.behaviour_DA = xavier_parameter((width, score_width), fans, generator)
        self.item_and_scenario = SplitLinear(width, width, score_width, generator)
        self.head_A = nn.Parameter(torch.empty(score_width))
        xavier_uniform_(self.head_A, score_width + 1, generator)

    def forward(
        self, item_BD: Tensor, history_BLD: Tensor, mask_BL: Tensor, scenario_KD: Tensor, routing: Routing
    ) -> Tensor:
        """[V, D] of the visits."""
        row_V = routing.row_index_V
        behaviour_BLA = history_BLD @ self.behaviour_DA
        rest_VA = self.item_and_scenario.of_scenario(item_BD, scenario_KD, row_V, routing.scenario_V)
        score_VL = (behaviour_BLA.index_select(0, row_V) + rest_VA[:, None]).tanh() @ self.head_A
        mask_VL = mask_BL.index_select(0, row_V)
        # Not -inf, whose softmax is NaN for a row without behaviours; its shares are cleared below
        share_VL = score_VL.float().masked_fill(~mask_VL, torch.finfo(torch.float32).min).softmax(1)
        share_VL = torch.where(mask_VL, share_VL, 0.0).to(history_BLD.dtype)
        pooled_VD: Tensor = torch.bmm(share_VL[:, None], history_BLD.index_select(0, row_V)).squeeze(1)
        return pooled_VD.to(history_BLD.dtype)


class OriginAttention(nn.Module):
    """t_k = Σ_l softmax_l(yᵀ tanh(G r_m(l) + R s_k + d)) r_m(l) over behaviours that happened in a scenario m(l).

    A score depends on the two scenarios alone, so that a row needs only the number of its behaviours in each: a visit
    costs K products, whatever the number of behaviours. Suffixes: M scenarios of behaviours.
    """

    def __init__(self, num_scenarios: int, width: int, score_width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.origin_MD = scenario_vectors(num_scenarios, width, generator)
        self.layer = SplitLinear(width, width, score_width, generator)
        self.head_A = nn.Parameter(torch.empty(score_width))
        xavier_uniform_(self.head_A, score_width + 1, generator)

    def forward(self, happened_BL: Tensor, scenario_KD: Tensor, routing: Routing) -> Tensor:
        """[V, D] fp32 of the visits; happened_BL: scenario of each behaviour, -1 for none."""
        known_M = torch.arange(len(self.origin_MD), device=happened_BL.device)
        count_BM = (happened_BL[:, :, None] == known_M).sum(1)
        of_origin_MA, of_visited_KA = self.layer.first(self.origin_MD), self.layer.second(scenario_KD)
        score_KM = ((of_visited_KA[:, None] + of_origin_MA).tanh() @ self.head_A).float()
        count_VM = count_BM.index_select(0, routing.row_index_V)
        # n equal scores are one with log n more; not log 0, whose softmax is NaN for a row without any
        score_VM = rows_of(score_KM, routing.scenario_V) + count_VM.clamp(min=1).log()
        share_VM = score_VM.masked_fill(count_VM == 0, torch.finfo(torch.float32).min).softmax(1)
        t_VD: Tensor = torch.where(count_VM > 0, share_VM, 0.0) @ self.origin_MD.float()
        return t_VD


class ScenarioTransformation(nn.Module):
    """v ⊙ β_k + γ_k, one factor and one shift per element; β starts at ones, γ at zeros."""

    neutral_values: ClassVar[Mapping[str, float]] = {"scale_KC": 1.0}

    def __init__(self, num_scenarios: int, width: int) -> None:
        super().__init__()
        self.scale_KC = nn.Parameter(torch.ones(num_scenarios, width))
        self.shift_KC = nn.Parameter(torch.zeros(num_scenarios, width))

    def forward(self, v_VC: Tensor, routing: Routing) -> Tensor:
        """[V, C] of visits sorted by scenario -> [V, C]."""
        return v_VC * rows_of(self.scale_KC, routing.scenario_V) + rows_of(self.shift_KC, routing.scenario_V)


class ExpertGroups(nn.Module):
    """Σ_x softmax(W_k v)_x E_x(v) over the experts that all share and those of scenario k: MLPs with ReLU after every
    layer; a gate is a product and a softmax. Suffixes: X all of them, H width of an expert's output.
    """

    def __init__(
        self,
        num_scenarios: int,
        width: int,
        num_shared: int,
        num_specific: int,
        hidden: tuple[int, ...],
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.shared = stacked_layers(num_shared, [width, *hidden], generator)
        self.own = ScenarioExperts(num_scenarios, width, num_specific, hidden, dropout, generator)
        number = num_shared + num_specific
        self.gate_KCX = xavier_parameter((num_scenarios, width, number), width + number, generator)
        self.dropout = dropout

    def forward(self, v_VC: Tensor, routing: Routing) -> Tensor:
        """[V, H]; the gate weights the shared experts first."""
        shared_VXH = through_all(self.shared, v_VC, self.dropout, self.training).transpose(0, 1)
        experts_VXH = torch.cat([shared_VXH, self.own(v_VC, routing)], dim=1)
        gate_VX = routed_product(v_VC, self.gate_KCX, routing.ends_K).softmax(1)
        return torch.einsum("vx,vxh->vh", gate_VX, experts_VXH)
