"""Logistic regression on the same fields, with a weight per id and a bias per scenario: the baseline of all models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.config import ModelConfig, Positive
from msr_models.models.registry import register
from msr_models.modules.inputs import InputLayer
from msr_models.modules.routing import Routing


@dataclass(frozen=True, kw_only=True, slots=True)
class LogisticRegressionConfig(ModelConfig):
    """sequence_pooling: whether the mean of the behaviours' weights (item and attributes) is one more term. There is no
    `din`: target attention compares vectors, and an item has a single weight here.
    learning_rate_scale: of steps over streamed rows: a weight has to reach its id's log odds by itself; with 1 training
    would end before it does.
    """

    sequence_pooling: Literal["mean", "none"] = "mean"
    learning_rate_scale: Positive = 10.0


@register("logistic_regression", LogisticRegressionConfig)
class LogisticRegression(MultiScenarioModel):
    """logit = Σ_f w[id_f] (+ mean over behaviours of w[item]) + bias_k; p = σ(logit) (McMahan et al. 2013, section 2).

    w: one weight per id of every field, [rows of the table, 1], common to all scenarios (a multi-valued field counts
    with the mean of its ids), and one per dense value, which it is multiplied with; bias_K: one per scenario. All start
    at zero. No towers: scenarios differ in their bias only, and it learns the main label alone. `embed` returns the
    terms of the sum, one column per field (and one per dense value, one for the behaviours). Rows in memory are fitted
    at once to the optimum (training/regression.py), streamed ones by the trainer's steps.

    >>> model = build_model("logistic_regression", {"sequence_pooling": "none"}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    has_towers: ClassVar[bool] = False
    predicts_main_label_only: ClassVar[bool] = True  # its weights are common to all towers

    def __init__(
        self, config: LogisticRegressionConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(num_scenarios)
        self.learning_rate_scale = config.learning_rate_scale
        self.inputs = InputLayer(layout, 1, config.sequence_pooling, generator)
        self.inputs.table.adopt(torch.zeros_like(self.inputs.table.rows_of_terms()))
        self.bias_K = nn.Parameter(torch.zeros(num_scenarios))

    def embed(self, batch: Batch) -> Tensor:
        return self.inputs.concatenated(batch)

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        return e_BE.float().sum(1)[routing.row_index_V] + self.bias_K.index_select(0, routing.scenario_V)

    @torch.no_grad()
    def adopt(self, weight_R: Tensor, bias_K: Tensor) -> None:
        """Take over fitted weights; the biases add up."""
        self.inputs.table.adopt(weight_R[:, None])
        self.bias_K.add_(bias_K.to(self.bias_K.device))
