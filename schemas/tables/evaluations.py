"""Metrics of one run on one split, per scenario and over all (scenario_id = -1)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pyarrow as pa

from schemas.table_spec import Constraint, Doc, Row, TableSpec, columns_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation(Row):
    """A row of `evaluations`."""

    table: ClassVar[str] = "evaluations"

    ds: Annotated[str, Doc("test day of the run")]
    model: Annotated[str, Doc("registered model name")]
    run_id: Annotated[str, Doc("run")]
    arm: Annotated[str, Doc("as in training_runs")]
    ratio: Annotated[float, Doc("as in training_runs")]
    is_selected: Annotated[bool, Doc("as in training_runs")]
    split: Annotated[str, Doc("validation or test")]
    scenario_id: Annotated[int, Doc("0 .. K-1, or -1 for all rows together", type=pa.int32())]
    scenario: Annotated[str, Doc("its name, or all")]
    rows: Annotated[int, Doc("rows")]
    positives: Annotated[int, Doc("rows with label 1")]
    auc: Annotated[float | None, Doc("null where the rows have one class; this and all below: after calibration")]
    auc_low: Annotated[float | None, Doc("lower end of the 95 % DeLong interval")]
    auc_high: Annotated[float | None, Doc("upper end")]
    mean_scenario_auc: Annotated[float | None, Doc("scenario -1 only: mean over scenarios")]
    single_class_scenarios: Annotated[int, Doc("scenario -1: scenarios without AUC; else 0 or 1", type=pa.int32())]
    logloss: Annotated[float | None, Doc("mean cross entropy, nats; null without rows")]
    calibration: Annotated[float | None, Doc("sum of probs / positives, null without any")]
    s_gauc: Annotated[float | None, Doc("AUC per session weighted by impressions (SFPNet)")]
    s_gauc_sessions: Annotated[int, Doc("sessions with both classes, which s_gauc covers")]
    ece: Annotated[
        float | None, Doc("expected calibration error: mean |predicted - observed| of ten bins of rows", added=True)
    ] = None
    ece_raw: Annotated[float | None, Doc("the same before calibration", added=True)] = None
    logloss_raw: Annotated[float | None, Doc("logloss before calibration", added=True)] = None
    calibration_raw: Annotated[float | None, Doc("sum of probs / positives before calibration", added=True)] = None


TABLE = TableSpec(
    name="evaluations",
    doc=__doc__,
    row=Evaluation,
    columns=columns_of(Evaluation),
    written_by="evaluate",
    keys=("run_id", "split", "scenario_id"),
    partition_by=("ds", "model"),
    constraints=(Constraint(name="split_is_known", sql="split IN ('validation', 'test')"),),
)
