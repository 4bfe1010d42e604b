"""Settings of a deployment, read from the environment: the data set, the models, and how steps are started.

One Airflow runs one data set (MSR_DATASET): partition keys are days, which two data sets would share.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from schemas.dataset_spec import DatasetSpec
from schemas.errors import DatasetSpecError
from schemas.load_dataset import load_dataset
from schemas.models import FLOOR, MODELS
from schemas.text import did_you_mean

ALL_MODELS = "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """One data set on one Airflow.

    dataset: name or absolute path of its YAML; spec: what the YAML says. models: target models to train, and the floor.
    skip_unfit_models: skip models whose required fields the data set lacks, instead of failing.
    """

    dataset: str
    spec: DatasetSpec
    models: tuple[str, ...]
    skip_unfit_models: bool

    @property
    def first_tick(self) -> datetime:
        """When the scheduler may start: midnight of the first day in days.time_zone."""
        return self.spec.days.midnight(self.spec.days.start)

    @property
    def last_tick(self) -> datetime | None:
        """When the scheduler stops: the run that loads the last day; None for an open-ended log."""
        end = self.spec.days.end
        return None if end is None else self.spec.days.midnight(end + timedelta(days=1))

    @property
    def days_build_on_each_other(self) -> bool:
        """Whether a day's training starts from the weights of the day before."""
        return self.spec.training.start == "previous_day"


def project_dir() -> Path:
    """The folder that holds `jobs` and `schemas` (MSR_PROJECT_DIR, or the parent of `dags`)."""
    return Path(os.environ.get("MSR_PROJECT_DIR") or Path(__file__).resolve().parents[2])


def step_python() -> str:
    """The interpreter that runs the steps (MSR_STEP_PYTHON, or this one)."""
    return os.environ.get("MSR_STEP_PYTHON") or sys.executable


def load_deployment() -> Deployment:
    """Read MSR_DATASET (default: generated) and MSR_MODELS: names separated by commas, or `all`; default: the YAML's.

    Raises DatasetSpecError, which Airflow shows as an import error.
    """
    dataset = os.environ.get("MSR_DATASET") or "generated"
    try:
        spec = load_dataset(dataset)
    except DatasetSpecError as error:
        # Without its chain of causes: the import error in the UI then ends in this one line
        raise error from None
    chosen = tuple(m.strip() for m in os.environ.get("MSR_MODELS", "").split(",") if m.strip())
    is_all = ALL_MODELS in chosen
    models = MODELS if is_all else chosen or tuple(choice.name for choice in spec.training.models)
    if spec.training.floor and FLOOR not in models:
        models = (*models, FLOOR)
    for name in models:
        if name not in MODELS:
            where = "MSR_MODELS" if chosen else f"{dataset}: training.models"
            hint = did_you_mean(name, MODELS)
            raise DatasetSpecError(
                f"{where}: model {name!r} is unknown; {hint and f'{hint} '}known: {', '.join(MODELS)}"
            )
    return Deployment(
        # Steps run in the project's folder, wherever the scheduler was started
        dataset=str(Path(dataset).absolute()) if dataset.endswith((".yaml", ".yml")) else dataset,
        spec=spec,
        models=models,
        skip_unfit_models=is_all,
    )
