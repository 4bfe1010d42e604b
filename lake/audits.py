"""The table `audits`: one row of accounts per table and day. A few rows of text: written and read without an engine."""

from __future__ import annotations

from datetime import date

from lake.arrow_writer import overwrite_partition
from lake.reader import read_table, table_exists
from lake.rows import to_arrow
from schemas.dataset_spec import DatasetSpec
from schemas.tables.audits import Audit

TABLE = "audits"


def record_audit(dataset: DatasetSpec, row: Audit) -> None:
    """Replace the row of one table's day."""
    partition = {"table_name": row.table_name, "ds": row.ds}
    overwrite_partition(to_arrow([row], row.table), dataset, row.table, partition)


def published_days(dataset: DatasetSpec, table: str, days: list[date]) -> set[date]:
    """Those of `days` whose accounts say that `table` was published."""
    if not days or not table_exists(dataset, TABLE):
        return set()
    rows = read_table(dataset, TABLE, columns=["ds", "status"], days=days, filters={"table_name": table})
    return {date.fromisoformat(row["ds"]) for row in rows.to_pylist() if row["status"] == "published"}
