"""OptMSM with its FCN transfer; optmsm_moe.py and optmsm_cgc.py have other transfers."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import Flag, NoWidths, Positive, Size, TowerConfig, Widths
from msr_models.models.registry import register
from msr_models.modules.contrasts import Contrasts, pairwise_cosines
from msr_models.modules.feature_partition import FeaturePartition
from msr_models.modules.hyper_towers import HyperTowers
from msr_models.modules.routing import Routing
from msr_models.modules.split_linear import scenario_vectors
from msr_models.modules.squeeze_gate import SqueezeGate
from msr_models.modules.stacked import rows_of
from msr_models.modules.transfer import StarTransfer, Transfer


@dataclass(frozen=True, kw_only=True, slots=True)
class OptMSMConfig(TowerConfig):
    """priors, constraint, hypernetwork: False removes that part (the paper's ablations). specific_fields: the priors
    beside the scenario's id; None: the statistics per scenario (role `statistic`). specific_behaviours: the
    user's behaviours in the visited scenario are a prior too, where behaviours are read. transfer_hidden: widths of the
    transfer, the paper's. The paper gives neither λ (constraint_weight) nor the widths of predictor (hidden) and
    hypernetwork (hyper_hidden).
    contrasts_per_row: representations per row of the batch, on average, for eq. 9; K or more: eq. 9 on all rows.
    """

    transfer_hidden: Widths = (256, 128, 32)
    hidden: NoWidths = (32,)
    hyper_hidden: Size = 32
    priors: Flag = True
    constraint: Flag = True
    hypernetwork: Flag = True
    specific_fields: tuple[str, ...] | None = None
    specific_behaviours: Flag = True
    constraint_weight: Positive = 0.003
    contrasts_per_row: Positive = 0.05


ConfigT = TypeVar("ConfigT", bound=OptMSMConfig)


class OptMSM(EmbeddingModel[ConfigT]):
    """OptMSM (Tang et al. 2023) without its transfer, which a subclass adds.

    The features are split into common ones e_c [B, C, D] and priors e^m (eq. 4 and table 1): a vector of the visited
    scenario m, the row's specific fields [B, P * D], and the mean of the user's behaviours that happened in m. All
    behaviours together are a common feature. Statistics stay those of the row's own scenario in whatever tower it is:
    eq. 5 of SSIM passes the row's features through the others' networks. For a visit (row, m):
    e_c^m = z^m ⊗ e_c, z^m from scenario m's squeeze-and-excitation (eq. 5);
    r^m = transfer(e_c^m) [H], not negative (eq. 6-8);
    R_0 = [r^m ; e^m], R_l ← R_l ⊗ 2σ(hypernetwork_l(R_0)), logit = W R_(L-1) + b: scenario m's predictor (eq. 10-13).
    The penalty in training is λ Σ_{i<j} cos(r^i, r^j), mean over rows (eq. 9 and 14; each of the C(K, 2) pairs once);
    it trains the parts of scenarios with visits in the batch only (this code's choice).
    Without priors every field is common and R_0 = r^m.

    Cost: eq. 9 needs K transfers per row. Rows of a batch are in random order, so that eq. 9 on every n-th row is an
    unbiased estimate; with n = K / contrasts_per_row it costs 0.05 transfers per row at any K, and separated planted
    scenarios as well as eq. 9 on all rows. The paper's transfer (256, 128, 32) alone is more than twice SharedBottom's
    default tower, so that a step at K = 12 on a CPU takes somewhat more than twice SharedBottom's time.
    """

    def __init__(self, config: ConfigT, layout: FieldLayout, num_scenarios: int, generator: torch.Generator) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        self.partition = FeaturePartition(
            layout, self.inputs.num_vectors, config.specific_fields if config.priors else ()
        )
        width = config.embedding_dim
        self.gate = SqueezeGate(num_scenarios, self.partition.num_common, generator)
        self.transfer = self._transfer(self.partition.num_common * width, generator)
        self.scenario_KD: nn.Parameter | None = None
        predictor_width = self.transfer.out_width
        if config.priors:
            self.scenario_KD = scenario_vectors(num_scenarios, width, generator)
            predictor_width += (self.partition.num_specific + 1) * width
        reads_behaviours = config.sequence_pooling != "none" and layout.hist_length > 0
        self.has_specific_behaviours = config.priors and config.specific_behaviours and reads_behaviours
        if self.has_specific_behaviours:
            predictor_width += width
        hyper_hidden = config.hyper_hidden if config.hypernetwork else None
        self.predictor = HyperTowers(
            num_scenarios, predictor_width, config.hidden, hyper_hidden, config.dropout, generator
        )

    @abstractmethod
    def _transfer(self, in_width: int, generator: torch.Generator) -> Transfer:
        """The module from gated common vectors to r, [V, in_width] -> [V, H]."""

    def embed(self, batch: Batch) -> Tensor:
        """e_BE, the common vectors before the specific ones."""
        e_BE: Tensor = self.partition(self.inputs(batch)).flatten(1)
        return e_BE

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        return self._predicted(self.representations(e_BE, routing), e_BE, batch, routing)

    def penalised_network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> tuple[Tensor, Tensor | None]:
        """logits_V and, in training, the penalty, in which every row counts once."""
        config = self.config
        if not (config.constraint and self.num_scenarios > 1 and self.training and torch.is_grad_enabled()):
            return self.network_logits(e_BE, batch, routing), None
        every = max(1, round(self.num_scenarios / config.contrasts_per_row))
        contrasts = Contrasts.of(routing, every)
        r_VH, r_KRH = contrasts.parted(self.representations(e_BE, contrasts.both))
        # A scenario without rows in the batch stays as it is: only the constraint would move it, away from the others
        r_KRH = torch.where(routing.present_K()[:, None, None], r_KRH, r_KRH.detach())
        cosine = pairwise_cosines(r_KRH).sum() / max(1, r_KRH.shape[1])
        return self._predicted(r_VH, e_BE, batch, routing), config.constraint_weight * cosine

    def representations(self, e_BE: Tensor, routing: Routing) -> Tensor:
        """r_VH of the visits, from the common features alone (eq. 5-8)."""
        num_common, width = self.partition.num_common, self.config.embedding_dim
        common_BCD = e_BE[:, : num_common * width].view(-1, num_common, width)
        r_VH: Tensor = self.transfer(self.gate(common_BCD, routing), routing)
        return r_VH

    def _predicted(self, r_VH: Tensor, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V from the representations and the priors (eq. 10-13)."""
        parts = [r_VH]
        if self.scenario_KD is not None:
            parts.append(rows_of(self.scenario_KD, routing.scenario_V))
            if self.partition.num_specific:
                specific_BP = e_BE[:, self.partition.num_common * self.config.embedding_dim :]
                parts.append(specific_BP.index_select(0, routing.row_index_V))
        if self.has_specific_behaviours:
            row_V, scenario_V = routing.row_index_V, routing.scenario_V
            labels = self.labels_per_scenario  # a behaviour happened in a scenario, whatever label is predicted
            scenarios = self.num_scenarios // labels
            parts.append(self.embedding.history_in_scenario(batch, row_V, scenario_V // labels, scenarios))
        logits_V: Tensor = self.predictor(torch.cat(parts, dim=1), routing)
        return logits_V.float()


@register("optmsm", OptMSMConfig)
class OptMSMFcn(OptMSM[OptMSMConfig]):
    """OptMSM(FCN): r^m = relu((W ⊗ W^m) e_c^m + b + b^m), layer by layer (eq. 8).

    >>> model = build_model("optmsm", {"contrasts_per_row": 0.5}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    def _transfer(self, in_width: int, generator: torch.Generator) -> Transfer:
        config = self.config
        return StarTransfer(self.num_scenarios, in_width, config.transfer_hidden, config.dropout, generator)
