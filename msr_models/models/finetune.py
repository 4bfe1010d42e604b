"""Finetune: one backbone is trained on all rows, then a copy per scenario on that scenario's rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.config import Size
from msr_models.models.registry import register
from msr_models.models.single_task import ScenarioCopies, SingleTaskConfig, score_with
from msr_models.modules.routing import Routing


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneConfig(SingleTaskConfig):
    """pretraining_epochs: how many of the trainer's epochs, the first ones, use the rows of all scenarios."""

    pretraining_epochs: Size = 1


@register("finetune", FinetuneConfig)
class Finetune(ScenarioCopies):
    """Baseline of SSIM: logit = backbone(row) while pretraining, backbone_k(row) after `end_pretraining`.

    In pretraining the first copy serves all scenarios; the trainer neither stops early in these epochs nor keeps one. A
    search with this backbone pretrains in the first epochs of its warm-up and needs at least one more, or all towers
    would be equal. A model that starts from the previous day's run has its copies already and does not pretrain again.
    Cost: as for ScenarioCopies.

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
        return 0 if self.is_pretrained else self.config.pretraining_epochs

    def end_pretraining(self) -> None:
        """Every copy takes the weights that all rows have trained."""
        trained = self.copies[0].state_dict()
        for copy in self.copies:
            copy.load_state_dict(trained)
        self.is_pretrained.fill_(True)

    def penalised_network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> tuple[Tensor, Tensor | None]:
        if self.is_pretrained:
            return super().penalised_network_logits(e_BE, batch, routing)
        rows = Routing.everywhere(len(batch), 1, routing.row_index_V.device)
        logits_B, penalty = score_with(self.copies[0], batch.in_one_scenario(), rows, 0, len(batch))
        return logits_B.index_select(0, routing.row_index_V), penalty
