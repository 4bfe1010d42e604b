"""Who may import whom: dags -> jobs (by command line only) -> msr_models -> lake -> schemas."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Set
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.source_tree import (
    ROOMS,
    ROOT,
    imports_of,
    module_name,
    modules_imported_by,
    python_files,
    reached_from,
    steps,
)

SPARK = {"pyspark", "delta", "great_expectations"}
TORCH = {"torch", "torchrec"}
OURS = {*ROOMS, "msr_dags", "tests", "benchmarks"}
ROOMS_BELOW = {
    "schemas": {"schemas"},
    "lake": {"lake", "schemas"},
    "msr_models": {"msr_models", "lake", "schemas"},
    "jobs": {"jobs", "msr_models", "lake", "schemas"},
    "dags": {"msr_dags", "schemas"},
}
# Packages that no file of a folder may reach, itself or through modules of ours
OUT_OF_REACH = {
    "schemas": SPARK | TORCH | {"airflow", "deltalake"},
    "lake": TORCH | {"airflow"},
    "msr_models": SPARK | {"airflow"},
    "msr_models/sets": TORCH,
    "jobs": {"airflow"},
    "jobs/transforms": TORCH | {"deltalake"},
    "dags": SPARK | TORCH | {"deltalake"},
}
MODULES_OF_SCHEMAS = 450  # numpy comes with pyarrow


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


def offenders(folder: str, wrong: Callable[[Path], Set[str]]) -> dict[str, Set[str]]:
    """Module -> what `wrong` finds in it, of the modules of a folder where it finds something."""
    files = python_files(folder)
    assert files, f"{folder} has no modules"
    return {module_name(path): found for path in files if (found := wrong(path))}


@pytest.mark.parametrize("room", ROOMS_BELOW)
def test_a_room_imports_rooms_below_it_only(room: str) -> None:
    assert offenders(room, lambda path: tops(path) & OURS - ROOMS_BELOW[room]) == {}


@pytest.mark.parametrize("folder", OUT_OF_REACH)
def test_a_module_does_not_reach_foreign_engines(folder: str) -> None:
    assert offenders(folder, lambda path: reached_from(module_name(path)) & OUT_OF_REACH[folder]) == {}


@pytest.mark.parametrize(
    ("room", "allowed"),
    [("schemas", {"schemas", "pydantic", "pyarrow", "yaml"}), ("dags", {"airflow", "msr_dags", "schemas"})],
)
def test_schemas_and_dags_need_few_packages(room: str, allowed: set[str]) -> None:
    assert offenders(room, lambda path: tops(path) - sys.stdlib_module_names - allowed) == {}


def test_spark_in_the_lake_stays_in_the_spark_modules() -> None:
    def spark(path: Path) -> Set[str]:
        return set() if path.name.startswith("spark_") else reached_from(module_name(path)) & SPARK

    assert offenders("lake", spark) == {}


def test_transforms_know_schemas_and_each_other_alone() -> None:
    def foreign(path: Path) -> set[str]:
        ours = {name for name in imports_of(path) if name.split(".")[0] in OURS}
        return {name for name in ours if not name.startswith(("schemas", "jobs.transforms"))}

    assert offenders("jobs/transforms", foreign) == {}


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {p: modules_imported_by(p) - {p} for room in (*ROOMS, "benchmarks") for p in python_files(room)}
    assert graph[ROOT / "lake" / "rows.py"] >= {ROOT / "lake" / "reader.py", ROOT / "schemas" / "table_spec.py"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(str(path.relative_to(ROOT)) for path in error.args[1]))


@pytest.mark.parametrize("module", steps())
def test_a_step_reaches_spark_or_torch_never_both(module: str) -> None:
    reached = reached_from(module)
    assert not (reached & SPARK and reached & TORCH), f"{module} reaches {sorted(reached & (SPARK | TORCH))}"


@pytest.mark.parametrize(("engine", "other"), [(SPARK, TORCH), (TORCH, SPARK)], ids=["spark", "torch"])
def test_importing_the_steps_of_one_engine_loads_nothing_of_the_other(engine: set[str], other: set[str]) -> None:
    """What the packages themselves pull in: seen in a process of its own, one for each engine."""
    modules = [m for m in steps() if reached_from(m) & engine]
    assert modules and not {name.split(".")[0] for name in _loaded_by(modules)} & other


def test_importing_a_step_without_an_engine_loads_neither() -> None:
    modules = [m for m in steps() if not reached_from(m) & (SPARK | TORCH)]
    assert "jobs.report" in modules
    loaded = {name.split(".")[0] for name in _loaded_by(modules)}
    assert not loaded & (SPARK | TORCH | {"airflow", "sklearn"})


def test_importing_schemas_is_light() -> None:
    loaded = _loaded_by([module_name(path) for path in python_files("schemas")])
    heavy = {"torch", "pyspark", "deltalake", "pandas", "scipy", "airflow", "pyarrow.dataset", "pyarrow.parquet"}
    assert not loaded & heavy
    assert len(loaded) < MODULES_OF_SCHEMAS


def _loaded_by(modules: list[str]) -> set[str]:
    """Names in sys.modules after importing `modules` in a fresh interpreter."""
    code = (
        "import importlib, json, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))
