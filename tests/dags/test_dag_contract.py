"""Every file in dags/ is one DAG that keeps these rules; found by globbing, so they hold for a new DAG too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.engines import ENGINES
from schemas.load_dataset import dataset_file
from tests.support.own_log import spec

Bag = dict[str, Any]
RunPython = Callable[..., str]

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
            step=of("step"), engine=of("engine"), owner=of("owner"), doc=of("doc_md"), retries=of("retries"),
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


def read_dags(run_python: RunPython, source: Path = DAGS, **environment: str) -> Bag:
    """What Airflow's DagBag makes of a folder or file, read in a process of its own."""
    found: Bag = json.loads(run_python(DUMP.format(folder=str(source)), **environment).splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def bag(run_python: RunPython) -> Bag:
    return read_dags(run_python)


def test_files_import_and_each_is_one_dag_of_its_name(bag: Bag) -> None:
    assert bag["errors"] == {}
    assert {"daily_features", "daily_training", "shared_instance_search", "table_maintenance"} <= set(DAG_IDS)
    assert sorted(bag["dags"]) == DAG_IDS
    assert all(dag["file"] == dag_id for dag_id, dag in bag["dags"].items())


def test_reading_the_dags_imports_neither_engine_nor_steps(bag: Bag) -> None:
    assert bag["heavy"] == []


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_a_person_finds_docs_owner_and_tags(bag: Bag, dag_id: str) -> None:
    dag = bag["dags"][dag_id]
    assert dag["doc"] and dag["doc"].lstrip().startswith("### ")
    assert dag["description"]
    assert {"msr", "generated"} < set(dag["tags"])
    assert dag["catchup"] is False
    for task in dag["tasks"].values():
        assert task["doc"] and task["owner"] == "recommendation"


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_every_task_is_retried_bounded_in_time_and_logs_its_failure(bag: Bag, dag_id: str) -> None:
    for name, task in bag["dags"][dag_id]["tasks"].items():
        assert task["retries"] >= 1 and task["backoff"] > 1, name
        assert task["timeout"] and task["callback"], name


def test_trainings_share_the_gpu_pool_one_mapped_task_per_model(bag: Bag) -> None:
    for dag in bag["dags"].values():
        for task in dag["tasks"].values():
            trains = task["step"] in {"train_target_model", "search_shared_instances", "score_shared_instances"}
            assert (task["pool"] == "gpu") == trains
    training = bag["dags"]["daily_training"]["tasks"]
    assert [name for name, task in training.items() if task["mapped"]] == ["train_target_model"]


def test_features_are_announced_only_after_their_audit(bag: Bag) -> None:
    tasks = bag["dags"]["daily_features"]["tasks"]
    assert [n for n, t in tasks.items() if "scenario_features" in t["outlets"]] == ["audit_tables"]
    assert tasks["build_scenario_features"]["downstream"] == ["audit_tables"]
    published = {outlet for task in tasks.values() for outlet in task["outlets"]}
    tables = {"impressions", "quarantine", "vocabularies", "behaviour_sequences", "scenario_features", "audits"}
    assert published == tables


def test_schedules_and_partitions(bag: Bag) -> None:
    kinds = {dag_id: dag["timetable"] for dag_id, dag in bag["dags"].items()}
    assert kinds["daily_features"] == "CronPartitionTimetable"
    assert kinds["daily_training"] == "PartitionedAssetTimetable"
    assert bag["dags"]["daily_training"]["max_active_runs"] == 2


def test_days_that_build_on_each_other_train_one_at_a_time(run_python: RunPython, tmp_path: Path) -> None:
    text = dataset_file("generated").read_text(encoding="utf-8")
    own = tmp_path / "own.yaml"
    own.write_text(text.replace("training:\n", "training:\n  start: previous_day\n"), encoding="utf-8")
    found = read_dags(run_python, DAGS / "daily_training.py", MSR_DATASET=str(own))
    assert found["errors"] == {} and found["dags"]["daily_training"]["max_active_runs"] == 1


def test_training_searches_first_when_one_is_due(bag: Bag) -> None:
    tasks = bag["dags"]["daily_training"]["tasks"]
    assert tasks["needs_search"]["downstream"] == ["score_shared_instances", "search"]
    assert tasks["search"]["downstream"] == ["score_shared_instances"]
    assert "none_failed_min_one_success" in tasks["score_shared_instances"]["trigger_rule"].lower()
    assert tasks["train_target_model"]["downstream"] == ["evaluate"]
    assert tasks["evaluate"]["downstream"] == ["report"]


def test_each_model_is_a_mapped_task_and_all_skips_those_that_do_not_fit(bag: Bag, run_python: RunPython) -> None:
    """The floor is one of them."""
    listed = bag["dags"]["daily_training"]["tasks"]["train_target_model"]["mapped_args"]
    assert listed == [["--model", "shared_bottom"], ["--model", "logistic_regression"]]
    found = read_dags(run_python, DAGS / "daily_training.py", MSR_MODELS="all")
    mapped = found["dags"]["daily_training"]["tasks"]["train_target_model"]["mapped_args"]
    assert ["--skip-unfit", "--model", "star"] in mapped and all(args[:2] == mapped[0][:2] for args in mapped)
    assert len(mapped) > 20 and found["heavy"] == []


def test_what_scoring_and_searching_write_is_announced(bag: Bag) -> None:
    written = {"shared_instance_masks", "shared_instance_drift"}
    assert set(bag["dags"]["daily_training"]["tasks"]["score_shared_instances"]["outlets"]) == written
    (search,) = bag["dags"]["shared_instance_search"]["tasks"].values()
    assert set(search["outlets"]) == written | {"shared_instance_sets"}


def test_every_task_runs_a_command_of_jobs_on_the_engine_declared_for_it(bag: Bag) -> None:
    tasks = [task for dag in bag["dags"].values() for task in dag["tasks"].values() if task["step"]]
    assert all((DAGS.parent / "jobs" / f"{task['step']}.py").is_file() for task in tasks)
    # A mapped task has its engine once Airflow has unmapped it
    assert all(task["engine"] == ENGINES[task["step"]] for task in tasks if not task["mapped"])
    assert {task["engine"] for task in tasks} >= {"spark", "torch", "arrow"}


def test_an_unknown_data_set_is_an_import_error_that_names_it(run_python: RunPython) -> None:
    found = read_dags(run_python, MSR_DATASET="generatd")
    assert sorted(Path(file).stem for file in found["errors"]) == DAG_IDS
    assert all("'generatd' is unknown; did you mean 'generated'?" in text for text in found["errors"].values())


def test_a_mistake_in_the_yaml_is_the_last_line_of_one_import_error(run_python: RunPython, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(spec() | {"labels": 1}))
    (error,) = read_dags(run_python, DAGS / "daily_features.py", MSR_DATASET=str(own))["errors"].values()
    assert error.count("Traceback") == 1 and "pydantic" not in error
    last = error.splitlines()[-1]
    assert str(own) in last and "labels: unknown key with value 1" in last


def test_a_log_without_an_end_is_scheduled_on(run_python: RunPython, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(spec(days={"start": "2026-03-01"})))
    found = read_dags(run_python, MSR_DATASET="own", MSR_DATASETS_DIR=str(tmp_path), MSR_MODELS="star,mmoe")
    assert found["errors"] == {}
    assert found["dags"]["daily_features"]["end"] == "None"
    assert "own" in found["dags"]["daily_features"]["tags"]


def test_a_yaml_with_a_long_path_is_tagged_by_its_name(run_python: RunPython, tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 60) / ("b" * 60)
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text(yaml.safe_dump(spec()), encoding="utf-8")
    found = read_dags(run_python, MSR_DATASET=str(folder / "own.yaml"))
    assert found["errors"] == {} and sorted(found["dags"]) == DAG_IDS
    assert all("own" in dag["tags"] and max(map(len, dag["tags"])) <= 100 for dag in found["dags"].values())
