"""
### Daily features
Turns one day of the impression log into audited Delta tables: ingest, vocabulary, behaviours, features, audit.

* The partition key is the day (`YYYY-MM-DD`); the run at midnight in `days.time_zone` processes the day that
  has just ended.
* Rerunning a day writes the same rows. Days may run in any order and in parallel.
* For a range: `airflow backfill create --dag-id daily_features --from-date A --to-date B` (add
  `--reprocess-behavior completed` to rebuild days that are done). Training follows automatically.
* Exit codes 2 (wrong input) and 3 (an audit stopped the day) fail at once; anything else is retried with growing
  delays.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Asset, CronPartitionTimetable

from msr_dags import assets
from msr_dags.defaults import TAGS, task_defaults
from msr_dags.settings import load_deployment
from msr_dags.step_operator import StepOperator

deployment = load_deployment()

with DAG(
    dag_id="daily_features",
    description="Turns a day's impression log into audited, versioned feature tables",
    doc_md=__doc__,
    schedule=CronPartitionTimetable(
        "0 0 * * *", timezone=deployment.spec.days.time_zone, run_offset=-1, key_format="%Y-%m-%d"
    ),
    start_date=deployment.first_tick,
    end_date=deployment.last_tick,
    catchup=False,
    max_active_runs=8,
    default_args=task_defaults(),
    tags=[*TAGS, "features", deployment.dataset],
):

    def spark_step(step: str, outlets: list[Asset], minutes: int, doc: str) -> StepOperator:
        """One Spark step of the day and the tables it publishes."""
        return StepOperator(
            task_id=step,
            step=step,
            dataset=deployment.dataset,
            outlets=outlets,
            execution_timeout=timedelta(minutes=minutes),
            doc_md=doc,
        )

    ingest = spark_step(
        "ingest_impressions",
        [assets.IMPRESSIONS, assets.QUARANTINE],
        60,
        "Reads the raw log into canonical impressions. Rows that break the contract go to `quarantine` with a reason; "
        "the audit decides whether the day is published.",
    )
    vocabularies = spark_step(
        "build_vocabularies",
        [assets.VOCABULARIES],
        60,
        "Fits the vocabulary that this day uses (value -> id per field) on earlier days only.",
    )
    sequences = spark_step(
        "build_behaviour_sequences",
        [assets.BEHAVIOUR_SEQUENCES],
        120,
        "Stores each user's behaviours within the lookback, oldest first, once per user and day.",
    )
    features = spark_step(
        "build_scenario_features",
        [],
        120,
        "Encodes fields, adds statistics per scenario of earlier days, and points each impression into the behaviours.",
    )
    audit = spark_step(
        "audit_tables",
        [assets.SCENARIO_FEATURES, assets.AUDITS],
        60,
        "Checks across tables: every published impression has features and pointers are in range. Only then is the "
        "asset `scenario_features` updated, which starts training.",
    )
    ingest >> vocabularies >> sequences >> features >> audit
