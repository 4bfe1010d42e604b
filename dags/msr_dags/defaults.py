"""Settings that all tasks share."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param

from msr_dags.failures import tell_failure

GPU_POOL = "gpu"
TAGS = ["msr"]


def task_defaults() -> dict[str, Any]:
    """default_args of every DAG: tries with growing pauses, a time limit, an owner, a word when a task has failed."""
    return {
        "owner": "recommendation",
        "retries": 3,
        "retry_delay": timedelta(seconds=20),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=15),
        "execution_timeout": timedelta(hours=2),
        "on_failure_callback": tell_failure,
    }


def day_param(description: str) -> Param:
    """The parameter `ds` of a run that a person starts: a date, or nothing."""
    return Param(None, type=["null", "string"], format="date", title="Day", description=description)
