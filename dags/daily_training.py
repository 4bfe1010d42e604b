"""
### Daily training
Runs for each day D whose features have been published (asset `scenario_features`; the partition key is D): trains
every target model on the days before D with the shared instances, tests it on D, evaluates and reports.

* `needs_search` waits until no `daily_features` run is in progress, then checks whether a search that D relies on is
  still missing, because it is scheduled or because a day drifted from the set in use (asset `shared_instance_drift`).
  If so, `shared_instance_search` runs first.
* A day without a full training window is skipped: each step logs why and succeeds.
* With `training.start: previous_day` a day starts from the weights of the day before; missing days are trained first.
  After past days were corrected, train all days again in order, starting with the first corrected one.
* To run it by hand: *Trigger*, with `ds`.
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
skip_unfit = ["--skip-unfit"] if deployment.skip_unfit_models else []

with DAG(
    dag_id="daily_training",
    description="Trains target models on the days before D with shared instances, tests them on D and reports",
    doc_md=__doc__,
    schedule=PartitionedAssetTimetable(assets=assets.SCENARIO_FEATURES),
    start_date=deployment.first_tick,
    catchup=False,
    # The pool limits parallel training. Where days build on each other, two runs at once would train the earlier twice
    max_active_runs=1 if deployment.days_build_on_each_other else 2,
    default_args=task_defaults(),
    params={"ds": day_param("Only for manual runs: the day D")},
    tags=[*TAGS, "training", deployment.spec.name],
):
    needs_search = StepBranchOperator(
        task_id="needs_search",
        step="needs_search",
        dataset=deployment.dataset,
        after_dag="daily_features",
        answers={"yes": "search", "no": "score_shared_instances", "skip": None},
        execution_timeout=timedelta(minutes=10),
        doc_md="Is a search that D relies on still missing? `skip`: D's training window is not complete yet.",
    )
    search = TriggerDagRunOperator(
        task_id="search",
        trigger_dag_id="shared_instance_search",
        trigger_run_id="{{ dag_run.run_id }}__search",
        conf={"ds": RUN_DAY, "window": "scheduled"},
        # A retry repeats the same search run instead of starting another
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
        doc_md="Scores the days of D's window that have no masks under the set in use, or whose features were rebuilt "
        "since, and compares each day with the set's own window. A day that drifted is logged and makes a search due.",
    )
    train = StepOperator.partial(
        task_id="train_target_model",
        step="train_target_model",
        dataset=deployment.dataset,
        pool=GPU_POOL,
        outlets=[assets.TRAINING_RUNS],
        execution_timeout=timedelta(hours=6),
        map_index_template="{{ task.extra_args[-1] }}",
        doc_md="One task per target model and one for the floor: trains on the days before D at each share ratio; "
        "validation selects r.",
    ).expand(extra_args=[[*skip_unfit, "--model", model] for model in deployment.models])
    evaluate = StepOperator(
        task_id="evaluate",
        step="evaluate",
        dataset=deployment.dataset,
        outlets=[assets.EVALUATIONS, assets.GAINS],
        execution_timeout=timedelta(hours=1),
        doc_md="AUC, logloss, calibration and S-GAUC per scenario and overall, for each run of D; gains of the "
        "selected runs over the floor and over no sharing.",
    )
    report = StepOperator(
        task_id="report",
        step="report",
        dataset=deployment.dataset,
        execution_timeout=timedelta(minutes=30),
        doc_md="Writes `report/index.html`: all results up to D.",
    )
    needs_search >> [search, score]
    search >> score >> train >> evaluate >> report
