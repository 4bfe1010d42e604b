"""AdaSparse: one network whose neurons are weighted, or cut, by scenario."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import Positive, Share, TowerConfig, Weight
from msr_models.models.registry import register
from msr_models.modules.module_list import ModuleList
from msr_models.modules.neuron_weights import NeuronForm, neuron_weights, sparsity_excess
from msr_models.modules.penalty import mean_of_real
from msr_models.modules.routing import Routing
from msr_models.modules.split_linear import SplitLinear, scenario_vectors
from msr_models.modules.stacked import StackedLinear, StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaSparseConfig(TowerConfig):
    """form, beta, epsilon: see `neuron_weights`; β = 2 and ε = 0.25 are the paper's. alpha and sparsity_weight (of R_s)
    grow linearly from their first to their second value over the first growth_share of the planned training steps.
    min_sparsity, max_sparsity: range of the share of a layer's neurons that is cut without a penalty.
    The ranges are this code's choice.
    """

    form: NeuronForm = "fusion"
    beta: Annotated[Weight, Field(ge=1)] = 2.0
    epsilon: Annotated[Positive, Field(lt=1)] = 0.25
    alpha: tuple[Positive, Positive] = (1.0, 10.0)
    sparsity_weight: tuple[Weight, Weight] = (0.01, 0.1)
    growth_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    min_sparsity: Share = 0.15
    max_sparsity: Share = 0.25

    def __post_init__(self) -> None:
        if self.min_sparsity > self.max_sparsity:
            raise ValueError(
                f"min_sparsity {self.min_sparsity} is above max_sparsity {self.max_sparsity}; give the smaller value "
                "as min_sparsity"
            )
        for name, (start, end) in (("alpha", self.alpha), ("sparsity_weight", self.sparsity_weight)):
            if start > end:
                raise ValueError(f"{name} {[start, end]} decreases and must not; give the smaller value first")


@register("adasparse", AdaSparseConfig)
class AdaSparse(EmbeddingModel[AdaSparseConfig]):
    """h_l = ReLU(W_l h̃_{l−1} + b_l), h̃_l = π_l ⊙ h_l, logit = w·h̃_L + b; h̃_0 = e (Yang et al. 2022).

    π_l weights the neurons of layer l by v_l = P_l [embedding of the scenario ; h_l] + c_l: `binarisation`
    1[σ(αv) > ε], `scaling` β·σ(v), `fusion` β·σ(αv) where that exceeds ε, else 0 (see `neuron_weights`). All hidden
    layers are weighted, e is not: the first layer and its part of v run once per row, the rest once per visit.
    α and the weight of the penalty R_s grow with the part of the planned steps that is done, kept in buffers: a resumed
    run goes on where it was, one that starts from another run's weights grows from what that one had reached. Without a
    plan they stay as they are. R_s: mean over visits and layers of `sparsity_excess`; `scaling` cuts nothing and has no
    penalty.

    >>> model = build_model("adasparse", {"form": "binarisation"}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    num_steps: Tensor
    planned_steps: Tensor
    grown_before: Tensor

    def __init__(
        self, config: AdaSparseConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        self.scenario_KD = scenario_vectors(num_scenarios, config.embedding_dim, generator)
        widths = [self.embedded_width, *config.hidden]
        self.layers = ModuleList(StackedLinear(1, i, o, generator) for i, o in pairwise(widths))
        self.pruners = ModuleList(SplitLinear(h, config.embedding_dim, h, generator) for h in config.hidden)
        self.head = StackedTowers(1, widths[-1], (), 0.0, generator)
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("planned_steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("grown_before", torch.zeros(()))

    @torch.no_grad()
    def plan_steps(self, num_steps: int) -> None:
        self.grown_before.copy_(self._grown((0.0, 1.0)))
        self.num_steps.zero_()
        self.planned_steps.fill_(num_steps)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        return self.penalised_network_logits(e_BE, batch, routing)[0]

    def penalised_network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> tuple[Tensor, Tensor | None]:
        """(logits_V, penalty); the penalty is None in eval mode and where no neuron can be cut."""
        config, excess = self.config, list[Tensor]()
        grown = self._grown
        if torch.compiler.is_compiling():
            # A compiled backward would compute α again, from the next step
            grown = torch.compiler.disable(grown)  # type: ignore[no-untyped-call]  # untyped in torch
        alpha, sparsity_weight = grown(config.alpha), grown(config.sparsity_weight)
        if self.training and torch.is_grad_enabled():
            self.num_steps += 1
        h, place_V = e_BE, routing.row_index_V
        for layer, pruner in zip(self.layers, self.pruners, strict=True):
            h = F.relu(layer.every(h).squeeze(0))
            v_VH = pruner.of_scenario(h, self.scenario_KD, place_V, routing.scenario_V).float()
            weight_VH, kept_VH = neuron_weights(v_VH, alpha, config.form, config.beta, config.epsilon)
            h = F.dropout(h.index_select(0, place_V) * weight_VH, config.dropout, self.training)
            place_V = torch.arange(len(h), device=h.device)  # the next layer reads visits
            if kept_VH is not None:
                excess.append(sparsity_excess(kept_VH, config.min_sparsity, config.max_sparsity))
        logits_V = self.head.every(h).squeeze(1)
        if not self.training or not excess:
            return logits_V, None
        return logits_V, sparsity_weight * mean_of_real(torch.stack(excess).mean(0), routing)

    def _grown(self, ends: tuple[float, float]) -> Tensor:
        """A value that grows linearly from the first to the second end over growth_share of the plan, scalar."""
        start, end = ends
        span = (self.planned_steps * self.config.growth_share).clamp(min=1.0)
        done = torch.where(self.planned_steps > 0, (self.num_steps / span).clamp(max=1.0), 0.0)
        return start + (end - start) * (self.grown_before + (1.0 - self.grown_before) * done)
