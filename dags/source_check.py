"""
### Source check
Compares the log's files with what they were when their days were ingested, every night: a file that was delivered again
is noticed. Days that changed are listed; with the parameter `reingest` they are ingested again, and the behaviour
sequences and features that were made of them are built again.
"""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, CronTriggerTimetable, Param

from msr_dags.defaults import TAGS, task_defaults
from msr_dags.settings import load_deployment
from msr_dags.step_operator import StepOperator

deployment = load_deployment()

with DAG(
    dag_id="source_check",
    description="Lists days whose log files changed after they were ingested; ingests them again on request",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("0 3 * * *", timezone=deployment.spec.days.time_zone),
    end_date=deployment.last_tick,
    catchup=False,
    max_active_runs=1,
    default_args=task_defaults(),
    params={"reingest": Param(False, type="boolean", title="Ingest again", description="Make changed days anew")},
    user_defined_macros={"days_zone": ZoneInfo(deployment.spec.days.time_zone)},
    tags=[*TAGS, "maintenance", deployment.spec.name],
):
    StepOperator(
        task_id="check_sources",
        step="check_sources",
        dataset=deployment.dataset,
        ds="",
        needs_day=False,
        extra_args=["{{ '--reingest' if params.reingest else '--quiet' }}"],
        execution_timeout=timedelta(hours=6),
        doc_md="Lists changed days and stale tables; with `reingest` makes them anew.",
    )
