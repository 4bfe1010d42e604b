"""Metrics of one run on one split, per scenario and over all (scenario_id = -1)."""

import pyarrow as pa

from schemas.table_spec import Column, Constraint, TableSpec

TABLE = TableSpec(
    name="evaluations",
    doc=__doc__,
    columns=(
        Column(name="ds", type=pa.string(), doc="test day of the run"),
        Column(name="model", type=pa.string(), doc="registered model name"),
        Column(name="run_id", type=pa.string(), doc="run"),
        Column(name="arm", type=pa.string(), doc="as in training_runs"),
        Column(name="ratio", type=pa.float64(), doc="as in training_runs"),
        Column(name="is_selected", type=pa.bool_(), doc="as in training_runs"),
        Column(name="split", type=pa.string(), doc="validation or test"),
        Column(name="scenario_id", type=pa.int32(), doc="0 .. K-1, or -1 for all rows together"),
        Column(name="scenario", type=pa.string(), doc="its name, or all"),
        Column(name="rows", type=pa.int64(), doc="rows"),
        Column(name="positives", type=pa.int64(), doc="rows with label 1"),
        Column(name="auc", type=pa.float64(), nullable=True, doc="null where the rows have one class"),
        Column(name="auc_low", type=pa.float64(), nullable=True, doc="lower end of the 95 % DeLong interval"),
        Column(name="auc_high", type=pa.float64(), nullable=True, doc="upper end"),
        Column(name="mean_scenario_auc", type=pa.float64(), nullable=True, doc="scenario -1 only: mean over scenarios"),
        Column(name="single_class_scenarios", type=pa.int32(), doc="scenario -1: scenarios without AUC; else 0 or 1"),
        Column(name="logloss", type=pa.float64(), nullable=True, doc="mean cross entropy, nats; null without rows"),
        Column(name="calibration", type=pa.float64(), nullable=True, doc="sum of probs / positives, null without any"),
        Column(name="s_gauc", type=pa.float64(), nullable=True, doc="AUC per session weighted by impressions (SFPNet)"),
        Column(name="s_gauc_sessions", type=pa.int64(), doc="sessions with both classes, which s_gauc covers"),
    ),
    keys=("run_id", "split", "scenario_id"),
    partition_by=("ds", "model"),
    constraints=(Constraint(name="split_is_known", sql="split IN ('validation', 'test')"),),
)
