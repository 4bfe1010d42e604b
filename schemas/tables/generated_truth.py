"""What only the generator knows of an impression; for tests and for evaluating a search, never read by training."""

import pyarrow as pa

from schemas.table_spec import Column, TableSpec

TABLE = TableSpec(
    name="generated_truth",
    doc=__doc__,
    columns=(
        Column(name="ds", type=pa.string(), doc="day"),
        Column(name="instance_id", type=pa.int64(), doc="impression"),
        Column(name="click_probability", type=pa.float64(), doc="probability that the label was drawn from"),
        Column(
            name="is_shareable", type=pa.bool_(), doc="whether it is also a useful training example in other scenarios"
        ),
    ),
    written_by="ingest_impressions",
    keys=("ds", "instance_id"),
    partition_by=("ds",),
)
