"""One user's behaviours of the lookback up to the end of the day, oldest first; users with impressions that day."""

import pyarrow as pa

from schemas.table_spec import FINGERPRINT, Column, TableSpec

TABLE = TableSpec(
    name="behaviour_sequences",
    doc=__doc__,
    columns=(
        Column(name="ds", type=pa.string(), doc="day"),
        Column(name="user_key", type=pa.int64(), doc="64-bit hash of user_id"),
        Column(name="user_id", type=pa.string(), doc="user as in the log"),
        Column(name="hist_item_ids", type=pa.list_(pa.int32()), doc="id of the item field of each behaviour"),
        Column(name="hist_scenario_ids", type=pa.list_(pa.int32()), doc="scenario of each behaviour"),
        Column(name="hist_event_ts", type=pa.list_(pa.int64()), doc="time of each, microseconds UTC, ascending"),
        Column(name="vocabulary_version", type=pa.string(), doc="version that the ids were made with"),
        FINGERPRINT,
    ),
    written_by="build_behaviour_sequences",
    keys=("ds", "user_key"),
    partition_by=("ds",),
    field_columns="behaviour",
)
