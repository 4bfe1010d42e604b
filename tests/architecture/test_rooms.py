"""Who may import whom: dags -> jobs (by command line only) -> transforms | msr_models -> lake -> schemas."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.source_tree import ROOMS, ROOT, imports_of, module_name, python_files, reached_from, steps

SPARK = {"pyspark", "delta", "great_expectations"}
TORCH = {"torch", "torchrec"}
STDLIB = sys.stdlib_module_names


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_room_is_found() -> None:
    assert all(python_files(room) for room in ROOMS)
    assert {"jobs.report", "jobs.hash_tables", "jobs.maintain_tables"} <= set(steps())
    assert "jobs.cli" not in steps()


@pytest.mark.parametrize("path", python_files("schemas"), ids=ids)
def test_schemas_import_nothing_of_ours_and_no_engine(path: Path) -> None:
    allowed = {"schemas", "pydantic", "pyarrow", "yaml"}
    assert tops(path) - STDLIB <= allowed


@pytest.mark.parametrize("path", python_files("lake"), ids=ids)
def test_the_lake_imports_schemas_only_and_no_torch(path: Path) -> None:
    forbidden = TORCH | {"airflow", "jobs", "msr_models", "dags", "msr_dags", "tests", "benchmarks"}
    assert not tops(path) & forbidden
    assert path.name.startswith("spark_") or not tops(path) & SPARK, "only the spark_* modules load Spark"


@pytest.mark.parametrize("path", python_files("msr_models/sets"), ids=ids)
def test_the_life_of_a_shared_set_needs_no_torch(path: Path) -> None:
    assert not reached_from(module_name(path)) & TORCH


@pytest.mark.parametrize("path", python_files("msr_models"), ids=ids)
def test_models_know_neither_spark_nor_airflow_nor_steps(path: Path) -> None:
    assert not tops(path) & (SPARK | {"airflow", "jobs", "dags", "tests", "benchmarks"})


@pytest.mark.parametrize("path", python_files("jobs"), ids=ids)
def test_jobs_know_no_dags(path: Path) -> None:
    assert not tops(path) & {"airflow", "dags", "msr_dags", "tests", "benchmarks"}


@pytest.mark.parametrize("path", python_files("jobs/transforms"), ids=ids)
def test_transforms_know_neither_models_nor_the_lake(path: Path) -> None:
    assert not tops(path) & (TORCH | {"msr_models", "deltalake", "delta"})
    assert not {n for n in imports_of(path) if n.startswith("jobs.") and not n.startswith("jobs.transforms")}


@pytest.mark.parametrize("path", python_files("dags"), ids=ids)
def test_dags_import_airflow_and_schemas_only(path: Path) -> None:
    assert tops(path) - STDLIB <= {"airflow", "msr_dags", "schemas"}


@pytest.mark.parametrize("module", steps())
def test_a_step_reaches_spark_or_torch_never_both(module: str) -> None:
    """Over all imports of all modules reached, those inside functions too."""
    reached = reached_from(module)
    assert not (reached & SPARK and reached & TORCH), f"{module} reaches {sorted(reached & (SPARK | TORCH))}"


@pytest.mark.parametrize(("engine", "other"), [(SPARK, TORCH), (TORCH, SPARK)], ids=["spark", "torch"])
def test_importing_the_steps_of_one_engine_loads_nothing_of_the_other(engine: set[str], other: set[str]) -> None:
    """What the packages themselves pull in: seen in a process of its own, one for each engine."""
    modules = [m for m in steps() if reached_from(m) & engine]
    assert _loaded_by(modules) & other == set()


def test_importing_a_step_without_an_engine_loads_neither() -> None:
    modules = [m for m in steps() if not reached_from(m) & (SPARK | TORCH)]
    assert "jobs.report" in modules
    assert _loaded_by(modules) & (SPARK | TORCH | {"airflow", "sklearn"}) == set()


def test_nobody_imports_a_step_from_models() -> None:
    step_names = set(steps())
    importers = [module_name(p) for p in python_files("msr_models") if imports_of(p) & step_names]
    assert importers == []


def _loaded_by(modules: list[str]) -> set[str]:
    """Top-level packages in sys.modules after importing `modules` in a fresh interpreter."""
    code = (
        "import importlib, json, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))
