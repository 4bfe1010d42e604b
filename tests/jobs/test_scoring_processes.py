"""Scoring in processes of its own: killed and run again, and several days side by side, end in the same tables."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from jobs import search_shared_instances
from lake import reader as lake_reader
from schemas.dataset_spec import DatasetSpec
from schemas.tables import get_table
from tests.support.set_tables import clear_partition
from tests.support.tiny_lake import SMALL_SEARCH, tiny_dataset, write_tiny_lake

pytestmark = pytest.mark.slow

LATER = [date(2026, 1, d) for d in (5, 6, 7)]
DS = date(2026, 1, 8)
TABLES = ("shared_instance_masks", "shared_instance_drift")
SEARCH = SMALL_SEARCH | {"warmup_epochs": 1}


@pytest.fixture(scope="module")
def spec(module_lake: Path) -> DatasetSpec:
    """Features of the 2nd to the 7th and a set of the first three of these days."""
    spec = tiny_dataset(search=SEARCH)
    write_tiny_lake(spec, [date(2026, 1, d) for d in range(2, 8)], rows_per_day=300)
    (module_lake / "tiny.yaml").write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_unset=True)))
    search_shared_instances.search_day(spec, LATER[0], spec.search)
    return spec


@pytest.fixture(scope="module")
def set_id(spec: DatasetSpec) -> str:
    (found,) = lake_reader.read_table(spec, "shared_instance_sets")["shared_set_id"].to_pylist()
    return str(found)


@pytest.fixture(scope="module")
def expected(spec: DatasetSpec, set_id: str, module_lake: Path) -> dict[str, pa.Table]:
    """What one undisturbed process writes."""
    assert start(module_lake, "--ds", str(DS)).wait() == 0
    return tables(spec)


@pytest.fixture(autouse=True)
def unscored(spec: DatasetSpec, set_id: str, expected: dict[str, pa.Table]) -> Iterator[None]:
    """The later days are to be scored anew, and in the end are as they were."""
    for name in TABLES:
        for day in LATER:
            where = {"shared_set_id": set_id, "ds": str(day)}
            clear_partition(spec, name, where)
    assert not tables(spec)["shared_instance_drift"].num_rows
    yield
    assert tables(spec) == expected


def tables(spec: DatasetSpec) -> dict[str, pa.Table]:
    found = {}
    for name in TABLES:
        keys = [(key, "ascending") for key in get_table(name).keys]
        columns = get_table(name).content_columns
        found[name] = lake_reader.read_table(spec, name, columns=columns).sort_by(keys)
    return found


# The step's own exit code, without the interpreter's end: a thread of Arrow that still closes a file may abort that
STEP = """
import os, runpy
try:
    runpy.run_module("jobs.score_shared_instances", run_name="__main__", alter_sys=True)
except SystemExit as ended:
    os._exit(ended.code)
"""


def start(lake: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", STEP, "--dataset", str(lake / "tiny.yaml"), *words]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, cwd=root, env=dict(os.environ), stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("table", TABLES)
def test_kill_9_and_a_rerun_end_in_the_tables_of_an_undisturbed_run(module_lake: Path, table: str) -> None:
    """Killed when the first file of a later day lies there: of the comparison, or of the masks."""

    def files() -> set[Path]:
        return {path for day in LATER for path in (module_lake / "tiny" / table).glob(f"*/ds={day}/*.parquet")}

    before = files()
    process = start(module_lake, "--ds", str(DS))
    deadline = time.monotonic() + 120
    while not files() - before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert start(module_lake, "--ds", str(DS)).wait() == 0


def test_days_side_by_side_and_a_whole_window_among_them(module_lake: Path, set_id: str) -> None:
    """A process per day, and one that makes all of them at the same time."""
    days = [start(module_lake, "--ds", str(day), "--window", "exact", "--shared-set", set_id) for day in LATER]
    processes = [*days, start(module_lake, "--ds", str(DS))]
    assert [process.wait() for process in processes] == [0] * 4
