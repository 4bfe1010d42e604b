"""Which set training uses from a day on instead of the newest one: the record with the greatest from_ds <= D decides.

A function of the day and of this table's content, never of a clock, so that a rerun of any day finds the same set.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, ClassVar

from schemas.table_spec import Doc, Row, TableSpec, columns_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin(Row):
    """A row of `shared_instance_pins`."""

    table: ClassVar[str] = "shared_instance_pins"

    from_ds: Annotated[str, Doc("first training day that the record applies to")]
    shared_set_id: Annotated[str | None, Doc("set; null: the newest set again")]
    recorded_at: Annotated[datetime, Doc("clock", volatile=True)]

    @property
    def first_day(self) -> date:
        """`from_ds` as a date."""
        return date.fromisoformat(self.from_ds)


TABLE = TableSpec(
    name="shared_instance_pins",
    doc=__doc__,
    row=Pin,
    columns=columns_of(Pin),
    written_by="shared_sets",
    keys=("from_ds",),
    partition_by=(),
)
