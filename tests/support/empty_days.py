"""Days published without rows, for tests of what is trained around them."""

from __future__ import annotations

from datetime import date

import pyarrow as pa

from lake.arrow_writer import overwrite_partition
from schemas.dataset_spec import DatasetSpec


def publish_empty(spec: DatasetSpec, *days: date) -> None:
    """Audits that say the days have no rows; the data set must allow it."""
    assert spec.days.allow_empty
    counts = dict.fromkeys(("rows_in", "rows_published", "rows_quarantined"), 0)
    texts = dict.fromkeys(("rows_per_scenario", "quarantine_reasons"), "{}") | {"warnings": "[]", "failures": "[]"}
    for ds in days:
        row = {"table_name": "impressions", "ds": str(ds), "status": "published"} | counts | texts
        rows = pa.Table.from_pylist([row])
        overwrite_partition(rows, spec, "audits", {"table_name": "impressions", "ds": str(ds)})
