"""One instance's score under one shared-instance set: a pure function of the row and the set."""

import pyarrow as pa

from schemas.table_spec import Column, Constraint, TableSpec

TABLE = TableSpec(
    name="shared_instance_masks",
    doc=__doc__,
    columns=(
        Column(name="shared_set_id", type=pa.string(), doc="set"),
        Column(name="ds", type=pa.string(), doc="day of the instance"),
        Column(name="instance_id", type=pa.int64(), doc="instance"),
        Column(name="scenario_id", type=pa.int32(), doc="its scenario"),
        Column(name="shared_score", type=pa.float32(), doc="p of eq. 9, selector in eval mode"),
        Column(
            name="rank_pct",
            type=pa.float64(),
            doc="(#lower + #equal/2 + 1/2) / (N+1) of the score among the N rows of the set's window; in (0, 1)",
        ),
        Column(name="rank_pct_scenario", type=pa.float64(), doc="the same among the window rows of its scenario"),
        Column(name="is_shared", type=pa.bool_(), doc="shared_score > threshold of the set (eq. 10)"),
        Column(
            name="features_files",
            type=pa.string(),
            volatile=True,
            doc="digest of the names of the feature files that were scored; a day with other files is scored again",
        ),
    ),
    written_by="score_shared_instances",
    keys=("shared_set_id", "ds", "instance_id"),
    partition_by=("shared_set_id", "ds"),
    constraints=(
        Constraint(name="score_is_probability", sql="shared_score >= 0 AND shared_score <= 1"),
        Constraint(name="rank_is_inside", sql="rank_pct > 0 AND rank_pct < 1"),
        Constraint(name="scenario_rank_is_inside", sql="rank_pct_scenario > 0 AND rank_pct_scenario < 1"),
    ),
)
