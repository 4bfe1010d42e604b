"""Days published without rows, for tests of what is trained around them."""

from __future__ import annotations

from datetime import date

from lake.rows import write_rows
from schemas.dataset_spec import DatasetSpec
from schemas.tables.audits import Audit


def publish_empty(spec: DatasetSpec, *days: date) -> None:
    """Audits that say the days have no rows; the data set must allow it."""
    assert spec.days.allow_empty
    for ds in days:
        audit = Audit(table_name="impressions", ds=str(ds), status="published", rows_in=0, rows_published=0)
        write_rows(spec, [audit])
