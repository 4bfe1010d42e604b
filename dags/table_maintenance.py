"""
### Table maintenance
Compacts small files and removes old versions (OPTIMIZE, VACUUM) of all tables of the data set, weekly, when little else
runs.

* Versions that a kept manifest or set still pins stay, so an old run can still be repeated.
* By hand: *Trigger*; it may run beside the other DAGs.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable

from msr_dags.defaults import TAGS, task_defaults
from msr_dags.settings import load_deployment
from msr_dags.step_operator import StepOperator

deployment = load_deployment()

with DAG(
    dag_id="table_maintenance",
    description="OPTIMIZE and VACUUM that keep every pinned version",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("30 5 * * 0", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=task_defaults(),
    tags=[*TAGS, "maintenance", deployment.dataset],
):
    StepOperator(
        task_id="maintain_tables",
        step="maintain_tables",
        dataset=deployment.dataset,
        ds="{{ dag_run.run_after.strftime('%Y-%m-%d') }}",
        execution_timeout=timedelta(hours=3),
        doc_md="Small files together, versions without a pin away; prints files and bytes per table before and after.",
    )
