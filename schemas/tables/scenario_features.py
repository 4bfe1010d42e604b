"""One impression, encoded: int32 ids per field and a pointer into the user's behaviours of the day."""

import pyarrow as pa

from schemas.table_spec import FINGERPRINT, Column, Constraint, TableSpec

TABLE = TableSpec(
    name="scenario_features",
    doc=__doc__,
    columns=(
        Column(name="ds", type=pa.string(), doc="day"),
        Column(name="scenario_id", type=pa.int32(), doc="0 .. K-1"),
        Column(name="instance_id", type=pa.int64(), doc="as in impressions"),
        Column(name="event_ts", type=pa.timestamp("us", tz="UTC"), doc="time of the impression"),
        Column(name="user_key", type=pa.int64(), doc="64-bit hash of user_id; key of behaviour_sequences within ds"),
        Column(name="label", type=pa.int32(), doc="0 or 1"),
        Column(name="value", type=pa.float64(), nullable=True, doc="as in impressions"),
        Column(
            name="hist_end",
            type=pa.int32(),
            doc="behaviours [max(0, hist_end - max_length), hist_end) of (ds, user_key) are strictly before event_ts",
        ),
        Column(name="vocabulary_version", type=pa.string(), doc="version that the ids were made with"),
        Column(name="weight", type=pa.float64(), nullable=True, added=True, doc="as in impressions"),
        FINGERPRINT,
    ),
    written_by="build_scenario_features",
    keys=("ds", "instance_id"),
    partition_by=("ds", "scenario_id"),
    field_columns="encoded",
    constraints=(
        Constraint(name="label_is_binary", sql="label IN (0, 1)"),
        Constraint(name="hist_end_is_index", sql="hist_end >= 0"),
    ),
)
