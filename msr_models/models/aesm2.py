"""AESM²: every visit selects experts that are specific to its scenario and experts that suit all scenarios."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import NoWidths, Size, TowerConfig, Weight, Widths
from msr_models.models.registry import register
from msr_models.modules.expert_selection import SelectedExperts
from msr_models.modules.module_list import ModuleList
from msr_models.modules.penalty import mean_of_real
from msr_models.modules.routing import Routing
from msr_models.modules.split_linear import scenario_vectors
from msr_models.modules.stacked import StackedTowers


@dataclass(frozen=True, kw_only=True, slots=True)
class AESM2Config(TowerConfig):
    """expert_widths: width of the experts of each layer, so its length is the number of layers. top_k: how many
    specific and how many shared experts a visit selects (they may coincide). noise: standard deviation of the gate's
    noise in training, times num_experts. auxiliary_weight: weight of the divergences in the loss.
    Sizes, noise and weight are this code's choice.
    """

    num_experts: Size = 8
    top_k: Size = 3
    expert_widths: Widths = (64,)
    hidden: NoWidths = (128, 64)
    noise: Weight = 1.0
    auxiliary_weight: Weight = 0.01

    def __post_init__(self) -> None:
        if self.top_k > self.num_experts:
            raise ValueError(
                f"top_k {self.top_k} is more than num_experts {self.num_experts}; lower top_k or raise num_experts"
            )


@register("aesm2", AESM2Config)
class AESM2(EmbeddingModel[AESM2Config]):
    """logit_s = tower(z), z = Σ_{j selected} softmax(G_s)_j E_j(x) per layer (Zou et al. 2022, multi-scenario part).

    G [K, X] = W [x ; embedding of scenario s] + b, in training with Gaussian noise. Ĝ_j: softmax over scenarios, per
    expert. Selected: the top_k smallest KL(onehot_s ‖ Ĝ_j) and the top_k smallest KL(uniform ‖ Ĝ_j). The penalty in
    training is auxiliary_weight · Σ over layers of the mean selected divergences (see `selective_gate`). The paper has
    further layers for several tasks above these; here one tower, shared by all scenarios, reads the last layer.
    Noise is drawn once per row, from PyTorch's global generator, and shared by the row's visits, so that neither a mask
    of shared rows nor padding changes the noise of other rows.

    Cost: the experts of the first layer run once per row; further layers, gate, mixture and tower once per visit. The
    default experts take three times the products of SharedBottom's towers and a gate has K logits per expert: a step at
    K = 12 on a CPU takes two to three times SharedBottom's time.

    >>> model = build_model("aesm2", {"num_experts": 6, "top_k": 2}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def __init__(
        self, config: AESM2Config, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        self.scenario_KD = scenario_vectors(num_scenarios, config.embedding_dim, generator)
        widths = [self.embedded_width, *config.expert_widths]
        experts, top_k = config.num_experts, config.top_k
        self.layers = ModuleList(
            SelectedExperts(num_scenarios, i, config.embedding_dim, experts, o, top_k, generator)
            for i, o in pairwise(widths)
        )
        self.tower = StackedTowers(1, widths[-1], config.hidden, config.dropout, generator)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        return self.penalised_network_logits(e_BE, batch, routing)[0]

    def penalised_network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> tuple[Tensor, Tensor | None]:
        """(logits_V, penalty); the penalty is None in eval mode."""
        x, place_V = e_BE, routing.row_index_V
        divergences: list[Tensor] = []
        for layer in self.layers:
            x, divergence_V = layer(x, self.scenario_KD, place_V, routing, self._noise(e_BE))
            divergences.append(divergence_V)
            place_V = torch.arange(len(x), device=x.device)  # the next layer reads visits
        logits_V = self.tower.every(x).squeeze(1)
        if not self.training:
            return logits_V, None
        divergence_V = torch.stack(divergences).sum(0)
        return logits_V, self.config.auxiliary_weight * mean_of_real(divergence_V, routing)

    def _noise(self, e_BE: Tensor) -> Tensor | None:
        """[B, K * X] for the gate of one layer; None in eval mode."""
        if not self.training or self.config.noise == 0:
            return None
        shape = (e_BE.shape[0], self.num_scenarios * self.config.num_experts)
        return torch.randn(shape, device=e_BE.device) * (self.config.noise / self.config.num_experts)
