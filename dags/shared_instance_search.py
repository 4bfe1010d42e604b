"""
### Shared-instance search
Searches the days before `ds` for impressions that are also useful training examples in other scenarios (SSIM) and
stores the result as an immutable set: masks, selector and catalogue row.

* `daily_training` triggers it for a day whose search is missing: scheduled (every `search.every_days` days), or due
  because of drift. It also runs weekly, on the same schedule, or by hand: *Trigger*, with `ds` (empty: the day of
  the run).
* `window`: `scheduled` does all missing searches that training of `ds` relies on, and scores the days that decide
  whether there was drift; `exact` searches the days before `ds`.
* A search that was already done for the same days and settings is reused, not repeated.
"""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, CronTriggerTimetable, Param

from msr_dags import assets
from msr_dags.defaults import GPU_POOL, TAGS, day_param, task_defaults
from msr_dags.settings import load_deployment
from msr_dags.step_operator import RUN_DAY_OR_TODAY, StepOperator

deployment = load_deployment()

with DAG(
    dag_id="shared_instance_search",
    description="Searches for instances worth sharing across scenarios (SSIM)",
    doc_md=__doc__,
    schedule=CronTriggerTimetable("0 4 * * 1", timezone=deployment.spec.days.time_zone),
    end_date=deployment.last_tick,
    catchup=False,
    max_active_runs=1,
    default_args=task_defaults(),
    params={
        "ds": day_param("The days before it are searched; empty: the day of the run"),
        "window": Param("scheduled", enum=["scheduled", "exact"], title="Window", description="See the DAG's docs"),
    },
    user_defined_macros={"days_zone": ZoneInfo(deployment.spec.days.time_zone)},
    tags=[*TAGS, "search", deployment.spec.name],
):
    StepOperator(
        task_id="search_shared_instances",
        step="search_shared_instances",
        dataset=deployment.dataset,
        ds=RUN_DAY_OR_TODAY,
        extra_args=["--window", "{{ params.window }}"],
        pool=GPU_POOL,
        outlets=[assets.SHARED_INSTANCE_SETS, assets.SHARED_INSTANCE_MASKS, assets.SHARED_INSTANCE_DRIFT],
        execution_timeout=timedelta(hours=6),
        doc_md="Trains selector and backbone on the window; writes masks (score, ranks, gate) and one catalogue row.",
    )
