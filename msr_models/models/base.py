"""MultiScenarioModel, the interface that trainer, search and scoring use, and EmbeddingModel, its usual form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.config import TowerConfig
from msr_models.modules.field_vectors import FieldVectors
from msr_models.modules.inputs import InputLayer
from msr_models.modules.routing import Routing
from msr_models.modules.wide_part import WidePart

BASE_RATE_ROWS = 20.0

ConfigT = TypeVar("ConfigT", bound=TowerConfig)


@dataclass(frozen=True, slots=True)
class VisitLogits:
    """Logits of V visits, sorted by scenario: visit v is row row_index_V[v] in the tower of scenario_V[v].

    logits_V: fp32, of the main label. further_VJ: likewise of the further labels; None without any. real_V: None, or
    False for padding up to a fixed number of visits (see Routing).
    penalty: scalar auxiliary loss, added to the mean loss in training; None without one.
    """

    row_index_V: Tensor
    scenario_V: Tensor
    logits_V: Tensor
    real_V: Tensor | None = None
    penalty: Tensor | None = None
    further_VJ: Tensor | None = None

    def of_further(self, j: int) -> VisitLogits:
        """The same visits with the logits of further label j."""
        assert self.further_VJ is not None
        return replace(self, logits_V=self.further_VJ[:, j])


class MultiScenarioModel(nn.Module, ABC):
    """A model that can score a row with the part (tower) of any of K scenarios.

    A subclass sets `inputs` and implements `embed` and `network_logits`. What does not depend on the scenario is
    computed once per row, the rest once per visit (a row in one scenario's part). A logit is the network's, plus
    the constant base_logit_K of the scenario (see `start_from_base_rates`), plus the wide part where there is one.
    """

    has_towers: ClassVar[bool] = True
    """False: one output for all scenarios, so that rows cannot be shared among towers."""

    visits_are_independent: ClassVar[bool] = True
    """False: in training a visit's logit depends on other visits of its scenario (batch moments)."""

    further_labels: tuple[str, ...] = ()
    """Labels beside the main one that are predicted too; see ManyLabels."""

    labels_per_scenario: int = 1
    """Above 1 inside ManyLabels alone: scenario n // labels_per_scenario has the tower n, label by label."""

    predicts_main_label_only: ClassVar[bool] = False
    """True: on a data set with further labels the model is trained as if there were none."""

    learning_rate_scale: float = 1.0
    """Factor on training.learning_rate, for a model whose weights have another scale than an MLP's."""

    inputs: InputLayer
    wide: WidePart | None
    base_logit_K: Tensor
    has_base_rates: Tensor

    def __init__(self, num_scenarios: int) -> None:
        super().__init__()
        self.num_scenarios = num_scenarios
        self.wide = None
        self.register_buffer("base_logit_K", torch.zeros(num_scenarios))
        self.register_buffer("has_base_rates", torch.tensor(False))

    @property
    def embedding(self) -> FieldVectors:
        """The embeddings of the fields."""
        return self.inputs.embedding

    @property
    def embeddings(self) -> tuple[FieldVectors, ...]:
        """All embeddings of the fields, of the same layout: a search's selector keeps copies, side by side."""
        return (self.embedding,)

    @property
    def num_towers(self) -> int:
        """Places of the first axis of a parameter that has one for each tower."""
        return self.num_scenarios

    def require_towers_for_labels(self) -> None:
        """Raise TrainingError where labels cannot have towers as scenarios do; see ManyLabels."""

    @property
    def pretraining_epochs(self) -> int:
        """Number of first epochs that pretrain: the trainer calls `end_pretraining` after them and never keeps one."""
        return 0

    def end_pretraining(self) -> None:
        """Enter the final phase. Keep the phase in a buffer: checkpoints and resumed runs restore it."""

    def plan_steps(self, num_steps: int) -> None:
        """Told before training how many steps are planned, all epochs together: for what grows with their share."""

    @abstractmethod
    def embed(self, batch: Batch) -> Tensor:
        """Concatenated input vectors e_BE."""

    @abstractmethod
    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V, fp32, one per visit of `routing` and in its order, without the base rates and the wide part."""

    def penalised_network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> tuple[Tensor, Tensor | None]:
        """`network_logits` and the penalty of VisitLogits; override it in a model that has an auxiliary loss."""
        return self.network_logits(e_BE, batch, routing), None

    def scenario_network_logits(self, e_BE: Tensor, batch: Batch) -> Tensor:
        """`network_logits` of every row in every scenario's part, [B, K] fp32."""
        routing = Routing.everywhere(e_BE.shape[0], self.num_scenarios, e_BE.device)
        return self.network_logits(e_BE, batch, routing).view(self.num_scenarios, -1).t()

    def routed_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V, fp32, one per visit of `routing` and in its order."""
        return self.network_logits(e_BE, batch, routing) + self._linear_logits(batch, routing)

    def penalised_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> tuple[Tensor, Tensor | None]:
        """`routed_logits` and the penalty of VisitLogits."""
        logits_V, penalty = self.penalised_network_logits(e_BE, batch, routing)
        return logits_V + self._linear_logits(batch, routing), penalty

    def scenario_logits(self, e_BE: Tensor, batch: Batch) -> Tensor:
        """Logits of every row in every scenario's part, [B, K] fp32."""
        logits_BK = self.scenario_network_logits(e_BE, batch) + self.base_logit_K
        return logits_BK if self.wide is None else logits_BK + self.wide(batch)[:, None]

    def _linear_logits(self, batch: Batch, routing: Routing) -> Tensor:
        """What is added to a network's logits, [V] fp32: the scenario's base rate, and the row's wide part."""
        base_V = self.base_logit_K.index_select(0, routing.scenario_V)
        return base_V if self.wide is None else base_V + self.wide(batch).index_select(0, routing.row_index_V)

    @torch.no_grad()
    def start_from_base_rates(self, rows_K: Tensor, positives_K: Tensor) -> None:
        """Let logits start at each scenario's share of positives, once: weights that a run starts from keep theirs.

        A network whose output starts near 0 needs hundreds of steps to reach the log odds of rare clicks, which a small
        scenario does not have. BASE_RATE_ROWS rows with the rate of all scenarios together are added to each.
        """
        if self.has_base_rates:
            return
        self.base_logit_K.copy_(base_rate_logits(rows_K, positives_K))
        self.has_base_rates.fill_(True)

    def forward(self, batch: Batch) -> Tensor:
        """Logits of each row in its own scenario's part, [B] fp32."""
        routing = Routing.own(batch.scenario_B, self.num_scenarios)
        return routing.to_rows(self.routed_logits(self.embed(batch), batch, routing))

    def label_logits(self, batch: Batch) -> Tensor:
        """Logits of each row in its own scenario's part, [B, 1 + J] fp32: of the main label, then the further ones."""
        logits_B: Tensor = self(batch)
        return logits_B[:, None]

    def visit(self, batch: Batch, capacity: int | None = None) -> VisitLogits:
        """Logits of each row in its own scenario's part, and of rows with shared_B in all others too.

        capacity: fixed number of visits, as in Routing.of_mask.
        """
        routing = Routing.own_and_shared(batch.scenario_B, batch.shared_B, self.num_scenarios, capacity)
        logits_V, penalty = self.penalised_logits(self.embed(batch), batch, routing)
        return VisitLogits(routing.row_index_V, routing.scenario_V, logits_V, routing.real_V, penalty)


def base_rate_logits(rows_K: Tensor, positives_K: Tensor) -> Tensor:
    """logit of each scenario's share of positives, with BASE_RATE_ROWS rows of the rate of all added, [K] float64."""
    rows_K, positives_K = rows_K.double(), positives_K.double()
    overall = (positives_K.sum() + 1.0) / (rows_K.sum() + BASE_RATE_ROWS)
    return ((positives_K + BASE_RATE_ROWS * overall) / (rows_K + BASE_RATE_ROWS)).logit()


class EmbeddingModel(MultiScenarioModel, Generic[ConfigT]):
    """A model of e_BE, the vectors of fields and behaviours side by side [B, E]; E is `embedded_width`.

    A subclass adds its modules in `__init__`, behind the input layer, and gives `network_logits`.
    """

    def __init__(self, config: ConfigT, layout: FieldLayout, num_scenarios: int, generator: torch.Generator) -> None:
        super().__init__(num_scenarios)
        self.config = config
        self.inputs = InputLayer(layout, config.embedding_dim, config.sequence_pooling, generator)
        self.embedded_width = self.inputs.total_width
        if config.wide:
            self.wide = WidePart(layout, config.sequence_pooling != "none", generator)

    def embed(self, batch: Batch) -> Tensor:
        return self.inputs.concatenated(batch)
