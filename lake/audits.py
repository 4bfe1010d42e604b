"""The table `audits`: one row of accounts per table and day. A few rows of text: written and read without an engine."""

from __future__ import annotations

from datetime import date

import pyarrow as pa

from lake.arrow_writer import overwrite_partition
from lake.reader import read_table, table_exists
from schemas.dataset_spec import DatasetSpec

TABLE = "audits"


def record_accounts(dataset: DatasetSpec, row: dict[str, str | int]) -> None:
    """Replace the accounts of one table's day; `row` has the columns of schemas/tables/audits.py."""
    partition = {"table_name": str(row["table_name"]), "ds": str(row["ds"])}
    overwrite_partition(pa.Table.from_pylist([row]), dataset, TABLE, partition)


def published_days(dataset: DatasetSpec, table: str, days: list[date]) -> set[date]:
    """Those of `days` whose accounts say that `table` was published."""
    if not days or not table_exists(dataset, TABLE):
        return set()
    rows = read_table(dataset, TABLE, columns=["ds", "status"], days=days, filters={"table_name": table})
    return {date.fromisoformat(row["ds"]) for row in rows.to_pylist() if row["status"] == "published"}
