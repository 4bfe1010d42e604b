"""Accounts of one table's day: rows in, published, quarantined, and what its expectations said."""

import pyarrow as pa

from schemas.table_spec import Column, Constraint, TableSpec

TABLE = TableSpec(
    name="audits",
    doc=__doc__,
    columns=(
        Column(name="table_name", type=pa.string(), doc="the audited table"),
        Column(name="ds", type=pa.string(), doc="the audited day"),
        Column(name="status", type=pa.string(), doc="published or failed"),
        Column(name="rows_in", type=pa.int64(), doc="rows that came in"),
        Column(name="rows_published", type=pa.int64(), doc="rows committed (0 where the audit failed)"),
        Column(name="rows_quarantined", type=pa.int64(), doc="rows refused, kept in quarantine"),
        Column(name="rows_per_scenario", type=pa.string(), doc="JSON: scenario name -> rows published"),
        Column(name="quarantine_reasons", type=pa.string(), doc="JSON: reason -> rows"),
        Column(name="warnings", type=pa.string(), doc="JSON list: expectations of severity warn that did not hold"),
        Column(name="failures", type=pa.string(), doc="JSON list: expectations of severity fail that did not hold"),
    ),
    keys=("table_name", "ds"),
    partition_by=("table_name", "ds"),
    constraints=(
        Constraint(name="status_is_known", sql="status IN ('published', 'failed')"),
        Constraint(
            name="nothing_is_lost",
            sql="status = 'failed' OR rows_in = rows_published + rows_quarantined",
        ),
    ),
)
