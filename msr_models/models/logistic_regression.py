"""Logistic regression on the same fields: a weight per id, a bias per scenario. The floor that models must clear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import register
from msr_models.modules.inputs import InputLayer
from msr_models.modules.routing import Routing


@dataclass(frozen=True, kw_only=True, slots=True)
class LogisticRegressionConfig:
    """sequence_pooling: whether the mean weight of past items is one more term; there is no `din`: an item has one
    weight here, no vector that target attention could compare, and with it the model were not linear.
    learning_rate_scale: a weight must
    travel the whole way to its id's log odds, where an MLP has many to share it: with 1 it would stay half trained.
    """

    sequence_pooling: Literal["mean", "none"] = "mean"
    learning_rate_scale: Annotated[float, Field(gt=0)] = 10.0


@register("logistic_regression", LogisticRegressionConfig)
class LogisticRegression(MultiScenarioModel):
    """logit = Σ_f w[id_f] (+ mean over behaviours of w[item]) + bias_k; p = σ(logit) (McMahan et al. 2013, section 2).

    w: one weight per id of every field, [rows of the table, 1], the same for all scenarios (a field of several values
    counts with their mean); bias_k: of the row's scenario k, [K]. All start at zero. Beside the bias nothing differs
    between scenarios, so there are no towers: it is no source of shared rows, and sharing them means nothing here.
    `embed` gives the terms of the sum, e_BE with a column per field (and one for the behaviours).

    >>> model = build_model("logistic_regression", {"sequence_pooling": "none"}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """

    has_towers: ClassVar[bool] = False

    def __init__(
        self, config: LogisticRegressionConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(num_scenarios)
        self.config = config
        self.learning_rate_scale = config.learning_rate_scale
        self.inputs = InputLayer(layout, 1, config.sequence_pooling, generator)
        nn.init.zeros_(self.embedding.weight)
        self.bias_K = nn.Parameter(torch.zeros(num_scenarios))

    def embed(self, batch: Batch) -> Tensor:
        """The terms of the sum, e_BE with one column per field."""
        return self.inputs.concatenated(batch)

    def routed_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        """logits_V."""
        return e_BE.float().sum(1)[routing.row_index_V] + self.bias_K.index_select(0, routing.scenario_V)
