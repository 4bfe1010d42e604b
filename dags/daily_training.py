"""
### Daily training
Starts when a day's features are announced (asset `scenario_features`; the partition key is the day D) and trains every
target model on the days before D with the shared instances, tests on D, evaluates and reports.

* `needs_search` waits until no `daily_features` run is under way, then asks whether the search that D relies on is
  still to be done, by schedule or because a day drifted from the set (asset `shared_instance_drift`); if so,
  `shared_instance_search` runs first.
* A day whose window has not enough days yet is left out: each step says so and ends well.
* With `training.start: previous_day` a day starts from the weights of the day before, and makes days that were left
  out first. After past days were mended, train all days from the first mended one on again, in order.
* By hand: *Trigger*, with `ds`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, PartitionedAssetTimetable

from msr_dags import assets
from msr_dags.defaults import GPU_POOL, TAGS, day_param, task_defaults
from msr_dags.settings import load_deployment
from msr_dags.step_operator import RUN_DAY, StepBranchOperator, StepOperator

deployment = load_deployment()
skip_unfit = ["--leave-out"] if deployment.skip_unfit_models else []

with DAG(
    dag_id="daily_training",
    description="Target models on the days before D with the shared instances, tested on D, compared and reported",
    doc_md=__doc__,
    schedule=PartitionedAssetTimetable(assets=assets.SCENARIO_FEATURES),
    start_date=deployment.first_tick,
    catchup=False,
    # The pool limits what trains at once; where days build on each other, two at a time would train the earlier twice
    max_active_runs=1 if deployment.days_build_on_each_other else 2,
    default_args=task_defaults(),
    params={"ds": day_param("Only for runs by hand: the day D")},
    tags=[*TAGS, "training", deployment.dataset],
):
    needs_search = StepBranchOperator(
        task_id="needs_search",
        step="needs_search",
        dataset=deployment.dataset,
        after_dag="daily_features",
        answers={"yes": "search", "no": "score_shared_instances", "skip": None},
        execution_timeout=timedelta(minutes=10),
        doc_md="Is the search that D relies on still to be done? `skip`: D's training window is not full yet.",
    )
    search = TriggerDagRunOperator(
        task_id="search",
        trigger_dag_id="shared_instance_search",
        trigger_run_id="{{ dag_run.run_id }}__search",
        conf={"ds": RUN_DAY, "window": "scheduled"},
        # A try again runs the same search run again instead of one more
        reset_dag_run=True,
        logical_date=None,
        wait_for_completion=True,
        poke_interval=5,
        execution_timeout=timedelta(hours=8),
        doc_md="Runs `shared_instance_search` for D and waits for it.",
    )
    score = StepOperator(
        task_id="score_shared_instances",
        step="score_shared_instances",
        dataset=deployment.dataset,
        pool=GPU_POOL,
        outlets=[assets.SHARED_INSTANCE_MASKS, assets.SHARED_INSTANCE_DRIFT],
        trigger_rule="none_failed_min_one_success",
        execution_timeout=timedelta(hours=1),
        doc_md="Scores the days of D's window that the set in force has no masks for yet, or masks of features that "
        "were built again since, and compares each with the set's own window: a day that drifted is named in the "
        "log and makes a search due.",
    )
    train = StepOperator.partial(
        task_id="train_target_model",
        step="train_target_model",
        dataset=deployment.dataset,
        pool=GPU_POOL,
        outlets=[assets.TRAINING_RUNS],
        execution_timeout=timedelta(hours=6),
        map_index_template="{{ task.extra_args[-1] }}",
        doc_md="One task per target model: trains on the days before D for each share ratio, r chosen on validation.",
    ).expand(extra_args=[[*skip_unfit, "--model", model] for model in deployment.models])
    evaluate = StepOperator(
        task_id="evaluate",
        step="evaluate",
        dataset=deployment.dataset,
        outlets=[assets.EVALUATIONS],
        execution_timeout=timedelta(hours=1),
        doc_md="AUC, logloss, calibration and S-GAUC per scenario and overall, for each run of D.",
    )
    report = StepOperator(
        task_id="report",
        step="report",
        dataset=deployment.dataset,
        execution_timeout=timedelta(minutes=30),
        doc_md="`report/index.html`: what was measured up to D, to look at.",
    )
    needs_search >> [search, score]
    search >> score >> train >> evaluate >> report
