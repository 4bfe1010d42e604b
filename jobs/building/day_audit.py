"""The record of a day's ingest in `audits`: where its rows went, how they compare, and what they were read from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.auditing.expectations import AuditResult
from jobs.auditing.profile import DayProfile, warnings_of_day
from jobs.transforms import canonical
from lake.provenance import IMPRESSIONS
from lake.reader import published_days
from lake.rows import read_rows, write_rows
from lake.source_state import States, from_json, to_json
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.table_spec import FINGERPRINT
from schemas.tables import get_table
from schemas.tables.audits import Audit


@dataclass(frozen=True, kw_only=True)
class RowCounts:
    """Where a day's rows went."""

    rows_in: int
    rows_per_scenario: dict[str, int]
    quarantine_reasons: dict[str, int]
    content_digest: str

    @property
    def rows_accepted(self) -> int:
        return sum(self.rows_per_scenario.values())

    @property
    def rows_quarantined(self) -> int:
        return sum(self.quarantine_reasons.values())


def count_rows(raw: DataFrame, classified: DataFrame, dataset: DatasetSpec) -> RowCounts:
    """Count raw and classified rows separately and compare: a row lost or doubled on the way is a bug."""
    digest = F.sum(_row_hash(dataset).cast("decimal(38,0)")).alias("digest")
    groups = classified.groupBy(canonical.REASON, "scenario_id").agg(F.count(F.lit(1)).alias("rows"), digest).collect()
    accepted = sum(int(group["digest"]) for group in groups if group[canonical.REASON] is None)
    per_scenario = dict.fromkeys(dataset.scenario.names, 0)
    reasons: dict[str, int] = {}
    for group in groups:
        if group[canonical.REASON] is None:
            per_scenario[dataset.scenario.names[group["scenario_id"]]] += group["rows"]
        else:
            reasons[group[canonical.REASON]] = reasons.get(group[canonical.REASON], 0) + group["rows"]
    counts = RowCounts(
        rows_in=raw.count(),
        rows_per_scenario=per_scenario,
        quarantine_reasons=dict(sorted(reasons.items())),
        content_digest=f"{accepted % 2**64:016x}",
    )
    if counts.rows_in != counts.rows_accepted + counts.rows_quarantined:
        raise RuntimeError(f"rows do not add up: {counts}")
    return counts


def _row_hash(dataset: DatasetSpec) -> Column:
    """64-bit hash of an impression's content: the same whichever columns without a value the table has."""
    names = [c for c in get_table(IMPRESSIONS).column_names if c != FINGERPRINT.name]
    named = [*names, *sorted([*dataset.columns.label_columns.values(), *(f.raw_column for f in dataset.fields)])]
    # A null is skipped by the hash and a name is not, so that neither an absent column counts nor two of them swap
    return F.xxhash64(*[part for n in named for part in (F.when(F.col(n).isNotNull(), F.lit(n)), F.col(n))])


def failure_line(dataset: DatasetSpec, ds: date, audit: AuditResult) -> str:
    """The one line that a stopped day ends with."""
    look = command("quarantine", dataset, f"--ds {ds}")
    stays = " (impressions of an earlier ingest of the day stay)" if ds in published_days(dataset, IMPRESSIONS) else ""
    return (
        f"{dataset.name} {ds}: nothing published{stays}, its audit failed: {'; '.join(audit.failures)}. "
        f"'{look}' shows the refused rows; fix the log or the YAML and run again"
    )


def compare_day(dataset: DatasetSpec, ds: date) -> list[str]:
    """Where the published day differs from the days before it."""
    days = [ds - timedelta(days=n) for n in range(dataset.audit.compare_days + 1)]
    audits = read_rows(dataset, Audit, days=days, filters={"table_name": IMPRESSIONS})
    return warnings_of_day(audits, ds, dataset.audit)


def record_audit(
    dataset: DatasetSpec,
    ds: date,
    counts: RowCounts,
    audit: AuditResult,
    files: States,
    profile: DayProfile | None = None,
) -> None:
    """Write the day's row of `audits`. Where it failed, the digest stays that of an earlier ingest's impressions."""
    failed = bool(audit.failures)
    published = dict.fromkeys(counts.rows_per_scenario, 0) if failed else counts.rows_per_scenario
    row = Audit(
        table_name=IMPRESSIONS,
        ds=str(ds),
        status="failed" if failed else "published",
        rows_in=counts.rows_in,
        rows_published=sum(published.values()),
        rows_quarantined=counts.rows_quarantined,
        rows_per_scenario=json.dumps(published),
        quarantine_reasons=json.dumps(counts.quarantine_reasons),
        warnings=json.dumps(audit.warnings),
        failures=json.dumps(audit.failures),
        content_digest=_published_digest(dataset, ds) if failed else counts.content_digest,
        profile=profile.to_json() if profile else None,
        source_files=to_json(files) if files else None,
    )
    write_rows(dataset, [row])


def known_files(dataset: DatasetSpec) -> States:
    """Files that days before were read from, where all days are read from the same ones: not read again to compare."""
    if dataset.source.is_daily:
        return {}
    audits = read_rows(dataset, Audit, filters={"table_name": IMPRESSIONS})
    newest = max((audit for audit in audits if audit.source_files), key=lambda audit: audit.ds, default=None)
    return from_json(newest.source_files) if newest and newest.source_files else {}


def _published_digest(dataset: DatasetSpec, ds: date) -> str | None:
    """Digest of the impressions of an earlier ingest, which stay when a later one fails."""
    audits = read_rows(dataset, Audit, days=[ds], filters={"table_name": IMPRESSIONS})
    return audits[0].content_digest if audits else None
