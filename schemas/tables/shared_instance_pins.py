"""Which set training uses from a day on instead of the newest one: the record with the greatest from_ds <= D decides.

A function of the day and of this table's content, never of a clock, so that a rerun of any day finds the same set.
"""

import pyarrow as pa

from schemas.table_spec import Column, TableSpec

TABLE = TableSpec(
    name="shared_instance_pins",
    doc=__doc__,
    columns=(
        Column(name="from_ds", type=pa.string(), doc="first training day that the record holds for"),
        Column(name="shared_set_id", type=pa.string(), nullable=True, doc="set; null: from here on the newest again"),
        Column(name="recorded_at", type=pa.timestamp("us", tz="UTC"), doc="clock", volatile=True),
    ),
    keys=("from_ds",),
    partition_by=(),
)
