"""
### Table maintenance
Compacts small files and removes old versions (OPTIMIZE, VACUUM) of all tables of the data set, weekly at a quiet hour.

* Versions that a stored manifest or set refers to are kept, so that old runs can still be repeated.
* To run it by hand: *Trigger*; it may run in parallel with the other DAGs.
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
    description="Compacts and vacuums all tables, keeping every pinned version",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("30 5 * * 0", timezone="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args=task_defaults(),
    tags=[*TAGS, "maintenance", deployment.spec.name],
):
    StepOperator(
        task_id="maintain_tables",
        step="maintain_tables",
        dataset=deployment.dataset,
        ds="{{ dag_run.run_after.strftime('%Y-%m-%d') }}",
        execution_timeout=timedelta(hours=3),
        doc_md="Compacts small files, deletes unpinned old versions and logs each table's files and bytes.",
    )
