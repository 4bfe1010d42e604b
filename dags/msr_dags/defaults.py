"""Default arguments and parameters that the DAGs share."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param

from msr_dags.failures import log_failure

GPU_POOL = "gpu"
TAGS = ["msr"]


def task_defaults() -> dict[str, Any]:
    """default_args of every DAG: retries with growing delays, a time limit, an owner, failures logged."""
    return {
        "owner": "recommendation",
        "retries": 3,
        "retry_delay": timedelta(seconds=20),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=15),
        "execution_timeout": timedelta(hours=2),
        "on_failure_callback": log_failure,
    }


def day_param(description: str) -> Param:
    """The optional parameter `ds` (a date) of a manually triggered run."""
    return Param(None, type=["null", "string"], format="date", title="Day", description=description)
