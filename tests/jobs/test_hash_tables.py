"""A content hash depends on the rows alone: not on their order, the files, clocks or the version."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.hash_tables import hash_lake, hash_rows
from lake.arrow_writer import overwrite_partition
from lake.reader import open_table
from schemas.load_dataset import load_dataset
from schemas.table_spec import Column, TableSpec
from schemas.tables import get_table

GENERATED = load_dataset("generated")
LISTS = TableSpec(
    name="lists",
    doc="for tests",
    columns=(
        Column(name="key", type=pa.int64(), doc=""),
        Column(name="text", type=pa.string(), nullable=True, doc=""),
        Column(name="number", type=pa.float64(), nullable=True, doc=""),
        Column(name="items", type=pa.list_(pa.int32()), doc=""),
        Column(name="clock", type=pa.timestamp("us", tz="UTC"), volatile=True, doc=""),
    ),
    keys=("key",),
    partition_by=(),
    written_by="tests",
)


def rows(order: list[int] | None = None, **changed: Sequence[object]) -> pa.Table:
    columns: dict[str, Sequence[object]] = {
        "key": [3, 1, 2],
        "text": ["ab", None, ""],
        "number": [0.5, None, 2.0],
        "items": [[1, 2], [], [3]],
        "clock": [datetime(2026, 1, n, tzinfo=UTC) for n in (1, 2, 3)],
    }
    table = pa.table(columns | changed, schema=LISTS.arrow_schema())
    return table.take(order) if order else table


def test_order_chunks_and_clocks_do_not_matter() -> None:
    expected = hash_rows(rows(), LISTS)
    assert hash_rows(rows([2, 0, 1]), LISTS) == expected
    assert hash_rows(pa.concat_tables([rows().slice(1), rows().slice(0, 1)]), LISTS) == expected
    later = [datetime(2027, 1, 1, tzinfo=UTC)] * 3
    assert hash_rows(rows(clock=later), LISTS) == expected


@pytest.mark.parametrize(
    "changed",
    [
        {"key": [3, 1, 4]},
        {"text": ["a", None, "b"]},  # the same bytes, cut elsewhere
        {"text": ["ab", "", ""]},  # null is not empty
        {"number": [0.5, 0.0, 2.0]},
        {"number": [2.0, None, 0.5]},
        {"items": [[1], [2], [3]]},
        {"items": [[2, 1], [], [3]]},
    ],
)
def test_any_changed_value_changes_the_hash(changed: dict[str, Any]) -> None:
    assert hash_rows(rows(**changed), LISTS) != hash_rows(rows(), LISTS)


def test_rows_without_keys_and_repeated_keys_are_ordered_by_all_columns() -> None:
    quarantine = get_table("quarantine")
    refused = pa.table(
        [["2026-01-01"] * 3, ["b", "a", "a"], ["x", "y", "z"], ["{}"] * 3, ["f"] * 3], schema=quarantine.arrow_schema()
    )
    assert hash_rows(refused, quarantine) == hash_rows(refused.take([2, 0, 1]), quarantine)
    repeated = rows(key=[1, 1, 2])
    assert hash_rows(repeated, LISTS) == hash_rows(repeated.take([1, 0, 2]), LISTS)


def masks(ds: str, ids: list[int], score: float = 0.5) -> pa.Table:
    count = len(ids)
    return pa.table(
        {
            "shared_set_id": ["s"] * count,
            "ds": [ds] * count,
            "instance_id": ids,
            "scenario_id": [0] * count,
            "shared_score": [score] * count,
            "rank_pct": [0.5] * count,
            "rank_pct_scenario": [0.5] * count,
            "is_shared": [True] * count,
            "features_files": ["files"] * count,
        }
    )


def write(ds: str, ids: list[int], score: float = 0.5) -> None:
    partition = {"shared_set_id": "s", "ds": ds}
    overwrite_partition(masks(ds, ids, score), GENERATED, "shared_instance_masks", partition)


def hashes(days: list[date] | None = None) -> dict[str, str]:
    return {h.ds: h.hash for h in hash_lake(GENERATED, ["shared_instance_masks"], days or [])}


def test_a_rewrite_and_a_compaction_keep_a_days_hash(lake: Path) -> None:
    write("2026-01-01", [1, 2, 3])
    write("2026-01-02", [4])
    before = hashes()
    write("2026-01-01", [3, 1, 2])
    open_table(GENERATED, "shared_instance_masks").optimize.compact()
    assert hashes() == before
    assert hashes([date(2026, 1, 2)]) == {"2026-01-02": before["2026-01-02"]}
    write("2026-01-02", [4], score=0.75)
    assert hashes()["2026-01-02"] != before["2026-01-02"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.hash_tables", "--dataset", "generated", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_compare_passes_on_equal_tables_and_names_what_differs(lake: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "hashes.json")
    write("2026-01-01", [1])
    write("2026-01-02", [2])
    assert run("--json", file).returncode == 0
    assert {h["ds"] for h in json.loads(Path(file).read_text())["hashes"]} == {"2026-01-01", "2026-01-02"}
    assert run("--compare", file).returncode == 0
    write("2026-01-02", [2, 3])
    differs = run("--compare", file)
    assert differs.returncode == 2
    assert "differs: shared_instance_masks 2026-01-02: was 1 rows" in differs.stdout
    assert "1 parts differ" in differs.stderr
    assert run("--compare", file, "--ds", "2026-01-01").returncode == 0


def test_mistakes_are_one_line(lake: Path, tmp_path: Path) -> None:
    write("2026-01-01", [1])
    for arguments, word in [
        (("--table", "masks"), "known tables"),
        (("--compare", str(tmp_path / "none.json")), "none.json"),
        (("--ds", "2020-01-01"), "no table"),
        (("--json", str(tmp_path)), "is a folder"),
    ]:
        failed = run(*arguments)
        assert failed.returncode == 2
        assert word in failed.stderr and failed.stderr.count("\n") == 1
