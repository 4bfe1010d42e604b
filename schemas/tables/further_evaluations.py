"""As evaluations, of a run's labels beside the main one; written for data sets with columns.further_labels."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from schemas.table_spec import Constraint, Doc, TableSpec, columns_of
from schemas.tables.evaluations import Evaluation


@dataclass(frozen=True, kw_only=True, slots=True)
class FurtherEvaluation(Evaluation):
    """A row of `further_evaluations`; `positives` and all metrics are of the label."""

    table: ClassVar[str] = "further_evaluations"

    label: Annotated[str, Doc("name in columns.further_labels")]


TABLE = TableSpec(
    name="further_evaluations",
    doc=__doc__,
    row=FurtherEvaluation,
    columns=columns_of(FurtherEvaluation),
    written_by="evaluate",
    keys=("run_id", "split", "label", "scenario_id"),
    partition_by=("ds", "model"),
    constraints=(Constraint(name="split_is_known", sql="split IN ('validation', 'test')"),),
)
