"""What only the generator knows about an impression; for tests and for judging a search, never read by training."""

import pyarrow as pa

from schemas.table_spec import Column, TableSpec

TABLE = TableSpec(
    name="generated_truth",
    doc=__doc__,
    columns=(
        Column(name="ds", type=pa.string(), doc="day"),
        Column(name="instance_id", type=pa.int64(), doc="impression"),
        Column(name="click_probability", type=pa.float64(), doc="probability that the label was drawn from"),
        Column(name="is_shareable", type=pa.bool_(), doc="the row's lesson holds in every scenario"),
    ),
    written_by="ingest_impressions",
    keys=("ds", "instance_id"),
    partition_by=("ds",),
)
