"""One record that violates the contract of `impressions`, kept unchanged, with the reason."""

import pyarrow as pa

from schemas.table_spec import Column, TableSpec

TABLE = TableSpec(
    name="quarantine",
    doc=__doc__,
    columns=(
        Column(name="ds", type=pa.string(), doc="day whose ingest refused the record"),
        Column(name="reason", type=pa.string(), doc="short code, e.g. null_user, bad_label, duplicate"),
        Column(name="detail", type=pa.string(), doc="the offending column and value"),
        Column(name="raw_record", type=pa.string(), doc="the record as JSON"),
        Column(name="source", type=pa.string(), doc="file or generator that it came from"),
    ),
    written_by="ingest_impressions",
    keys=(),
    partition_by=("ds",),
)
