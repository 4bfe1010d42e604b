"""TrainerConfig: everything that decides what a training run computes, given its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from msr_models.training.optimiser import OptimiserConfig
from msr_models.training.schedule import ScheduleKind
from msr_models.training.step import Precision
from schemas.pipeline_spec import TrainingSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerConfig:
    """Fields and their bounds as in `training` of a data set (TrainingSpec); what takes values from a user checks them
    against these. patience: epochs in a row that may fail to improve validation; one more ends training.
    """

    batch_size: Annotated[int, Field(ge=2)]
    max_epochs: Annotated[int, Field(ge=1)]
    patience: Annotated[int, Field(ge=0)]
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    seed: int
    optimiser: Literal["adam", "adagrad"] = "adam"
    embedding_update: Literal["row_sparse", "dense"] = "row_sparse"
    precision: Precision = "auto"
    gradient_clip: Annotated[float, Field(gt=0)] | None = None
    schedule: ScheduleKind = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0

    @classmethod
    def from_spec(cls, spec: TrainingSpec) -> TrainerConfig:
        """The trainer's part of a data set's `training` block."""
        return cls(
            batch_size=spec.batch_size,
            max_epochs=spec.max_epochs,
            patience=spec.patience,
            learning_rate=spec.learning_rate,
            weight_decay=spec.weight_decay,
            seed=spec.seed,
            optimiser=spec.optimiser,
            embedding_update=spec.embedding_update,
            precision=spec.precision,
            gradient_clip=spec.gradient_clip,
            schedule=spec.schedule,
            warmup_steps=spec.warmup_steps,
        )

    def optimiser_config(self, learning_rate_scale: float = 1.0) -> OptimiserConfig:
        """The optimiser's part; the scale is the model's."""
        return OptimiserConfig(
            kind=self.optimiser,
            embedding_update=self.embedding_update,
            learning_rate=self.learning_rate * learning_rate_scale,
            weight_decay=self.weight_decay,
            gradient_clip=self.gradient_clip,
        )
