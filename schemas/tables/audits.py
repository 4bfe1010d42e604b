"""Audit of one table's day: rows read, published and quarantined, and the expectations that were violated."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from schemas.table_spec import Constraint, Doc, Row, TableSpec, columns_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit(Row):
    """A row of `audits`."""

    table: ClassVar[str] = "audits"

    table_name: Annotated[str, Doc("the audited table")]
    ds: Annotated[str, Doc("the audited day")]
    status: Annotated[str, Doc("published or failed")]
    rows_in: Annotated[int, Doc("rows read")]
    rows_published: Annotated[int, Doc("rows committed (0 where the audit failed)")]
    rows_quarantined: Annotated[int, Doc("rows refused, kept in quarantine, also of a day that failed")] = 0
    rows_per_scenario: Annotated[str, Doc("JSON: scenario name -> rows published")] = "{}"
    quarantine_reasons: Annotated[str, Doc("JSON: reason -> rows")] = "{}"
    warnings: Annotated[str, Doc("JSON list: violated expectations of severity warn")] = "[]"
    failures: Annotated[str, Doc("JSON list: violated expectations of severity fail")] = "[]"
    profile: Annotated[
        str | None,
        Doc("impressions, JSON: label mean, columns of the log, null share and distinct values per column", added=True),
    ] = None
    content_digest: Annotated[
        str | None, Doc("impressions: digest of the published rows, whatever their order", volatile=True, added=True)
    ] = None
    source_files: Annotated[
        str | None,
        Doc("impressions, JSON: file of the log -> size, modification time and digest", volatile=True, added=True),
    ] = None


TABLE = TableSpec(
    name="audits",
    doc=__doc__,
    row=Audit,
    columns=columns_of(Audit),
    written_by="ingest_impressions",
    keys=("table_name", "ds"),
    partition_by=("table_name", "ds"),
    constraints=(
        Constraint(name="status_is_known", sql="status IN ('published', 'failed')"),
        Constraint(
            name="nothing_is_lost",
            sql="status = 'failed' OR rows_in = rows_published + rows_quarantined",
        ),
    ),
)
