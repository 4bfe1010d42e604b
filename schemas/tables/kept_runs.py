"""A run that is kept for ever, whatever the YAML's `retain` says, with everything that repeats it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar

from schemas.table_spec import Doc, Row, TableSpec, columns_of


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptRun(Row):
    """A row of `kept_runs`."""

    table: ClassVar[str] = "kept_runs"

    run_id: Annotated[str, Doc("a run of training_runs")]
    reason: Annotated[str, Doc("why, in words")]
    kept_at: Annotated[datetime, Doc("clock", volatile=True)]


TABLE = TableSpec(
    name="kept_runs",
    doc=__doc__,
    row=KeptRun,
    columns=columns_of(KeptRun),
    written_by="runs",
    keys=("run_id",),
    partition_by=(),
)
