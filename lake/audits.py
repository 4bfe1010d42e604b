"""What the table `audits` says of published days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from lake.rows import read_rows
from schemas.dataset_spec import DatasetSpec
from schemas.tables.audits import Audit


def days_with_passed_audit(dataset: DatasetSpec, table: str, days: Sequence[date]) -> set[date]:
    """Those of `days` whose audit says that `table` was published."""
    audits = read_rows(dataset, Audit, days=days, filters={"table_name": table}) if days else []
    return {date.fromisoformat(audit.ds) for audit in audits if audit.status == "published"}
