"""One model per scenario: K copies of any backbone that share no parameters."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.layout import FieldLayout
from msr_models.models.base import MultiScenarioModel
from msr_models.models.config import Dropout, ModelConfig, Size, Widths
from msr_models.models.registry import build_model, register
from msr_models.modules.field_vectors import FieldVectors
from msr_models.modules.inputs import SequencePooling
from msr_models.modules.module_list import ModuleList
from msr_models.modules.routing import Routing
from schemas.errors import TrainingError


@dataclass(frozen=True, kw_only=True, slots=True)
class SingleTaskConfig(ModelConfig):
    """backbone: name of any model. The other options are the backbone's; None is its default. backbone_options: further
    ones as a JSON object, such as '{"num_experts": 8}'.
    """

    backbone: str = "base_dnn"
    embedding_dim: Size | None = None
    hidden: Widths | None = None
    dropout: Dropout | None = None
    sequence_pooling: SequencePooling | None = None
    backbone_options: str = "{}"


class ScenarioCopies(MultiScenarioModel):
    """K copies of a backbone with one scenario each, embeddings included; a visit runs the copy of its scenario.

    `embed` returns no columns: each copy embeds its own visits. Cost: a backbone may be any model, so that weights
    cannot be stacked; the loop over copies waits for the device and runs K small steps.
    """

    visits_are_independent: ClassVar[bool] = False  # those of some backbones are not

    def __init__(
        self, config: SingleTaskConfig, layout: FieldLayout, num_scenarios: int, generator: torch.Generator
    ) -> None:
        super().__init__(num_scenarios)
        options = _backbone_options(config)
        seeds: list[int] = torch.randint(2**62, (num_scenarios,), generator=generator).tolist()
        copies = [build_model(config.backbone, options, layout, 1, seed) for seed in seeds]
        if isinstance(copies[0], ScenarioCopies):
            raise TrainingError(
                f"option backbone: {config.backbone!r} is itself one model per scenario; name the model to copy"
            )
        self.copies = ModuleList(copies)
        self.learning_rate_scale = copies[0].learning_rate_scale

    @property
    def embedding(self) -> FieldVectors:
        """The table of the first copy; each copy has its own."""
        return self.copies[0].embedding

    @property
    def embeddings(self) -> tuple[FieldVectors, ...]:
        """Those of all copies: the first one alone knows the rows of one scenario only."""
        return tuple(copy.embedding for copy in self.copies)

    def plan_steps(self, num_steps: int) -> None:
        """Each copy takes part in every step."""
        for copy in self.copies:
            copy.plan_steps(num_steps)

    def require_towers_for_labels(self) -> None:
        raise TrainingError(
            "models 'single_task' and 'finetune' are one model per scenario and learn one label; take a model that "
            "scenarios share, or leave columns.further_labels of the data set out"
        )

    def embed(self, batch: Batch) -> Tensor:
        """[B, 0]."""
        return batch.label_B.new_zeros((len(batch), 0))

    def network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> Tensor:
        return self.penalised_network_logits(e_BE, batch, routing)[0]

    def penalised_network_logits(self, e_BE: Tensor, batch: Batch, routing: Routing) -> tuple[Tensor, Tensor | None]:
        """logits_V, and the mean of the copies' penalties, weighted by their visits."""
        parts: list[Tensor] = []
        penalty: Tensor | None = None
        start = 0
        for k, end in enumerate(routing.ends_K.tolist()):
            logits, own_penalty = score_with(self.copies[k], batch, routing, start, end)
            parts.append(logits)
            if own_penalty is not None:
                share = own_penalty * ((end - start) / max(1, routing.row_index_V.shape[0]))
                penalty = share if penalty is None else penalty + share
            start = end
        return torch.cat(parts), penalty


@register("single_task", SingleTaskConfig)
class SingleTask(ScenarioCopies):
    """logit_k = backbone_k(row), trained on the rows of scenario k alone.

    The copies' initial weights differ. (ST-Backbone of SSIM is another model: one network trained on all rows, as
    `base_dnn`, or `finetune` in its first phase.)

    >>> model = build_model("single_task", {"backbone": "dcn", "hidden": [64]}, layout, num_scenarios=3, seed=1)
    >>> logits_B = model(batch)
    """


def score_with(
    copy: MultiScenarioModel, batch: Batch, routing: Routing, start: int, end: int
) -> tuple[Tensor, Tensor | None]:
    """Logits [end - start] of visits start .. end - 1 in a model of one scenario, and its penalty."""
    row_V = routing.row_index_V[start:end]
    happened_VL = batch.hist_scenario_BL.index_select(0, row_V)  # the copy knows its own scenario alone, as 0
    part = Batch(
        slot_ids_BS=batch.slot_ids_BS.index_select(0, row_V),
        hist_ids_BLA=batch.hist_ids_BLA.index_select(0, row_V),
        hist_scenario_BL=torch.where(happened_VL == routing.scenario_V[start:end, None], 0, -1).to(happened_VL.dtype),
        scenario_B=torch.zeros_like(row_V),
        label_B=batch.label_B.index_select(0, row_V),
        shared_B=torch.zeros_like(row_V, dtype=torch.bool),
        dense_BZ=None if batch.dense_BZ is None else batch.dense_BZ.index_select(0, row_V),
    )
    visits = end - start
    own = Routing(
        row_index_V=torch.arange(visits, device=row_V.device),
        scenario_V=part.scenario_B,
        ends_K=torch.full((1,), visits, dtype=torch.int32, device=row_V.device),
        num_rows=visits,
        real_V=None if routing.real_V is None else routing.real_V[start:end],
    )
    return copy.penalised_logits(copy.embed(part), part, own)


def _backbone_options(config: SingleTaskConfig) -> dict[str, Any]:
    named = {
        "embedding_dim": config.embedding_dim,
        "hidden": config.hidden,
        "dropout": config.dropout,
        "sequence_pooling": config.sequence_pooling,
    }
    try:
        others = json.loads(config.backbone_options)
    except json.JSONDecodeError as error:
        raise _bad_options(config, f"not JSON ({error})") from error
    if not isinstance(others, dict):
        raise _bad_options(config, "no JSON object")
    return {name: value for name, value in named.items() if value is not None} | others


def _bad_options(config: SingleTaskConfig, why: str) -> TrainingError:
    example = json.dumps({"num_experts": 8})
    return TrainingError(f"option backbone_options: {config.backbone_options!r} is {why}; write it like {example!r}")
