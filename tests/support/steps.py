"""Run a step in this process, on days of a data set, with its typed options."""

from __future__ import annotations

import runpy
import sys
import warnings
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jobs.cli import StepArgs, StepOptions
from schemas.dataset_spec import DatasetSpec


def run_step(step: ModuleType, dataset: DatasetSpec, *days: date, options: StepOptions | None = None) -> None:
    """The step of a command of jobs/ on `days`; its default options unless others are given."""
    step.step(StepArgs(dataset=dataset, days=list(days), options=options or _options_of(step)()))


def _options_of(step: ModuleType) -> type[StepOptions]:
    own = (v for v in vars(step).values() if isinstance(v, type) and v.__module__ == step.__name__)
    return next((v for v in own if issubclass(v, StepOptions)), StepOptions)


def command_line(command: ModuleType, words: Sequence[str | Path], monkeypatch: pytest.MonkeyPatch) -> int:
    """`python -m <command> <words>` in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", [command.__name__, *map(str, words)])
    with pytest.raises(SystemExit) as ended, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*found in sys.modules", category=RuntimeWarning)
        runpy.run_module(command.__name__, run_name="__main__", alter_sys=True)
    return int(ended.value.code or 0)


def train(dataset: DatasetSpec, *days: date, **options: Any) -> None:
    """jobs.train_target_model on the CPU."""
    from jobs import train_target_model

    device = {} if "manifest" in options else {"device": "cpu"}
    run_step(train_target_model, dataset, *days, options=train_target_model.TrainOptions(**device | options))


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
