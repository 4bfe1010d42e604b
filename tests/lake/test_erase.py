"""Rows are erased from the files of all versions, and the log fits the files again."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from lake import erase as module
from lake.erase import TableFile, erase


def named(file: TableFile) -> pa.Array:
    return pc.equal(file.read(["name"])["name"], "ann").combine_chunks()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three versions of two days, with a checkpoint at the second one."""
    root = tmp_path / "table"
    for version, names in enumerate((["ann", "bob"], ["ann", "cid"], ["dan"])):
        rows = pa.table({"ds": ["1", "2"] * len(names), "name": [n for n in names for _ in "12"]})
        write_deltalake(root, rows, mode="overwrite" if version else "error", partition_by=["ds"])
        if version == 1:
            DeltaTable(root).create_checkpoint()
    return root


def names(root: Path, version: int) -> list[str]:
    return sorted(DeltaTable(root, version=version).to_pyarrow_table()["name"].to_pylist())


def log_text(root: Path) -> str:
    texts = [path.read_text() for path in (root / "_delta_log").glob("*.json")]
    checkpoints = [str(pq.read_table(path).to_pylist()) for path in (root / "_delta_log").glob("*.parquet")]
    return " ".join([*texts, *checkpoints])


def schema(root: Path) -> pa.Schema:
    return DeltaTable(root).to_pyarrow_dataset().schema


def test_every_version_stays_without_the_rows(table: Path) -> None:
    assert "ann" in log_text(table)
    assert erase(table, schema(table), named) == 4
    assert [names(table, v) for v in range(3)] == [["bob", "bob"], ["cid", "cid"], ["dan", "dan"]]
    assert "ann" not in log_text(table) and DeltaTable(table).version() == 2
    assert erase(table, schema(table), named) == 0
    write_deltalake(table, pa.table({"ds": ["1"], "name": ["eve"]}), mode="append")
    assert names(table, 3) == ["dan", "dan", "eve"]


def test_a_killed_erasure_is_finished_by_the_next_one(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(module, "_mend_log", lambda root, changed: None)
        erase(table, schema(table), named)
    assert "ann" in log_text(table)
    assert erase(table, schema(table), named) == 0, "the rows are gone, the log is not mended"
    assert "ann" not in log_text(table) and names(table, 0) == ["bob", "bob"]


def test_files_without_such_rows_are_not_touched(table: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in table.rglob("*") if path.is_file()}
    assert erase(table, schema(table), lambda file: pc.equal(file.read(["name"])["name"], "x").combine_chunks()) == 0
    assert {path: path.stat().st_mtime_ns for path in table.rglob("*") if path.is_file()} == before
