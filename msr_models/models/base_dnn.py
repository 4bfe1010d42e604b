"""BaseDNN, also called Mix: one MLP for the rows of all scenarios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import EmbeddingModel
from msr_models.models.config import Flag, TowerConfig
from msr_models.models.registry import register
from msr_models.modules.common_network import CommonNetwork
from msr_models.modules.routing import Routing
from schemas.errors import TrainingError


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseDNNConfig(TowerConfig):
    """scenario_input: whether the scenario is an input of the network. OptMSM and SFPNet use three hidden layers."""

    scenario_input: Flag = True


@register("base_dnn", BaseDNNConfig)
class BaseDNN(EmbeddingModel[BaseDNNConfig]):
    """logit = MLP([e ; scenario embedding]) for every row (Mix in Tang et al. 2023, BaseDNN in Zhang et al. 2024).

    The scenario is one more field by default: in the papers' logs it is among the features, and without it the network
    cannot even learn the scenarios' different rates of positives. There are no towers: the logit of a row in another
    scenario is that of a changed input.

    >>> model = build_model("base_dnn", {"hidden": [256, 128, 64]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    has_towers: ClassVar[bool] = False

    def __init__(
        self, config: BaseDNNConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        scenario_width = config.embedding_dim if config.scenario_input else 0
        self.network = CommonNetwork(
            num_scenarios, self.embedded_width, scenario_width, config.hidden, config.dropout, generator
        )

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        logits_V: Tensor = self.network(e_BE, routing)
        return logits_V

    def require_towers_for_labels(self) -> None:
        if not self.config.scenario_input:
            raise TrainingError(
                "model 'base_dnn' with scenario_input false has one output for all labels; leave the option out, or "
                "columns.further_labels of the data set"
            )

    def start_from_base_rates(self, rows_K: Tensor, positives_K: Tensor) -> None:
        if not self.config.scenario_input:  # a rate of each scenario would be the scenario as an input
            rows_K, positives_K = (n.sum(0, keepdim=True).expand(len(n)) for n in (rows_K, positives_K))
        super().start_from_base_rates(rows_K, positives_K)
