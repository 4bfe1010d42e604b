"""How one day's scores under one shared-instance set differ from those of the set's own window."""

import pyarrow as pa

from schemas.table_spec import Column, Constraint, TableSpec

TABLE = TableSpec(
    name="shared_instance_drift",
    doc=__doc__,
    columns=(
        Column(name="ds", type=pa.string(), doc="day scored, outside the set's window"),
        Column(name="shared_set_id", type=pa.string(), doc="set"),
        Column(name="scenario_id", type=pa.int32(), doc="scenario, -1 for all rows"),
        Column(name="rows", type=pa.int64(), doc="rows of the day"),
        Column(name="share_rate", type=pa.float64(), nullable=True, doc="share of them with is_shared; null: no rows"),
        Column(name="window_share_rate", type=pa.float64(), nullable=True, doc="the same of the set's window"),
        Column(
            name="psi",
            type=pa.float64(),
            nullable=True,
            doc="population stability index over the deciles of the window's scores; null where a side has no rows",
        ),
        Column(
            name="is_drifted",
            type=pa.bool_(),
            doc="psi or share rate past chance and past the limits that search had then; readers ask the limits of now",
        ),
        Column(
            name="window_rows",
            type=pa.int64(),
            nullable=True,
            doc="rows of the set's window, for what chance explains; null: not known, is_drifted stands",
        ),
    ),
    keys=("shared_set_id", "ds", "scenario_id"),
    partition_by=("shared_set_id", "ds"),
    constraints=(
        Constraint(name="psi_is_not_negative", sql="psi IS NULL OR psi >= 0"),
        Constraint(name="share_rate_is_rate", sql="share_rate IS NULL OR (share_rate >= 0 AND share_rate <= 1)"),
    ),
)
