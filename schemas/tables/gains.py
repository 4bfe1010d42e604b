"""Gains of a model's selected run on its test day over the floor and over no sharing, with paired intervals."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pyarrow as pa

from schemas.table_spec import Constraint, Doc, Row, TableSpec, columns_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain(Row):
    """A row of `gains`."""

    table: ClassVar[str] = "gains"

    ds: Annotated[str, Doc("test day")]
    model: Annotated[str, Doc("registered model name")]
    run_id: Annotated[str, Doc("the model's selected run")]
    ratio: Annotated[float, Doc("as in training_runs")]
    baseline: Annotated[str, Doc("floor (the logistic regression) or mt_backbone (the model's run of r = 0)")]
    baseline_run_id: Annotated[str, Doc("its run; the same as run_id where r = 0 is selected")]
    metric: Annotated[str, Doc("auc or logloss, of the calibrated probabilities")]
    scenario_id: Annotated[
        int, Doc("0 .. K-1, -1 for all rows together, -2 for the mean over scenarios", type=pa.int32())
    ]
    scenario: Annotated[str, Doc("its name, all or mean")]
    value: Annotated[float, Doc("the metric of the run")]
    baseline_value: Annotated[float, Doc("of the baseline, on the same rows")]
    gain: Annotated[float, Doc("their difference, positive where the run is better")]
    standard_error: Annotated[float, Doc("of the gain; rows of one user count as dependent")]
    low: Annotated[float, Doc("lower end of the 95 % interval of the gain")]
    high: Annotated[float, Doc("upper end")]
    p_value: Annotated[float, Doc("two-sided, for a gain of 0; not corrected for the number of comparisons")]


TABLE = TableSpec(
    name="gains",
    doc=__doc__,
    row=Gain,
    columns=columns_of(Gain),
    written_by="evaluate",
    keys=("run_id", "baseline", "metric", "scenario_id"),
    partition_by=("ds", "model"),
    constraints=(
        Constraint(name="baseline_is_known", sql="baseline IN ('floor', 'mt_backbone')"),
        Constraint(name="metric_is_known", sql="metric IN ('auc', 'logloss')"),
    ),
)
