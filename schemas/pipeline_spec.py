"""Typed settings of search and training: blocks of a data set's YAML."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, field_validator, model_validator

from schemas.models import FLOOR
from schemas.settings import validated
from schemas.spec import Spec

Rate = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Hidden = Annotated[tuple[int, ...], Field(min_length=1)]
GateEstimator = Literal["straight_through", "relu"]
TrunkKind = Literal["dense", "field_wise"]
KlForm = Literal["bernoulli", "linear"]
TowerReduction = Literal["mean", "sum"]
RankScope = Literal["global", "scenario"]
OptimiserKind = Literal["adam", "adagrad"]
EmbeddingUpdate = Literal["row_sparse", "dense"]
Precision = Literal["auto", "fp32", "bf16"]
ScheduleKind = Literal["constant", "linear", "cosine"]
Start = Literal["scratch", "previous_day"]
Loading = Literal["auto", "resident", "streamed"]
Criterion = Literal["logloss", "auc"]
LossBalance = Literal["rows", "scenarios"]
CalibrationMethod = Literal["none", "temperature", "platt", "isotonic"]

COLLAPSE_SHARE = 1e-3


def _option_value(value: Any) -> Any:
    """The value unchanged: only the model's own config knows whether 1 is a number or a truth value."""
    if value is None or _is_plain(value):
        return value
    if isinstance(value, list | tuple):
        numbers = [isinstance(part, int | float) and not isinstance(part, bool) for part in value]
        if all(map(_is_plain, value)) and (all(numbers) or all(isinstance(part, str) for part in value)):
            return list(value)
    raise ValueError(
        f"{value!r} is not an option: give a number, true or false, a string, null, or a list of numbers or strings"
    )


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


# One validator: a union of types would report a wrong value once per type, and might turn 1 into 1.0.
OptionValue = Annotated[Any, PlainValidator(_option_value)]


class SearchSpec(Spec):
    """Search for shared instances (SSIM eq. 7-15). Defaults: the best measured, see docs/decisions.md."""

    window_days: int = Field(default=5, ge=1, description="days before ds that are searched")
    every_days: int = Field(default=7, ge=1, description="days between two scheduled searches")
    backbone: str = "shared_bottom"
    backbone_options: dict[str, OptionValue] = Field(
        default_factory=dict, description="further options of the backbone, checked by its own config"
    )
    objective: Literal["reference", "joint"] = "reference"
    gate_estimator: GateEstimator = "straight_through"
    kl_form: KlForm = "bernoulli"
    kl_weight: float = Field(default=0.5, ge=0, description="lambda of eq. 15")
    tower_reduction: TowerReduction = Field(default="mean", description="over the towers; mean: 1/K of eq. 13")
    tower_sample: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="towers sampled per row, so that the cost does not grow with K; joint: besides the row's own, in "
        "every step; reference: besides any one, once; null: all towers",
    )
    temperature: tuple[Positive, Positive] = Field(
        default=(1.0, 1.0), description="p = sigmoid(temperature * logit): first and last step, geometric between"
    )
    threshold_init: Rate = 0.5
    threshold_bounds: tuple[Rate, Rate] = Field(default=(0.05, 0.95), description="of epsilon; equal bounds fix it")
    target_share_rate: Rate | None = Field(default=0.3, description="lambda is adapted towards it; null: fixed lambda")
    collapse_share: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        default=COLLAPSE_SHARE,
        # Excluded from dumps at its default, so that it does not change a set's id.
        exclude_if=lambda value: value == COLLAPSE_SHARE,
        description="a search that shares at most this part of the rows, or all but at most this part, is rejected",
    )
    warmup_epochs: int = Field(default=3, ge=0, description="epochs with g = 0 before the gate learns")
    epochs: int = Field(default=2, ge=1, description="epochs in which the gate learns")
    batch_size: int = Field(default=1024, ge=2)
    learning_rate: Positive = 2e-3
    selector_learning_rate: Positive = 1e-3
    weight_decay: float = Field(default=1e-6, ge=0)
    embedding_dim: int = Field(default=32, ge=1)
    hidden: Hidden = (128, 64)
    selector_hidden: Hidden = (32,)
    trunk: TrunkKind | None = Field(
        default=None,
        # Excluded from dumps at its default, so that it does not change a set's id.
        exclude_if=lambda value: value is None,
        description="the selector's hidden layers: dense (eq. 8) or field_wise, an MLP per field; null: field_wise for "
        "objective reference, dense for joint",
    )
    scenario_heads: bool = Field(default=True, description="eq. 8 and 9: a head of the selector per scenario, or one")
    seed: Seed = 1
    # Excluded from dumps: they decide when a search is due, not what it does, and must not change a set's id.
    drift_psi_limit: float = Field(default=0.25, ge=0, exclude=True, description="score shift that flags a day")
    drift_share_limit: Rate = Field(default=0.15, exclude=True, description="change of share rate that flags a day")

    @property
    def selector_trunk(self) -> TrunkKind:
        """`trunk`, or the objective's own where none is given."""
        return self.trunk or ("field_wise" if self.objective == "reference" else "dense")

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> SearchSpec:
        if self.objective == "reference":
            for name in ("tower_reduction", "temperature"):
                value = getattr(self, name)
                if value != type(self).model_fields[name].default:
                    raise ValueError(f"{name} {value!r} has no effect on objective 'reference'; leave it out")
            if self.warmup_epochs == 0:
                raise ValueError("objective 'reference' needs towers that are warmed up: set warmup_epochs >= 1")
        return self

    @model_validator(mode="after")
    def _values_fit_together(self) -> SearchSpec:
        low, high = self.threshold_bounds
        if not low <= self.threshold_init <= high:
            bounds = f"threshold_bounds {[low, high]}"
            raise ValueError(f"threshold_init {self.threshold_init} does not lie inside {bounds}: change either")
        twice = {"embedding_dim", "hidden"} & self.backbone_options.keys()
        if twice:
            raise ValueError(f"backbone_options may not set {', '.join(sorted(twice))}: use search's own setting")
        return self


class ModelChoice(Spec):
    """A target model to train daily: its registered name and its options (checked by the model's own config).

    trainer: settings of the block `training` that differ for this model (any of TrainerConfig but the seed).
    """

    name: str
    options: dict[str, OptionValue] = Field(default_factory=dict)
    trainer: dict[str, Any] = Field(default_factory=dict)


class LabelsSpec(Spec):
    """How labels beside the main one are trained (columns.further_labels)."""

    weights: dict[str, Positive] = Field(
        default={}, description="of a further label's loss beside the main label's; 1 where none is given"
    )
    esmm: bool = Field(
        default=False,
        description="P(further) = P(main) P(further | main), both trained on all impressions (Ma et al. 2018)",
    )


class TrainerConfig(Spec):
    """Settings that determine the trained weights and their calibration, given the rows."""

    batch_size: int = Field(default=1024, ge=2)
    max_epochs: int = Field(default=4, ge=1)
    patience: int = Field(
        default=1, ge=0, description="consecutive epochs that may fail to improve validation; one more ends training"
    )
    learning_rate: Positive = 1e-3
    weight_decay: float = Field(default=0.01, ge=0, description="decoupled (AdamW), per unit of learning rate")
    seed: Seed = 1
    optimiser: OptimiserKind = "adam"
    embedding_update: EmbeddingUpdate = Field(
        default="row_sparse",
        description="row_sparse: only the batch's rows are updated, with weight decay on those alone",
    )
    precision: Precision = Field(
        default="auto", description="of matrix products; weights, logits and loss are fp32; auto: bf16 on a GPU"
    )
    gradient_clip: Positive | None = Field(default=None, description="largest total norm; null: not clipped")
    weight_average: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=0.98,
        description="decay, per step, of the moving average of the weights that is validated, kept and served; null: "
        "the last step's weights",
    )
    schedule: ScheduleKind = Field(
        default="constant", description="of the learning rate after warmup_steps, down to 0 at the last step"
    )
    warmup_steps: int = Field(default=0, ge=0, description="steps in which the learning rate rises from 0")
    loss_balance: LossBalance = Field(
        default="rows",
        description="a step's loss is the mean over its rows, or over its scenarios of the mean over their rows",
    )
    tower_reduction: TowerReduction = Field(
        default="mean",
        description="of a shared row's losses in all towers; mean: 1/K, the row weighs what others do; sum: eq. 5",
    )
    select_on: Criterion = Field(
        default="logloss",
        description="what validation chooses the best epoch and r by: logloss of all rows after calibration, or mean "
        "AUC over scenarios",
    )
    calibration: CalibrationMethod = Field(
        default="platt",
        description="map from the model's to the served probability, per scenario, fitted on validation",
    )
    labels: LabelsSpec = Field(
        default=LabelsSpec(),
        # Excluded from dumps at its default, so that it does not change the id of a run with one label.
        exclude_if=lambda value: value == LabelsSpec(),
        description="labels beside the main one",
    )


class TrainingSpec(TrainerConfig):
    """Daily training of target models on the days before D."""

    window_days: int = Field(default=5, ge=2, description="days before D; the last ones validate")
    validation_days: int = Field(default=1, ge=1)
    models: tuple[ModelChoice, ...] = (ModelChoice(name="shared_bottom", options={"wide": True}),)
    ratios: tuple[Rate, ...] = Field(default=(0.0, 0.1, 0.3, 0.5, 1.0), min_length=1, description="grid of eq. 16")
    rank_scope: RankScope = Field(default="global", description="the stored rank that the ratio is applied to")
    start: Start = Field(
        default="scratch", description="first weights: fresh ones, or those of the run of the trainable day before D"
    )
    new_scenario_start: str | None = Field(
        default=None, description="previous_day: scenario whose weights an appended one starts from; null: the mean"
    )
    checkpoint_steps: int = Field(
        default=0, ge=0, description="steps between two states to resume from; 0: at the end of each epoch only"
    )
    loading: Loading = Field(
        default="auto", description="window in memory or read in blocks; auto: in memory where it fits"
    )
    memory_gb: Positive | None = Field(default=None, description="memory the window may take; null: what is free")
    floor: bool = Field(
        default=True, description=f"train {FLOOR} beside the models, which every gain is also measured against"
    )

    @property
    def trained_models(self) -> tuple[ModelChoice, ...]:
        """`models`, and the floor behind them where it is asked for and not among them."""
        listed = {choice.name for choice in self.models}
        return self.models if not self.floor or FLOOR in listed else (*self.models, ModelChoice(name=FLOOR))

    @property
    def trainer(self) -> TrainerConfig:
        """The trainer's part of the block."""
        return TrainerConfig(**{name: getattr(self, name) for name in TrainerConfig.model_fields})

    def trainer_of(self, choice: ModelChoice) -> TrainerConfig:
        """The block's trainer settings with the model's own. Raises ValueError that names model, setting and value."""
        try:
            if "seed" in choice.trainer:
                raise ValueError("option seed: all models of a day have the same rows in the same order; set it once")
            return validated(TrainerConfig, {**self.trainer.model_dump(), **choice.trainer})
        except ValueError as error:
            raise ValueError(f"models: trainer of {choice.name!r}: {error}") from error

    @model_validator(mode="after")
    def _models_have_possible_trainers(self) -> TrainingSpec:
        for choice in self.models:
            self.trainer_of(choice)
        return self

    @field_validator("models")
    @classmethod
    def _names_a_model(cls, models: tuple[ModelChoice, ...]) -> tuple[ModelChoice, ...]:
        # min_length would also report a model with an invalid option as missing.
        if not models:
            raise ValueError("names no model; give at least 1")
        return models

    @model_validator(mode="after")
    def _leaves_days_to_train_on(self) -> TrainingSpec:
        if self.validation_days >= self.window_days:
            raise ValueError(f"validation_days {self.validation_days} leave none of {self.window_days} window_days")
        return self
