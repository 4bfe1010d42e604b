"""ST-Backbone: any model as one network for the rows of all scenarios."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.models.base import MultiScenarioModel
from msr_models.modules.field_vectors import FieldVectors
from msr_models.modules.routing import Routing


class Pooled(MultiScenarioModel):
    """Wraps a model of one scenario, to which every row belongs; rows keep their own scenario for the metrics only.

    >>> model = Pooled(build_model("dcn", {}, layout, num_scenarios=1, seed=1), num_scenarios=3)
    >>> logits_B = model(batch)
    """

    has_towers: ClassVar[bool] = False

    def __init__(self, network: MultiScenarioModel, num_scenarios: int) -> None:
        super().__init__(num_scenarios)
        self.network = network
        self.learning_rate_scale = network.learning_rate_scale

    @property
    def embedding(self) -> FieldVectors:
        return self.network.embedding

    def embed(self, batch: Batch) -> Tensor:
        return self.network.embed(_of_one_scenario(batch))

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        return self.network.routed_logits(e_BE, _of_one_scenario(batch), _to_one_scenario(routing))

    def penalised_network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> tuple[Tensor, Tensor | None]:
        return self.network.penalised_logits(e_BE, _of_one_scenario(batch), _to_one_scenario(routing))

    def start_from_base_rates(self, rows_K: Tensor, positives_K: Tensor) -> None:
        self.network.start_from_base_rates(rows_K.sum(0, keepdim=True), positives_K.sum(0, keepdim=True))


def _of_one_scenario(batch: Batch) -> Batch:
    return batch.in_one_scenario()


def _to_one_scenario(routing: Routing) -> Routing:
    """The same visits in the same order, all to scenario 0."""
    visits = routing.row_index_V.shape[0]
    ends_K = torch.full((1,), visits, dtype=torch.int32, device=routing.row_index_V.device)
    return Routing(routing.row_index_V, torch.zeros_like(routing.scenario_V), ends_K, routing.num_rows, routing.real_V)
