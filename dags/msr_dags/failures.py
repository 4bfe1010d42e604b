"""Failed tasks are logged in one line: day, task and the step's last line of output."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def failure_line(context: Mapping[str, Any]) -> str:
    """`<dag> <task> <day> failed on attempt <n>: <reason>`, the reason on one line."""
    ti, dag_run = context["ti"], context["dag_run"]
    day = getattr(dag_run, "partition_key", None) or dag_run.run_id
    mapped = f"[{ti.map_index}]" if getattr(ti, "map_index", -1) >= 0 else ""
    reason = " ".join(str(context.get("exception") or "the task's process ended without output").split())
    return f"{ti.dag_id} {ti.task_id}{mapped} {day} failed on attempt {ti.try_number}: {reason}"


def log_failure(context: Mapping[str, Any]) -> None:
    """on_failure_callback: append the line to the log and MSR_FAILURES_LOG (default: AIRFLOW_HOME/failures.log)."""
    line = failure_line(context)
    log.error(line)
    home = os.environ.get("AIRFLOW_HOME") or os.path.expanduser("~/airflow")
    path = Path(os.environ.get("MSR_FAILURES_LOG") or Path(home) / "failures.log")
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}\n")
