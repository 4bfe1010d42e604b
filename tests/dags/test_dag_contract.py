"""Every file in dags/ is one DAG that keeps the house rules; found by globbing, so a new DAG is held to them too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.own_log import spec

DAGS = Path(__file__).resolve().parents[2] / "dags"
DAG_IDS = sorted(p.stem for p in DAGS.glob("*.py"))

DUMP = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag

bag = DagBag(dag_folder={folder!r})
dags = {{}}
for dag_id, dag in bag.dags.items():
    tasks = {{}}
    for task in dag.tasks:
        # a mapped task keeps its settings in partial_kwargs
        kept = getattr(task, "partial_kwargs", None)
        def of(name):
            return kept.get(name) if kept and name in kept else getattr(task, name, None)
        outlets = [a.name for a in (of("outlets") or [])]
        tasks[task.task_id] = dict(
            step=of("step"), owner=of("owner"), doc=of("doc_md"), retries=of("retries"),
            backoff=of("retry_exponential_backoff"), timeout=bool(of("execution_timeout")), pool=of("pool"),
            callback=bool(of("on_failure_callback")), mapped=bool(task.is_mapped), outlets=outlets,
            mapped_args=task.expand_input.value["extra_args"] if task.is_mapped else None,
            downstream=sorted(task.downstream_task_ids), trigger_rule=str(getattr(task, "trigger_rule", "")),
        )
    dags[dag_id] = dict(
        file=Path(dag.fileloc).stem, doc=dag.doc_md, description=dag.description, tags=sorted(dag.tags),
        catchup=dag.catchup, max_active_runs=dag.max_active_runs, timetable=type(dag.timetable).__name__, tasks=tasks,
        end=str(dag.end_date),
    )
heavy = [m for m in ("pyspark", "torch", "delta", "pandas", "jobs", "lake", "msr_models") if m in sys.modules]
print(json.dumps(dict(errors=bag.import_errors, dags=dags, heavy=heavy)))
"""


@pytest.fixture(scope="module")
def bag(run_python):
    return json.loads(run_python(DUMP.format(folder=str(DAGS))).splitlines()[-1])


def test_files_import_and_each_is_one_dag_of_its_name(bag):
    assert bag["errors"] == {}
    assert DAG_IDS == ["daily_features", "daily_training", "shared_instance_search", "table_maintenance"]
    assert sorted(bag["dags"]) == DAG_IDS
    assert all(dag["file"] == dag_id for dag_id, dag in bag["dags"].items())


def test_reading_the_dags_imports_neither_engine_nor_steps(bag):
    assert bag["heavy"] == []


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_a_person_finds_docs_owner_and_tags(bag, dag_id):
    dag = bag["dags"][dag_id]
    assert dag["doc"] and dag["doc"].lstrip().startswith("### ")
    assert dag["description"]
    assert {"msr", "generated"} < set(dag["tags"])
    assert dag["catchup"] is False
    for task in dag["tasks"].values():
        assert task["doc"] and task["owner"] == "recommendation"


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_every_task_is_tried_again_bounded_in_time_and_reports_failure(bag, dag_id):
    for name, task in bag["dags"][dag_id]["tasks"].items():
        assert task["retries"] >= 1 and task["backoff"] > 1, name
        assert task["timeout"] and task["callback"], name


def test_trainings_share_the_gpu_pool_one_mapped_task_per_model(bag):
    for dag in bag["dags"].values():
        for task in dag["tasks"].values():
            trains = task["step"] in {"train_target_model", "search_shared_instances", "score_shared_instances"}
            assert (task["pool"] == "gpu") == trains
    training = bag["dags"]["daily_training"]["tasks"]
    assert [name for name, task in training.items() if task["mapped"]] == ["train_target_model"]


def test_features_are_announced_only_after_their_audit(bag):
    tasks = bag["dags"]["daily_features"]["tasks"]
    assert [n for n, t in tasks.items() if "scenario_features" in t["outlets"]] == ["audit_tables"]
    assert tasks["build_scenario_features"]["downstream"] == ["audit_tables"]
    published = {outlet for task in tasks.values() for outlet in task["outlets"]}
    tables = {"impressions", "quarantine", "vocabularies", "behaviour_sequences", "scenario_features", "audits"}
    assert published == tables


def test_schedules_and_partitions(bag):
    kinds = {dag_id: dag["timetable"] for dag_id, dag in bag["dags"].items()}
    assert kinds["daily_features"] == "CronPartitionTimetable"
    assert kinds["daily_training"] == "PartitionedAssetTimetable"
    assert bag["dags"]["daily_training"]["max_active_runs"] == 2


def test_days_that_build_on_each_other_train_one_at_a_time(run_python, tmp_path):
    text = (DAGS.parent / "schemas" / "datasets" / "generated.yaml").read_text(encoding="utf-8")
    own = tmp_path / "own.yaml"
    own.write_text(text.replace("training:\n", "training:\n  start: previous_day\n"), encoding="utf-8")
    script = DUMP.format(folder=str(DAGS / "daily_training.py"))
    found = json.loads(run_python(script, MSR_DATASET=str(own)).splitlines()[-1])
    assert found["errors"] == {} and found["dags"]["daily_training"]["max_active_runs"] == 1


def test_training_searches_first_when_one_is_due(bag):
    tasks = bag["dags"]["daily_training"]["tasks"]
    assert tasks["needs_search"]["downstream"] == ["score_shared_instances", "search"]
    assert tasks["search"]["downstream"] == ["score_shared_instances"]
    assert "none_failed_min_one_success" in tasks["score_shared_instances"]["trigger_rule"].lower()
    assert tasks["train_target_model"]["downstream"] == ["evaluate"]
    assert tasks["evaluate"]["downstream"] == ["report"]


def test_each_model_is_a_mapped_task_and_all_may_leave_some_out(bag, run_python):
    assert bag["dags"]["daily_training"]["tasks"]["train_target_model"]["mapped_args"] == [["--model", "shared_bottom"]]
    script = DUMP.format(folder=str(DAGS / "daily_training.py"))
    found = json.loads(run_python(script, MSR_MODELS="all").splitlines()[-1])
    mapped = found["dags"]["daily_training"]["tasks"]["train_target_model"]["mapped_args"]
    assert ["--leave-out", "--model", "star"] in mapped and all(args[:2] == mapped[0][:2] for args in mapped)
    assert len(mapped) > 20 and found["heavy"] == []


def test_what_scoring_and_searching_write_is_announced(bag):
    written = {"shared_instance_masks", "shared_instance_drift"}
    assert set(bag["dags"]["daily_training"]["tasks"]["score_shared_instances"]["outlets"]) == written
    (search,) = bag["dags"]["shared_instance_search"]["tasks"].values()
    assert set(search["outlets"]) == written | {"shared_instance_sets"}


def test_every_step_of_a_dag_is_a_module_in_jobs(bag):
    jobs = {p.stem for p in (DAGS.parent / "jobs").glob("*.py")}
    steps = {task["step"] for dag in bag["dags"].values() for task in dag["tasks"].values() if task["step"]}
    assert steps <= jobs


def test_an_unknown_data_set_is_an_import_error_that_names_it(run_python):
    found = json.loads(run_python(DUMP.format(folder=str(DAGS)), MSR_DATASET="generatd").splitlines()[-1])
    assert sorted(Path(file).stem for file in found["errors"]) == DAG_IDS
    assert all("'generatd' is unknown; did you mean 'generated'?" in text for text in found["errors"].values())


def test_a_log_without_an_end_is_scheduled_on(run_python, tmp_path):
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(spec(days={"start": "2026-03-01"})))
    own = {"MSR_DATASET": "own", "MSR_DATASETS_DIR": str(tmp_path), "MSR_MODELS": "a,b"}
    found = json.loads(run_python(DUMP.format(folder=str(DAGS)), **own).splitlines()[-1])
    assert found["errors"] == {}
    assert found["dags"]["daily_features"]["end"] == "None"
    assert "own" in found["dags"]["daily_features"]["tags"]
