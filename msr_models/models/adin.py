"""ADIN: fields weighted and normalised by scenario, then a shared and an own network that are fused."""

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
from msr_models.models.config import NoWidths, Positive, Size, TowerConfig, Widths
from msr_models.models.registry import register
from msr_models.modules.partitioned_norm import PartitionedNorm
from msr_models.modules.routing import Routing
from msr_models.modules.stacked import StackedLinear, StackedTowers, rows_of, stacked_layers, through_all


@dataclass(frozen=True, kw_only=True, slots=True)
class AdinConfig(TowerConfig):
    """gate_hidden: hidden width of the domain interest adaptation layer. network_hidden: widths of the shared network
    and of each scenario's own. hidden: of the forward networks. norm_momentum: of the running moments, see
    PartitionedNorm. Sizes are this code's choice.
    """

    gate_hidden: Size = 8
    network_hidden: Widths = (64,)
    hidden: NoWidths = (64,)
    norm_momentum: Annotated[Positive, Field(le=1)] = 0.1


@register("adin", AdinConfig)
class Adin(EmbeddingModel[AdinConfig]):
    """logit_k = forward_k([a_k o ; a_k o ⊙ c_k s ; c_k s]), s = shared(x), o = own_k(x) (Jiang et al. 2022).

    Domain-specific batch normalisation: [f_1 ; ... ; f_F] = DSBN_k(e), the fields' vectors with the moments, scale and
    shift of scenario k (STAR's PartitionedNorm: its scale is γ ⊙ γ_k, its shift β + β_k). Domain interest adaptation
    layer: x = [g_1 f_1 ; ... ; g_F f_F], g = σ(W'_k ReLU(W_k [mean(f_1) ... mean(f_F)] + b_k) + b'_k), mean over a
    vector's D elements (squeeze and excitation per scenario). shared: one network for all; own_k: one per scenario; the
    fusion weighs both and their product; forward_k: the scenario's MLP.

    Left out: self-training, the pseudo-labels from other scenarios. The paper retrieves items, with a network for the
    user and one for the item, their inner product and sampled softmax; here one network reads all fields and gives
    the logit of a click. This code's choices: normalisation once, before the weights g, which it would otherwise divide
    out again; the sigmoid of g; the form of the fusion, whose weights a_k and c_k are σ of a trained vector of scenario
    k, as the scenario is the only domain feature here. In training a visit depends on the others of its scenario, as in
    STAR.

    Cost: all layers read what the scenario has adapted, so that the shared network runs once per visit too, and the
    normalisation and the weights each pass over the visits' inputs several times: a step at K = 12 on a CPU takes
    one and a half to two times SharedBottom's time.

    >>> model = build_model("adin", {"network_hidden": [128, 64]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    visits_are_independent: ClassVar[bool] = False

    def __init__(self, config: AdinConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        fields, widths = self.inputs.num_vectors, [self.embedded_width, *config.network_hidden]
        self.squeeze = StackedLinear(num_scenarios, fields, config.gate_hidden, generator)
        self.excite = StackedLinear(num_scenarios, config.gate_hidden, fields, generator)
        self.norm = PartitionedNorm(num_scenarios, self.embedded_width, config.norm_momentum)
        self.shared = stacked_layers(1, widths, generator)
        self.own = stacked_layers(num_scenarios, widths, generator)
        self.own_fusion_KH = nn.Parameter(torch.zeros(num_scenarios, widths[-1]))
        self.shared_fusion_KH = nn.Parameter(torch.zeros(num_scenarios, widths[-1]))
        self.towers = StackedTowers(num_scenarios, 3 * widths[-1], config.hidden, config.dropout, generator)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        f_VE: Tensor = self.norm(e_BE.index_select(0, routing.row_index_V), routing)
        if f_VE.shape[0] == 0:
            # Another process may have visits: the gradient of its moments waits for ours
            return f_VE.sum(1)
        x_VE = self._adapted(f_VE, routing)
        own_VH = x_VE
        for layer in self.own:
            own_VH = F.dropout(F.relu(layer(own_VH, routing)), self.config.dropout, self.training)
        shared_VH = through_all(self.shared, x_VE, self.config.dropout, self.training).squeeze(0)
        own_VH = own_VH * rows_of(self.own_fusion_KH.sigmoid(), routing.scenario_V)
        shared_VH = shared_VH * rows_of(self.shared_fusion_KH.sigmoid(), routing.scenario_V)
        logits_V: Tensor = self.towers(torch.cat([own_VH, own_VH * shared_VH, shared_VH], dim=1), routing)
        return logits_V.float()

    def _adapted(self, f_VE: Tensor, routing: Routing) -> Tensor:
        """[V, E]: every field's vector times its weight."""
        f_VFD = f_VE.view(len(f_VE), self.inputs.num_vectors, self.config.embedding_dim)
        gate_VF: Tensor = self.excite(F.relu(self.squeeze(f_VFD.mean(2), routing)), routing).sigmoid()
        return (f_VFD * gate_VF[:, :, None]).flatten(1)
