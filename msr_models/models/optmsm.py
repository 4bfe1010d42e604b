"""OptMSM with its FCN transfer; optmsm_moe.py and optmsm_cgc.py put other transfers into the same frame."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import register
from msr_models.modules.contrasts import Contrasts, pairwise_cosines
from msr_models.modules.dense import xavier_uniform_
from msr_models.modules.feature_partition import FeaturePartition
from msr_models.modules.hyper_towers import HyperTowers
from msr_models.modules.inputs import InputLayer, SequencePooling
from msr_models.modules.routing import Routing
from msr_models.modules.squeeze_gate import SqueezeGate
from msr_models.modules.stacked import rows_of
from msr_models.modules.transfer import StarTransfer, Transfer


@dataclass(frozen=True, kw_only=True, slots=True)
class OptMSMConfig:
    """priors, constraint, hypernetwork: False takes that part away (the paper's ablations). specific_fields: the priors
    beside the scenario's id; None: the pipeline's statistics in a scenario (names with `_scenario_`).
    transfer_hidden: of the shared and the scenarios' networks, as in the paper. It names neither λ (constraint_weight)
    nor the widths of predictor (hidden) and hypernetwork (hyper_hidden).
    contrasts_per_row: representations made for eq. 9 per row of the batch, on average; K or more: eq. 9 as it stands.
    """

    embedding_dim: Annotated[int, Field(ge=1)] = 16
    transfer_hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (256, 128, 32)
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (32,)
    hyper_hidden: Annotated[int, Field(ge=1)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    priors: bool = True
    constraint: bool = True
    hypernetwork: bool = True
    specific_fields: tuple[str, ...] | None = None
    constraint_weight: Annotated[float, Field(gt=0)] = 0.003
    contrasts_per_row: Annotated[float, Field(gt=0)] = 0.05
    sequence_pooling: SequencePooling = "mean"


class OptMSM(MultiScenarioModel):
    """OptMSM (Tang et al. 2023), the frame that all transfers share; a subclass gives the transfer.

    Features are parted in common ones e_c [B, C, D] and priors e^m [B, P * D], which are the specific fields of the row
    and a vector of the scenario that it visits (eq. 4). For visit (row, m):
    e_c^m = z^m ⊗ e_c, z^m of the scenario's squeeze-and-excitation (eq. 5);
    r^m = transfer(e_c^m), H numbers, none negative (eq. 6-8);
    R_0 = [r^m ; e^m], R_l ← R_l ⊗ 2σ(hypernetwork_l(R_0)), logit = W R_(L-1) + b: scenario m's predictor (eq. 10-13).
    In training the mean loss gets λ Σ_{i<j} cos(r^i, r^j), mean over rows (eq. 9 and 14; each of the C(K, 2) pairs
    once). Without priors every field is common and R_0 = r^m.

    Cost: all K representations of a row cost K transfers and, in a routed step, soon more than all else. A batch's rows
    are in random order, so eq. 9 on each n-th row is an unbiased estimate; n = K / contrasts_per_row makes its cost one
    of 0.05 transfers per row whatever K is, and disentangled planted scenarios as eq. 9 on all rows did. The paper's
    transfer (256, 128, 32) alone is more than twice SharedBottom's default tower (128, 64), so that a step at K = 12 on
    a CPU takes somewhat more than twice its time.
    """

    def __init__(
        self, config: OptMSMConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(num_scenarios)
        self.config = config
        self.inputs = InputLayer(layout, config.embedding_dim, config.sequence_pooling, generator)
        self.partition = FeaturePartition(
            layout, self.inputs.num_vectors, config.specific_fields if config.priors else ()
        )
        width = config.embedding_dim
        self.gate = SqueezeGate(num_scenarios, self.partition.num_common, generator)
        self.transfer = self._transfer(self.partition.num_common * width, generator)
        self.scenario_KD: nn.Parameter | None = None
        predictor_width = self.transfer.out_width
        if config.priors:
            self.scenario_KD = nn.Parameter(torch.empty(num_scenarios, width))
            xavier_uniform_(self.scenario_KD, num_scenarios + width, generator)
            predictor_width += (self.partition.num_specific + 1) * width
        hyper_hidden = config.hyper_hidden if config.hypernetwork else None
        self.predictor = HyperTowers(
            num_scenarios, predictor_width, config.hidden, hyper_hidden, config.dropout, generator
        )

    @abstractmethod
    def _transfer(self, in_width: int, generator: torch.Generator) -> Transfer:
        """The module that makes r of the gated common vectors, [V, in_width] -> [V, H]."""

    def embed(self, batch: Batch) -> Tensor:
        """e_BE, common vectors before specific ones."""
        e_BE: Tensor = self.partition(self.inputs(batch)).flatten(1)
        return e_BE

    def routed_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V."""
        return self._predicted(self.representations(e_BE, routing), e_BE, routing)

    def penalised_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> tuple[Tensor, Tensor | None]:
        """logits_V and in training the constraint, in which a row counts once, however many scenarios it visits."""
        config = self.config
        if not (config.constraint and self.num_scenarios > 1 and self.training and torch.is_grad_enabled()):
            return self.routed_logits(e_BE, batch, routing), None
        every = max(1, round(self.num_scenarios / config.contrasts_per_row))
        contrasts = Contrasts.of(routing, every)
        r_VH, r_KRH = contrasts.parted(self.representations(e_BE, contrasts.both))
        cosine = pairwise_cosines(r_KRH).sum() / max(1, r_KRH.shape[1])
        return self._predicted(r_VH, e_BE, routing), config.constraint_weight * cosine

    def representations(self, e_BE: Tensor, routing: Routing) -> Tensor:
        """r_VH: what the visits' rows are in their scenarios, of the common features alone (eq. 5-8)."""
        num_common, width = self.partition.num_common, self.config.embedding_dim
        common_BCD = e_BE[:, : num_common * width].view(-1, num_common, width)
        r_VH: Tensor = self.transfer(self.gate(common_BCD, routing), routing)
        return r_VH

    def _predicted(self, r_VH: Tensor, e_BE: Tensor, routing: Routing) -> Tensor:
        """logits_V of the representations beside the priors (eq. 10-13)."""
        parts = [r_VH]
        if self.scenario_KD is not None:
            parts.append(rows_of(self.scenario_KD, routing.scenario_V))
            if self.partition.num_specific:
                specific_BP = e_BE[:, self.partition.num_common * self.config.embedding_dim :]
                parts.append(specific_BP.index_select(0, routing.row_index_V))
        logits_V: Tensor = self.predictor(torch.cat(parts, dim=1), routing)
        return logits_V.float()


@register("optmsm", OptMSMConfig)
class OptMSMFcn(OptMSM):
    """OptMSM(FCN), the paper's own: r^m = relu((W ⊗ W^m) e_c^m + b + b^m), layer by layer (eq. 8).

    >>> model = build_model("optmsm", {"contrasts_per_row": 0.5}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def _transfer(self, in_width: int, generator: torch.Generator) -> Transfer:
        config = self.config
        return StarTransfer(self.num_scenarios, in_width, config.transfer_hidden, config.dropout, generator)
