"""MultiScenarioModel: what trainer, search and scoring ask of every model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.modules.embedding import FieldEmbedding
from msr_models.modules.inputs import InputLayer
from msr_models.modules.routing import Routing


@dataclass(frozen=True, slots=True)
class VisitLogits:
    """Logits of V visits, sorted by scenario: visit v is row row_index_V[v] in the tower of scenario_V[v].

    real_V: None, or False where a place only fills up a fixed number of visits (see Routing).
    penalty: scalar that the model adds to the mean loss of its rows in training (an auxiliary loss); None: nothing.
    """

    row_index_V: Tensor
    scenario_V: Tensor
    logits_V: Tensor
    real_V: Tensor | None = None
    penalty: Tensor | None = None


class MultiScenarioModel(nn.Module, ABC):
    """A model whose rows can be scored by the part (tower) of any of K scenarios.

    A subclass sets `inputs` and gives `embed` and `routed_logits`; what it can share among a row's visits it computes
    once per row.
    """

    has_towers: ClassVar[bool] = True
    """False: one output for all scenarios, so sharing rows among them means nothing."""

    visits_are_independent: ClassVar[bool] = True
    """False: in training a visit's logit depends on the other visits of its scenario (batch moments)."""

    learning_rate_scale: float = 1.0
    """Factor on training.learning_rate, for a model whose weights live on another scale than an MLP's."""

    inputs: InputLayer

    def __init__(self, num_scenarios: int) -> None:
        super().__init__()
        self.num_scenarios = num_scenarios

    @property
    def embedding(self) -> FieldEmbedding:
        """The table of the fields' vectors, which a selector can keep."""
        return self.inputs.embedding

    @property
    def pretraining_epochs(self) -> int:
        """Epochs that only prepare: `train` calls `end_pretraining` behind them and keeps the best of the others."""
        return 0

    def end_pretraining(self) -> None:
        """Enter the phase in which the model ends. State of phases belongs in buffers: runs resume, and models load."""

    @abstractmethod
    def embed(self, batch: Batch) -> Tensor:
        """Concatenated input vectors e_BE."""

    @abstractmethod
    def routed_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V, fp32, one per visit of `routing` and in its order."""

    def penalised_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> tuple[Tensor, Tensor | None]:
        """`routed_logits` and the model's penalty on them (see VisitLogits), for a model that trains with one."""
        return self.routed_logits(e_BE, batch, routing), None

    def scenario_logits(self, e_BE: Tensor, batch: Batch) -> Tensor:
        """Every row through every scenario's part: logits_BK, fp32."""
        routing = Routing.everywhere(e_BE.shape[0], self.num_scenarios, e_BE.device)
        return self.routed_logits(e_BE, batch, routing).view(self.num_scenarios, -1).t()

    def forward(self, batch: Batch) -> Tensor:
        """logits_B of each row's own scenario; no row visits another's part."""
        routing = Routing.own(batch.scenario_B, self.num_scenarios)
        return routing.to_rows(self.routed_logits(self.embed(batch), batch, routing))

    def visit(self, batch: Batch, capacity: int | None = None) -> VisitLogits:
        """Every row in its own scenario's part, and rows with shared_B in all others too; `capacity` as in Routing."""
        routing = Routing.own_and_shared(batch.scenario_B, batch.shared_B, self.num_scenarios, capacity)
        logits_V, penalty = self.penalised_logits(self.embed(batch), batch, routing)
        return VisitLogits(routing.row_index_V, routing.scenario_V, logits_V, routing.real_V, penalty)
