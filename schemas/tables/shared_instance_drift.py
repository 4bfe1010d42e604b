"""How one day's scores under one shared-instance set differ from those of the set's own window."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pyarrow as pa

from schemas.table_spec import Constraint, Doc, Row, TableSpec, columns_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift(Row):
    """A row of `shared_instance_drift`."""

    table: ClassVar[str] = "shared_instance_drift"

    ds: Annotated[str, Doc("day scored, outside the set's window")]
    shared_set_id: Annotated[str, Doc("set")]
    scenario_id: Annotated[int, Doc("scenario, -1 for all rows", type=pa.int32())]
    rows: Annotated[int, Doc("rows of the day")]
    share_rate: Annotated[float | None, Doc("share of them with is_shared; null: no rows")]
    window_share_rate: Annotated[float | None, Doc("the same of the set's window")]
    psi: Annotated[
        float | None,
        Doc("population stability index over the deciles of the window's scores; null: a side is empty"),
    ]
    is_drifted: Annotated[
        bool,
        Doc("psi or share rate beyond chance and beyond the limits at scoring time"),
    ]
    window_rows: Annotated[int, Doc("rows of the set's window")]


TABLE = TableSpec(
    name="shared_instance_drift",
    doc=__doc__,
    row=Drift,
    columns=columns_of(Drift),
    written_by="score_shared_instances",
    keys=("shared_set_id", "ds", "scenario_id"),
    partition_by=("shared_set_id", "ds"),
    constraints=(
        Constraint(name="psi_is_not_negative", sql="psi IS NULL OR psi >= 0"),
        Constraint(name="share_rate_is_rate", sql="share_rate IS NULL OR (share_rate >= 0 AND share_rate <= 1)"),
    ),
)
