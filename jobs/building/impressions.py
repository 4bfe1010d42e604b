"""A day of `impressions` and `quarantine`: read, classify, audit, publish, and record the row counts."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.adapters import read_days
from jobs.adapters.raw_log import source_path
from jobs.auditing.expectations import AuditResult, run_expectations
from jobs.transforms import canonical
from lake.audits import days_with_passed_audit
from lake.rows import write_rows
from lake.spark_writer import publish
from schemas.dataset_spec import DatasetSpec
from schemas.errors import AuditFailedError, SourceError
from schemas.tables import get_table
from schemas.tables.audits import Audit

log = logging.getLogger(__name__)

IMPRESSIONS = "impressions"


@dataclass(frozen=True, kw_only=True)
class RowCounts:
    """Where a day's rows went."""

    rows_in: int
    rows_per_scenario: dict[str, int]
    quarantine_reasons: dict[str, int]

    @property
    def rows_accepted(self) -> int:
        return sum(self.rows_per_scenario.values())

    @property
    def rows_quarantined(self) -> int:
        return sum(self.quarantine_reasons.values())


def ensure_ingested(spark: SparkSession, dataset: DatasetSpec, days: Sequence[date]) -> None:
    """Ingest those of `days` that `audits` does not show as published."""
    missing = sorted(set(days) - days_with_passed_audit(dataset, IMPRESSIONS, list(days)))
    if missing:
        log.info(f"{dataset.name} {', '.join(map(str, missing))}: not ingested yet, ingesting first")
        ingest_days(spark, dataset, missing)


def ingest_days(spark: SparkSession, dataset: DatasetSpec, days: Sequence[date]) -> None:
    """Publish `days`, one after the other, then again those published days before them that their files may complete.

    With days.late_days, day D's rows may lie in the files of later days: whenever one of these is ingested, D is made
    again, so that the tables depend on the files there are, not on the order of the runs.
    """
    for ds in days:
        check_day(dataset, ds)
    for ds, raw in read_days(spark, dataset, days):
        _ingest(raw, dataset, ds)
    earlier = {day for ds in days for day in dataset.days_before(ds, dataset.days.late_days)} - set(days)
    again = sorted(earlier & days_with_passed_audit(dataset, IMPRESSIONS, sorted(earlier))) if earlier else []
    for ds, raw in read_days(spark, dataset, again):
        log.info(f"{dataset.name} {ds}: making it again with the rows that came late (days.late_days)")
        _ingest(raw, dataset, ds)


def ingest_day(spark: SparkSession, dataset: DatasetSpec, ds: date) -> None:
    """Publish one day, and again the days before it that its file may complete. Raises as `_ingest` does."""
    ingest_days(spark, dataset, [ds])


def _ingest(raw: DataFrame, dataset: DatasetSpec, ds: date) -> None:
    """Publish one day from its rows of the log.

    Raises SourceError where the log or its rows are missing or `ds` lies outside the data set's days, AuditFailedError
    where an expectation of severity fail does not hold: then nothing but an audits row is written.
    """
    classified = canonical.classify(raw, dataset, ds).persist()
    try:
        counts = _count(raw, classified, dataset)
        if counts.rows_in == 0 and not dataset.days.allow_empty:
            place = source_path(dataset, ds) or dataset.source.adapter
            raise SourceError(
                f"the log of {dataset.name} at {place} has no rows for {ds}; "
                "deliver the day, or set days.allow_empty: true in the YAML to publish it empty"
            )
        audit = _audit(classified, dataset, counts)
        if audit.failures:
            _record(dataset, ds, counts, audit)
            raise AuditFailedError(
                f"{dataset.name} {ds}: nothing published, {len(audit.failures)} expectations do not hold: "
                f"{'; '.join(audit.failures)}; refused rows by reason: {counts.quarantine_reasons}; fix the log and "
                "run again"
            )
        _publish(classified, dataset, ds, counts)
        _record(dataset, ds, counts, audit)
    finally:
        classified.unpersist()
    log.info(
        f"{dataset.name} {ds}: {counts.rows_in} rows in = {counts.rows_accepted} published "
        f"{counts.rows_per_scenario} + {counts.rows_quarantined} quarantined {counts.quarantine_reasons}"
    )
    for warning in audit.warnings:
        log.warning(f"{dataset.name} {ds}: {warning}")


def check_day(dataset: DatasetSpec, ds: date) -> None:
    """Raise SourceError where the data set has no day `ds`."""
    first, last = dataset.days.start, dataset.days.end
    if ds < first or (last is not None and ds > last):
        raise SourceError(
            f"{ds} is no day of {dataset.name}, which has {first} .. {last or 'today'}; choose one of them or change "
            "days in its YAML"
        )


def _count(raw: DataFrame, classified: DataFrame, dataset: DatasetSpec) -> RowCounts:
    """Count raw and classified rows separately and compare: a row lost or doubled on the way is a bug."""
    groups = classified.groupBy(canonical.REASON, "scenario_id").agg(F.count(F.lit(1)).alias("rows")).collect()
    per_scenario = dict.fromkeys(dataset.scenario.names, 0)
    reasons: dict[str, int] = {}
    for group in groups:
        if group[canonical.REASON] is None:
            per_scenario[dataset.scenario.names[group["scenario_id"]]] += group["rows"]
        else:
            reasons[group[canonical.REASON]] = reasons.get(group[canonical.REASON], 0) + group["rows"]
    counts = RowCounts(
        rows_in=raw.count(), rows_per_scenario=per_scenario, quarantine_reasons=dict(sorted(reasons.items()))
    )
    if counts.rows_in != counts.rows_accepted + counts.rows_quarantined:
        raise RuntimeError(f"rows do not add up: {counts}")
    return counts


def _audit(classified: DataFrame, dataset: DatasetSpec, counts: RowCounts) -> AuditResult:
    """The table's expectations, and a warning per scenario without rows; an empty day that is allowed only warns."""
    if counts.rows_in == 0:
        return AuditResult(failures=(), warnings=("the day has no rows",))
    accepted = canonical.impressions(classified, dataset)
    result = run_expectations(accepted, get_table(IMPRESSIONS).for_dataset(dataset))
    silent = [name for name, rows in counts.rows_per_scenario.items() if rows == 0]
    warnings = result.warnings + tuple(f"scenario {name} has no rows" for name in silent)
    return AuditResult(failures=result.failures, warnings=warnings)


def _publish(classified: DataFrame, dataset: DatasetSpec, ds: date, counts: RowCounts) -> None:
    """Write the day's tables side by side: a publish plans and commits most of its time, on one core."""
    frames = {"quarantine": canonical.quarantine(classified), IMPRESSIONS: canonical.impressions(classified, dataset)}
    if (truth := canonical.truth(classified)) is not None:
        frames["generated_truth"] = truth
    partition = {"ds": str(ds)}
    with ThreadPoolExecutor(len(frames)) as pool:
        writes = {name: pool.submit(publish, frame, dataset, name, partition) for name, frame in frames.items()}
    rows = {name: write.result() for name, write in writes.items()}
    if (rows[IMPRESSIONS], rows["quarantine"]) != (counts.rows_accepted, counts.rows_quarantined):
        raise RuntimeError(f"{rows} rows published do not fit {counts}")


def _record(dataset: DatasetSpec, ds: date, counts: RowCounts, audit: AuditResult) -> None:
    failed = bool(audit.failures)
    published = dict.fromkeys(counts.rows_per_scenario, 0) if failed else counts.rows_per_scenario
    row = Audit(
        table_name=IMPRESSIONS,
        ds=str(ds),
        status="failed" if failed else "published",
        rows_in=counts.rows_in,
        rows_published=sum(published.values()),
        rows_quarantined=0 if failed else counts.rows_quarantined,
        rows_per_scenario=json.dumps(published),
        quarantine_reasons=json.dumps(counts.quarantine_reasons),
        warnings=json.dumps(audit.warnings),
        failures=json.dumps(audit.failures),
    )
    write_rows(dataset, [row])
