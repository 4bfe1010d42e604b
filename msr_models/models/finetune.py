"""Finetune: one backbone learns from all rows, then a copy for each scenario goes on with that scenario's rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.registry import register
from msr_models.models.single_task import ScenarioCopies, SingleTaskConfig, score_with
from msr_models.modules.routing import Routing


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneConfig(SingleTaskConfig):
    """pretraining_epochs: of the epochs that the trainer is given, the first ones, on the rows of all scenarios."""

    pretraining_epochs: Annotated[int, Field(ge=1)] = 1


@register("finetune", FinetuneConfig)
class Finetune(ScenarioCopies):
    """SSIM's baseline: backbone(row) for all scenarios at first, backbone_k(row) from `end_pretraining` on.

    While it pretrains, the first copy serves all scenarios and the others wait. The trainer neither stops early in
    these epochs nor keeps one of them. A search for shared rows with it as backbone pretrains in the first epochs of
    its warm-up and needs at least one more, or all towers would be one. A model that starts from the run of the day
    before has its copies already: they go on, and there is no pretraining. Cost: as for ScenarioCopies.

    >>> model = build_model("finetune", {"backbone": "dcn", "hidden": [64]}, layout, num_scenarios=3, seed=1)
    >>> result = train(model, rows, validation, TrainerConfig(max_epochs=4))
    """

    is_pretrained: Tensor

    def __init__(
        self, config: FinetuneConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(config, layout, num_scenarios, generator)
        self.config = config
        self.register_buffer("is_pretrained", torch.tensor(False))

    @property
    def pretraining_epochs(self) -> int:
        """See MultiScenarioModel."""
        return 0 if self.is_pretrained else self.config.pretraining_epochs

    def end_pretraining(self) -> None:
        """Every scenario's copy starts from the one that all rows have trained."""
        trained = self.copies[0].state_dict()
        for copy in self.copies:
            copy.load_state_dict(trained)
        self.is_pretrained.fill_(True)

    def penalised_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> tuple[Tensor, Tensor | None]:
        """logits_V, and the copies' penalties."""
        if self.is_pretrained:
            return super().penalised_logits(e_BE, batch, routing)
        rows = Routing.everywhere(len(batch), 1, routing.row_index_V.device)
        logits_B, penalty = score_with(self._copy(0), batch, rows, 0, len(batch))
        return logits_B.index_select(0, routing.row_index_V), penalty
