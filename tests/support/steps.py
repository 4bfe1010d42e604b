"""Run a step in this process, on days of a data set, with its typed options."""

from __future__ import annotations

from datetime import date
from types import ModuleType
from typing import Any

from jobs.cli import StepArgs, StepOptions
from schemas.dataset_spec import DatasetSpec


def run_step(step: ModuleType, dataset: DatasetSpec, *days: date, options: StepOptions | None = None) -> None:
    """The step of a command of jobs/ on `days`; its default options unless others are given."""
    step.step(StepArgs(dataset=dataset, days=list(days), options=options or _options_of(step)()))


def _options_of(step: ModuleType) -> type[StepOptions]:
    own = (v for v in vars(step).values() if isinstance(v, type) and v.__module__ == step.__name__)
    return next((v for v in own if issubclass(v, StepOptions)), StepOptions)


def train(dataset: DatasetSpec, *days: date, **options: Any) -> None:
    """jobs.train_target_model on the CPU."""
    from jobs import train_target_model

    run_step(train_target_model, dataset, *days, options=train_target_model.TrainOptions(**{"device": "cpu"} | options))


def search(dataset: DatasetSpec, *days: date, **options: Any) -> None:
    """jobs.search_shared_instances on the CPU."""
    from jobs import search_shared_instances as command

    run_step(command, dataset, *days, options=command.SearchOptions(**{"device": "cpu"} | options))


def score(dataset: DatasetSpec, *days: date, **options: Any) -> None:
    """jobs.score_shared_instances."""
    from jobs import score_shared_instances as command

    run_step(command, dataset, *days, options=command.ScoreOptions(**options))


def evaluate(dataset: DatasetSpec, *days: date, **options: Any) -> None:
    """jobs.evaluate."""
    from jobs import evaluate as command

    run_step(command, dataset, *days, options=command.EvaluateOptions(**options))
