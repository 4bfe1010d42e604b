"""The table `audits`: one row of row counts and audit results per table and day, written without Spark."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from lake.arrow_writer import overwrite_partition
from lake.rows import read_rows, to_arrow
from schemas.dataset_spec import DatasetSpec
from schemas.tables.audits import Audit


def record_audit(dataset: DatasetSpec, audit: Audit) -> None:
    """Replace the audit of one table's day."""
    partition = {"table_name": audit.table_name, "ds": audit.ds}
    overwrite_partition(to_arrow([audit]), dataset, audit.table, partition)


def days_with_passed_audit(dataset: DatasetSpec, table: str, days: Sequence[date]) -> set[date]:
    """Those of `days` whose audit says that `table` was published."""
    audits = read_rows(dataset, Audit, days=days, filters={"table_name": table}) if days else []
    return {date.fromisoformat(audit.ds) for audit in audits if audit.status == "published"}
