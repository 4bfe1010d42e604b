"""Trains an experiment's models: with towers, as one network, per scenario, or fine-tuned per scenario."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msr_models.data.window import Window
from msr_models.evaluation.blocks import Floats
from msr_models.evaluation.metrics import mean_scenario_auc
from msr_models.experiments.pooled import Pooled
from msr_models.experiments.split import Split, all_rows, one_scenario, select_rows
from msr_models.models.base import MultiScenarioModel
from msr_models.models.registry import build_model
from msr_models.training.prediction import predict, validate
from msr_models.training.state import Resume
from msr_models.training.trainer import TrainResult, train
from schemas.errors import TrainingError
from schemas.pipeline_spec import TrainerConfig

Mode = Literal["towers", "pooled", "per_scenario", "finetune"]
Weights = Mapping[str, NDArray[Any]]
ResumeOf = Callable[[str], Resume]


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One training.

    mode: `towers`: MT-Backbone, sharing the training rows of shared_N; `pooled`: one network for all rows
    (ST-Backbone); `per_scenario`: K networks, each on its own rows; `finetune`: continues from the pooled network's
    weights `start` per scenario.
    """

    model: str
    options: Mapping[str, Any]
    mode: Mode
    trainer: TrainerConfig
    shared_N: Tensor | None = None
    start: Weights | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """A finished training.

    test_probs: predictions of the test rows; epochs: per network, the epoch whose weights are kept; seconds: training
    and validation; rows_passed: training rows times epochs run; weights: of a pooled network only.
    """

    test_probs: Floats
    validation_auc: float | None
    parameters: int
    epochs: list[int]
    seconds: float
    rows_passed: int
    weights: Weights


def fit(split: Split, task: Task, resume_of: ResumeOf, device: str) -> Fitted:
    """Train a task's networks and predict the test rows; an interrupted training resumes from its saved state.

    Raises TrainingError if a scenario has no rows for its own network.
    """
    if task.mode in ("per_scenario", "finetune"):
        return _fit_scenarios(split, task, resume_of, device)
    pooled = task.mode == "pooled"
    network = _build(split, task, 1 if pooled else split.num_scenarios)
    model = (Pooled(network, split.num_scenarios) if pooled else network).to(device)
    shared_N = torch.zeros_like(split.train.shared_N) if task.shared_N is None else task.shared_N
    window = replace(split.train, shared_N=shared_N)
    result, seen = _train(model, window, split.validation, task.trainer, resume_of("all"))
    return Fitted(
        test_probs=predict(model, split.test, all_rows(split.test).rows),
        validation_auc=result.validation_auc,
        parameters=_size(model),
        epochs=[result.epochs],
        seconds=result.train_seconds,
        rows_passed=seen,
        weights={n: v.cpu().numpy() for n, v in network.state_dict().items()} if pooled else {},
    )


def _fit_scenarios(split: Split, task: Task, resume_of: ResumeOf, device: str) -> Fitted:
    """One network per scenario, trained and early-stopped on its own rows."""
    test_probs, validation_probs = (np.full(len(w), np.nan) for w in (split.test, split.validation))
    parameters, seconds, seen, epochs = 0, 0.0, 0, []
    for k, name in enumerate(split.scenario_names):
        train_window, validation, test = (_own_rows(w, k, name) for w in (split.train, split.validation, split.test))
        if not len(train_window) or not len(validation):
            raise TrainingError(
                f"scenario {name!r} of {split.name} has no training or no validation rows; use more rows"
            )
        model = _build(split, task, 1).to(device)
        before = None
        if task.start is not None:
            model.load_state_dict({n: torch.as_tensor(v) for n, v in task.start.items()})
            before = validate(model, validation, all_rows(validation).rows, task.trainer.calibration)
        result, passed = _train(model, train_window, validation, task.trainer, resume_of(name))
        after, criterion = result.validation, task.trainer.select_on
        if before is not None and task.start is not None and before.score(criterion) >= after.score(criterion):
            # Fine-tuning did not improve it: the weights that it started from count as epoch 0
            model.load_state_dict({n: torch.as_tensor(v) for n, v in task.start.items()})
            result = replace(result, epochs=0)
        for probs, window, whole in ((test_probs, test, split.test), (validation_probs, validation, split.validation)):
            here = (whole.scenario_N == k).cpu().numpy()
            probs[here] = predict(model, window, all_rows(window).rows) if len(window) else 0.0
        parameters, seconds, seen = parameters + _size(model), seconds + result.train_seconds, seen + passed
        epochs.append(result.epochs)
    labels, scenarios = split.validation.label_N.cpu().numpy(), split.validation.scenario_N.cpu().numpy()
    return Fitted(
        test_probs=test_probs,
        validation_auc=mean_scenario_auc(
            validation_probs, labels, scenarios, split.num_scenarios, split.validation.weights_of()
        ),
        parameters=parameters,
        epochs=epochs,
        seconds=seconds,
        rows_passed=seen,
        weights={},
    )


def _train(
    model: MultiScenarioModel, window: Window, validation: Window, trainer: TrainerConfig, resume: Resume
) -> tuple[TrainResult, int]:
    """(result, training rows times epochs run). Removes the saved state."""
    result = train(model, all_rows(window), all_rows(validation), trainer, resume=resume)
    resume.remove()
    epochs_run = min(trainer.max_epochs, result.epochs + trainer.patience + 1)
    return result, epochs_run * len(window)


def _build(split: Split, task: Task, num_scenarios: int) -> MultiScenarioModel:
    return build_model(task.model, task.options, split.train.layout, num_scenarios, task.trainer.seed)


def _own_rows(window: Window, scenario: int, name: str) -> Window:
    rows = (window.scenario_N == scenario).nonzero().squeeze(1)
    return one_scenario(select_rows(window, rows), scenario, name)


def _size(model: MultiScenarioModel) -> int:
    return sum(p.numel() for p in model.parameters())
