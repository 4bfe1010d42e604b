"""HAMUR: adapters behind the last layers of the towers, whose weights a common hypernetwork makes for every visit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import Positive, Size, TowerConfig
from msr_models.models.registry import register
from msr_models.modules.dense import Dense, xavier_parameter
from msr_models.modules.module_list import ModuleList
from msr_models.modules.partitioned_norm import PartitionedNorm
from msr_models.modules.routing import Routing
from msr_models.modules.split_linear import SplitLinear, scenario_vectors
from msr_models.modules.stacked import StackedTowers, routed_product, rows_of


@dataclass(frozen=True, kw_only=True, slots=True)
class HamurConfig(TowerConfig):
    """adapters: how many of the last hidden layers have one. bottleneck: width of an adapter's middle layer. rank: of
    the adapters' weights, so that the generated matrix is [rank, rank]. hyper_hidden: hidden width of the hypernetwork.
    norm_momentum: of the running moments, see PartitionedNorm.
    """

    adapters: Size = 1
    bottleneck: Size = 32
    rank: Size = 8
    hyper_hidden: Size = 32
    norm_momentum: Annotated[Positive, Field(le=1)] = 0.1

    def __post_init__(self) -> None:
        if self.adapters > len(self.hidden):
            raise ValueError(
                f"adapters {self.adapters} is more than the {len(self.hidden)} layers of hidden {list(self.hidden)}; "
                "lower adapters or add layers"
            )


class HyperAdapter(nn.Module):
    """DN_k(σ(h U_k C V_k + b_k) U'_k C V'_k) for visits of scenario k: the term that is added to h.

    C [R, R] is a visit's generated matrix; its weights, of rank R, are applied factor by factor and never made. DN:
    domain normalisation. Suffixes: H width of h, M of the middle layer, R rank. Initial weights: Xavier-uniform, biases
    zero.
    """

    def __init__(
        self, num_scenarios: int, width: int, bottleneck: int, rank: int, momentum: float, generator: torch.Generator
    ) -> None:
        super().__init__()

        def factor(rows: int, columns: int) -> nn.Parameter:
            return xavier_parameter((num_scenarios, rows, columns), rows + columns, generator)

        self.down_left_KHR, self.down_right_KRM = factor(width, rank), factor(rank, bottleneck)
        self.up_left_KMR, self.up_right_KRH = factor(bottleneck, rank), factor(rank, width)
        self.down_bias_KM = nn.Parameter(torch.zeros(num_scenarios, bottleneck))
        # The second layer needs no bias: the normalisation would subtract it
        self.norm = PartitionedNorm(num_scenarios, width, momentum)

    def forward(self, h_VH: Tensor, core_VRR: Tensor, routing: Routing) -> Tensor:
        """[V, H] fp32."""
        down_VM = _generated(h_VH, self.down_left_KHR, core_VRR, self.down_right_KRM, routing)
        middle_VM = (down_VM + rows_of(self.down_bias_KM.to(down_VM.dtype), routing.scenario_V)).sigmoid()
        up_VH = _generated(middle_VM, self.up_left_KMR, core_VRR, self.up_right_KRH, routing)
        if up_VH.shape[0] == 0:
            # A product without visits has no gradient, and other processes wait for that of our moments
            up_VH = up_VH + middle_VM.sum(1, keepdim=True)
        normed_VH: Tensor = self.norm(up_VH, routing)
        return normed_VH


def _generated(x_VI: Tensor, left_KIR: Tensor, core_VRR: Tensor, right_KRO: Tensor, routing: Routing) -> Tensor:
    """x (U_k C V_k), [V, O]."""
    x_VR = routed_product(x_VI, left_KIR, routing.ends_K)
    x_VR = (x_VR[:, :, None] * core_VRR).sum(1)
    return routed_product(x_VR, right_KRO, routing.ends_K)


@register("hamur", HamurConfig)
class Hamur(EmbeddingModel[HamurConfig]):
    """logit_k = tower_k(e), with h ← h + adapter_k(h, C) behind its last hidden layers (Li et al. 2023, HAMUR).

    adapter_k: two layers with a bottleneck and a sigmoid between them, then domain normalisation (see HyperAdapter).
    Its weights are W = U_k C V_k of low rank r, where C [r, r] = hypernetwork([e ; embedding of scenario k]). All
    scenarios share the hypernetwork, and the same C serves both layers and all adapters of a visit. Domain
    normalisation is STAR's PartitionedNorm: moments of the scenario's visits, scale γ ⊙ γ_k and shift β + β_k.

    This code's choices: U_k, V_k and biases belong to a scenario (the authors' code has them in common); the
    hypernetwork is one ReLU layer and a linear one, without batch normalisation and without a ReLU on C; the towers
    have no batch normalisation; all sizes (the authors' code has rank 35 and a hypernetwork of 64). Their small form
    has one adapter on two layers, the large one two adapters on seven. As in STAR, a visit depends in training on the
    others of its scenario.

    Cost: the hypernetwork's first layer runs once per row, for e's part, and the rest once per visit. The adapter's
    products are small beside a tower's, but they are many, and the normalisation reads every visit several times: a
    step at K = 12 on a CPU takes about one and a half times SharedBottom's time.

    >>> model = build_model("hamur", {"hidden": [128, 64], "adapters": 2}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    visits_are_independent: ClassVar[bool] = False

    def __init__(
        self, config: HamurConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        self.towers = StackedTowers(num_scenarios, self.embedded_width, config.hidden, config.dropout, generator)
        self.scenario_KD = scenario_vectors(num_scenarios, config.embedding_dim, generator)
        self.hyper_first = SplitLinear(self.embedded_width, config.embedding_dim, config.hyper_hidden, generator)
        self.hyper_second = Dense(config.hyper_hidden, config.rank**2, generator)
        self.adapters = ModuleList(
            HyperAdapter(num_scenarios, width, config.bottleneck, config.rank, config.norm_momentum, generator)
            for width in config.hidden[-config.adapters :]
        )

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        core_VRR = self._cores(e_BE, routing)
        *layers, last = self.towers.layers
        plain = len(layers) - len(self.adapters)
        h = e_BE.index_select(0, routing.row_index_V)
        added: list[Tensor] = []
        for number, layer in enumerate(layers):
            h = F.dropout(F.relu(layer(h, routing)), self.config.dropout, self.training)
            if number >= plain:
                added.append(self.adapters[number - plain](h, core_VRR, routing))
                h = h + added[-1]
        if h.shape[0] == 0:
            # Another process may have visits: the gradients of its moments wait for ours
            return torch.stack([z_VH.sum(1) for z_VH in added]).sum(0)
        logits_V1: Tensor = last(h, routing)
        return logits_V1.squeeze(1)

    def _cores(self, e_BE: Tensor, routing: Routing) -> Tensor:
        """C of every visit, [V, R, R]."""
        row_V, rank = routing.row_index_V, self.config.rank
        hidden_VG = self.hyper_first.of_scenario(e_BE, self.scenario_KD, row_V, routing.scenario_V)
        core_VC: Tensor = self.hyper_second(F.relu(hidden_VG))
        return core_VC.view(len(row_V), rank, rank)
