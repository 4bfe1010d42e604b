"""What a deployment chooses: the data set, where the project lies, how steps are started. Read from the environment.

One Airflow runs one data set (MSR_DATASET): its partitions are days, and a day of another would have the same key.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import yaml

DEFAULT_MODELS = ("shared_bottom",)
ALL_MODELS = "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """One data set on one Airflow.

    dataset: name of its YAML. start, end: first and last day (end None: it goes on). models: target models to train.
    leave_out_models: one of them that the data set cannot feed is left out, not an error.
    days_build_on_each_other: a day's training starts from the weights of the day before.
    """

    dataset: str
    start: date
    end: date | None
    models: tuple[str, ...]
    leave_out_models: bool
    days_build_on_each_other: bool

    @property
    def first_tick(self) -> datetime:
        """When the scheduler may begin: the first day's midnight, UTC."""
        return datetime(self.start.year, self.start.month, self.start.day, tzinfo=UTC)

    @property
    def last_tick(self) -> datetime | None:
        """When the scheduler stops: the run that loads the last day; None for a log that goes on."""
        if self.end is None:
            return None
        return datetime(self.end.year, self.end.month, self.end.day, tzinfo=UTC) + timedelta(days=1)


def project_dir() -> Path:
    """The folder that holds `jobs` and `schemas` (MSR_PROJECT_DIR, or the one above `dags`)."""
    return Path(os.environ.get("MSR_PROJECT_DIR") or Path(__file__).resolve().parents[2])


def step_python() -> str:
    """The interpreter that runs the steps (MSR_STEP_PYTHON, or this one)."""
    return os.environ.get("MSR_STEP_PYTHON") or sys.executable


def dataset_file(name: str) -> Path:
    """The YAML of a data set: a path, one of MSR_DATASETS_DIR, or one of the project's. Raises FileNotFoundError."""
    if name.endswith((".yaml", ".yml")):
        candidates = [Path(name)]
    else:
        own = os.environ.get("MSR_DATASETS_DIR")
        folders = ([Path(own)] if own else []) + [project_dir() / "schemas" / "datasets"]
        candidates = [folder / f"{name}.yaml" for folder in folders]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"MSR_DATASET={name!r}: no such data set ({', '.join(map(str, candidates))}); "
        "name one of schemas/datasets, or set MSR_DATASETS_DIR to a folder of your own"
    )


def registered_models() -> tuple[str, ...]:
    """Names that the files of `msr_models/models` register, read as text: the scheduler imports no torch.

    Raises FileNotFoundError where there are none.
    """
    folder = project_dir() / "msr_models" / "models"
    texts = (path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    names = sorted(name for text in texts for name in re.findall(r'^@register\("(\w+)"', text, flags=re.MULTILINE))
    if not names:
        raise FileNotFoundError(f"MSR_MODELS=all: no models in {folder}; set MSR_PROJECT_DIR, or name the models")
    return tuple(names)


def load_deployment() -> Deployment:
    """Read MSR_DATASET (default: generated) and the few values of its YAML that schedules need.

    The steps validate the whole YAML; here a missing key falls back to what the schema says. MSR_MODELS names
    other models, separated by commas, or `all`. Raises FileNotFoundError or ValueError, which Airflow shows as an
    import error.
    """
    name = os.environ.get("MSR_DATASET") or "generated"
    path = dataset_file(name)
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    days = raw.get("days") if isinstance(raw, dict) else None
    if not isinstance(days, dict) or not isinstance(days.get("start"), date):
        raise ValueError(f"{path}: days.start: {days!r} holds no date; write days: {{start: YYYY-MM-DD}}")
    chosen = tuple(m.strip() for m in os.environ.get("MSR_MODELS", "").split(",") if m.strip())
    is_all = ALL_MODELS in chosen
    if is_all:
        chosen = registered_models()
    training = raw.get("training") or {}
    return Deployment(
        dataset=name,
        start=days["start"],
        end=days.get("end"),
        models=chosen or tuple(m["name"] for m in training.get("models") or []) or DEFAULT_MODELS,
        leave_out_models=is_all,
        days_build_on_each_other=training.get("start") == "previous_day",
    )
