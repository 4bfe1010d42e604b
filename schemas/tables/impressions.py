"""One impression in canonical form: the contract between any log and all later steps."""

import pyarrow as pa

from schemas.table_spec import FINGERPRINT, Column, Constraint, Expectation, TableSpec

TABLE = TableSpec(
    name="impressions",
    doc=__doc__,
    columns=(
        Column(name="ds", type=pa.string(), doc="day of event_ts in days.time_zone, YYYY-MM-DD"),
        Column(name="instance_id", type=pa.int64(), doc="stable 64-bit hash of the natural key, unique within ds"),
        Column(name="event_ts", type=pa.timestamp("us", tz="UTC"), doc="time of the impression"),
        Column(name="scenario_id", type=pa.int32(), doc="0 .. K-1, in the order of the data set's scenario names"),
        Column(name="user_id", type=pa.string(), doc="user as in the log"),
        Column(name="item_id", type=pa.string(), doc="item as in the log"),
        Column(name="label", type=pa.int32(), doc="1 = positive, 0 = negative"),
        Column(name="value", type=pa.float64(), nullable=True, doc="value of the event where the log has one"),
        Column(
            name="session_id",
            type=pa.string(),
            nullable=True,
            added=True,
            doc="session as in the log (columns.session); null: a session is the user's day",
        ),
        Column(
            name="weight",
            type=pa.float64(),
            nullable=True,
            added=True,
            doc="how many impressions the row stands for (columns.weight, source.negative_sampling); null: no weights",
        ),
        FINGERPRINT,
    ),
    written_by="ingest_impressions",
    keys=("ds", "instance_id"),
    partition_by=("ds",),
    field_columns="raw",
    constraints=(
        Constraint(name="label_is_binary", sql="label IN (0, 1)"),
        Constraint(name="scenario_is_known", sql="scenario_id >= 0"),
    ),
    expectations=(
        Expectation(type="ExpectTableRowCountToBeBetween", kwargs={"min_value": 1}),
        Expectation(type="ExpectColumnValuesToBeUnique", kwargs={"column": "instance_id"}),
        Expectation(type="ExpectColumnValuesToNotBeNull", kwargs={"column": "user_id"}),
        Expectation(type="ExpectColumnValuesToNotBeNull", kwargs={"column": "item_id"}),
        Expectation(type="ExpectColumnValuesToBeInSet", kwargs={"column": "label", "value_set": [0, 1]}),
        Expectation(
            type="ExpectColumnMeanToBeBetween",
            kwargs={"column": "label", "min_value": 0.0005, "max_value": 0.95},
            severity="warn",
        ),
    ),
)
