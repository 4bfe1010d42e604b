"""ManyLabels: any model with a tower per scenario and label, and ESMM's product of two labels' probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.models.base import MultiScenarioModel, VisitLogits, base_rate_logits
from msr_models.modules.field_vectors import FieldVectors
from msr_models.modules.routing import Routing


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """further: names of the labels beside the main one. esmm: their probabilities are products; see `ManyLabels`."""

    further: tuple[str, ...] = ()
    esmm: bool = False

    @property
    def count(self) -> int:
        """T, the main label included."""
        return 1 + len(self.further)


MAIN_LABEL = Labels()


class ManyLabels(MultiScenarioModel):
    """A network of K T scenarios that serves K scenarios and T labels: tower k T + t is that of scenario k and label t.

    To the network a (scenario, label) is what a scenario is without further labels: a task with parts of its own.
    So all that its scenarios share (embeddings, experts, a common centre) labels share too, and what a scenario owns
    (a tower, a gate, a vector) each of its labels owns. The logit of a visit has the scenario's base rate of that
    label added, and the main label's the wide part where there is one.

    With `esmm`, P(label) = P(main) P(label | main), trained on all impressions by the cross entropy of the product
    (ESMM, Ma et al. 2018, eq. 4): the further towers give the logits of P(label | main), which no loss sees alone.

    Everything but `visit` and `label_logits` is about the main label: scenarios' scores, searches, validation.

    >>> labels = Labels(further=("purchase",), esmm=True)
    >>> model = build_model("shared_bottom", {"hidden": [64]}, layout, num_scenarios=3, seed=1, labels=labels)
    >>> logits_BT = model.label_logits(batch)
    """

    further_base_logit_JK: Tensor
    has_towers: ClassVar[bool] = True

    def __init__(self, network: MultiScenarioModel, num_scenarios: int, labels: Labels) -> None:
        """Raises TrainingError where the network's labels cannot have towers of their own."""
        super().__init__(num_scenarios)
        network.require_towers_for_labels()
        self.labels, self.further_labels = labels, labels.further
        self.wide, network.wide = network.wide, None
        network.labels_per_scenario = labels.count
        self.network = network
        self.learning_rate_scale = network.learning_rate_scale
        self.register_buffer("further_base_logit_JK", torch.zeros(len(labels.further), num_scenarios))

    @property
    def embedding(self) -> FieldVectors:
        return self.network.embedding

    @property
    def num_towers(self) -> int:
        return self.num_scenarios * self.labels.count

    def plan_steps(self, num_steps: int) -> None:
        self.network.plan_steps(num_steps)

    def embed(self, batch: Batch) -> Tensor:
        return self.network.embed(batch)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        towers, place_1V = routing.of_labels(1, self.labels.count)
        return self.network.network_logits(e_BE, batch, towers).index_select(0, place_1V[0])

    def penalised_network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> tuple[Tensor, Tensor | None]:
        towers, place_1V = routing.of_labels(1, self.labels.count)
        logits, penalty = self.network.penalised_network_logits(e_BE, batch, towers)
        return logits.index_select(0, place_1V[0]), penalty

    def label_logits(self, batch: Batch) -> Tensor:
        routing = Routing.own(batch.scenario_B, self.num_scenarios)
        towers, place_TV = routing.of_labels(self.labels.count, self.labels.count)
        logits = self.network.network_logits(self.embed(batch), batch, towers)
        return routing.to_rows(self._of_labels(logits, place_TV, batch, routing).T)

    def visit(self, batch: Batch, capacity: int | None = None) -> VisitLogits:
        routing = Routing.own_and_shared(batch.scenario_B, batch.shared_B, self.num_scenarios, capacity)
        towers, place_TV = routing.of_labels(self.labels.count, self.labels.count)
        logits, penalty = self.network.penalised_network_logits(self.embed(batch), batch, towers)
        logits_TV = self._of_labels(logits, place_TV, batch, routing)
        return VisitLogits(
            routing.row_index_V, routing.scenario_V, logits_TV[0], routing.real_V, penalty, logits_TV[1:].T
        )

    def _of_labels(self, logits: Tensor, place_TV: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """Logits of P(label), [T, V], of the towers' logits."""
        logits_TV = logits.index_select(0, place_TV.flatten()).view(place_TV.shape)
        main_V = logits_TV[0] + self._linear_logits(batch, routing)
        further_JV = logits_TV[1:] + self.further_base_logit_JK.index_select(1, routing.scenario_V)
        if self.labels.esmm:
            further_JV = product_logit(main_V, further_JV)
        return torch.cat([main_V[None], further_JV])

    @torch.no_grad()
    def start_further_from_base_rates(self, rows_K: Tensor, positives_K: Tensor, further_J2K: Tensor) -> None:
        """As `start_from_base_rates`, for the further labels of a fresh model; with `esmm`, rates among the rows that
        have the main label. further_J2K: as `TrainingData.further_counts`.
        """
        for j, (has_K, without_main_K) in enumerate(further_J2K):
            rates = (positives_K, has_K - without_main_K) if self.labels.esmm else (rows_K, has_K)
            self.further_base_logit_JK[j].copy_(base_rate_logits(*rates))


def product_logit(logit: Tensor, conditional: Tensor) -> Tensor:
    """logit of σ(logit) σ(conditional), fp32, broadcast, finite also where the product rounds to 0 or 1.

    log p = log σ(a) + log σ(b), 1 - p = σ(-a) + σ(a) σ(-b); the logit is log p - log(1 - p).
    """
    a, b = logit.float(), conditional.float()
    log_yes = F.logsigmoid(a) + F.logsigmoid(b)
    log_no = torch.logaddexp(F.logsigmoid(-a), F.logsigmoid(a) + F.logsigmoid(-b))
    return log_yes - log_no
