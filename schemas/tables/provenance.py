"""What partitions were made of: the keys of the YAML and the inputs behind a spec_fingerprint, named by content."""

import json
from dataclasses import dataclass
from typing import Annotated, ClassVar

from schemas.provenance import MadeOf
from schemas.table_spec import Doc, Row, TableSpec, columns_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance(Row):
    """A row of `provenance`."""

    table: ClassVar[str] = "provenance"

    fingerprint: Annotated[str, Doc("digest of the other columns, as in spec_fingerprint")]
    table_name: Annotated[str, Doc("table that was made")]
    settings: Annotated[str, Doc("JSON: key of the YAML -> value, for the keys that decide the rows")]
    inputs: Annotated[str, Doc("JSON: `<table> <day>` -> digest of the rows that were read")]

    @classmethod
    def of(cls, made: MadeOf) -> "Provenance":
        """The row that records `made`."""
        return cls(
            fingerprint=made.fingerprint,
            table_name=made.table,
            settings=json.dumps(made.settings, sort_keys=True),
            inputs=json.dumps(dict(made.inputs), sort_keys=True),
        )

    @property
    def made_of(self) -> MadeOf:
        """What the row records."""
        return MadeOf(table=self.table_name, settings=json.loads(self.settings), inputs=json.loads(self.inputs))


TABLE = TableSpec(
    name="provenance",
    doc=__doc__,
    row=Provenance,
    columns=columns_of(Provenance),
    written_by="ingest_impressions",
    keys=("fingerprint",),
    partition_by=("fingerprint",),
)
