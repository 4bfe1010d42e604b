"""A day of `impressions` and `quarantine`: read, classify, audit, publish, and record the row counts."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.adapters import read_days
from jobs.adapters.alignment import own_columns
from jobs.adapters.raw_log import source_path
from jobs.auditing.expectations import AuditResult, run_expectations
from jobs.auditing.measure import measure
from jobs.auditing.refused_rows import collect_refused, describe_refused, too_many_refused
from jobs.building.day_audit import RowCounts, compare_day, count_rows, failure_line, known_files, record_audit
from jobs.building.forgotten import refuse_forgotten
from jobs.transforms import canonical
from lake.audits import days_with_passed_audit
from lake.files import write_text
from lake.locations import data_docs_path
from lake.provenance import IMPRESSIONS, made_of, record, require_current
from lake.source_state import source_states
from lake.spark_writer import publish, spark_schema
from schemas.dataset_spec import DatasetSpec
from schemas.errors import AuditFailedError, SourceError
from schemas.table_spec import FINGERPRINT
from schemas.tables import get_table

log = logging.getLogger(__name__)


def ensure_ingested(spark: SparkSession, dataset: DatasetSpec, days: Sequence[date]) -> None:
    """Ingest those of `days` that `audits` does not show as published.

    Raises TableError where one was published with other settings than the YAML has now.
    """
    published = days_with_passed_audit(dataset, IMPRESSIONS, list(days))
    require_current(dataset, IMPRESSIONS, sorted(published))
    missing = sorted(set(days) - published)
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
    for ds, raw in _logs(spark, dataset, days):
        _ingest(raw, dataset, ds)
    earlier = {day for ds in days for day in dataset.days_before(ds, dataset.days.late_days)} - set(days)
    again = sorted(earlier & days_with_passed_audit(dataset, IMPRESSIONS, sorted(earlier))) if earlier else []
    for ds, raw in _logs(spark, dataset, again):
        log.info(f"{dataset.name} {ds}: making it again with the rows that came late (days.late_days)")
        _ingest(raw, dataset, ds)


def _logs(spark: SparkSession, dataset: DatasetSpec, days: Sequence[date]) -> Iterator[tuple[date, DataFrame]]:
    """The rows of each day, read with the fields that the log has had so far where each day has files of its own."""
    if not dataset.source.is_daily:
        return read_days(spark, dataset, days)
    return ((ds, raw) for day in days for ds, raw in read_days(spark, dataset.on(day), [day]))


def ingest_day(spark: SparkSession, dataset: DatasetSpec, ds: date) -> None:
    """Publish one day, and again the days before it that its file may complete. Raises as `_ingest` does."""
    ingest_days(spark, dataset, [ds])


def _ingest(raw: DataFrame, dataset: DatasetSpec, ds: date) -> None:
    """Publish one day from its rows of the log.

    Raises SourceError where the log or its rows are missing or `ds` lies outside the data set's days, AuditFailedError
    where too many rows are refused or an expectation of severity fail does not hold: then only the refused rows and an
    audits row are written, and impressions of an earlier ingest of the day stay.
    """
    fingerprint = record(dataset, made_of(dataset, IMPRESSIONS, ds))
    files = source_states(dataset, ds, known_files(dataset))
    classified = refuse_forgotten(canonical.classify(raw, dataset.on(ds), ds), dataset)
    classified = _completed(classified, dataset, fingerprint).persist()
    try:
        counts = count_rows(raw, classified, dataset)
        if counts.rows_in == 0 and not dataset.days.allow_empty:
            place = source_path(dataset, ds) or dataset.source.adapter
            raise SourceError(
                f"the log of {dataset.name} at {place} has no rows for {ds}; "
                "deliver the day, or set days.allow_empty: true in the YAML to publish it empty"
            )
        audit = _audit(classified, dataset, ds, counts)
        _keep_page(dataset, ds, audit.page)
        if audit.failures:
            _publish(classified, dataset, ds, counts, only_refused=True)
            record_audit(dataset, ds, counts, audit, files)
            raise AuditFailedError(failure_line(dataset, ds, audit))
        _publish(classified, dataset, ds, counts)
        profile = measure(canonical.impressions(classified, dataset), dataset, own_columns(raw))
        record_audit(dataset, ds, counts, audit, files, profile)
    finally:
        classified.unpersist()
    log.info(
        f"{dataset.name} {ds}: {counts.rows_in} rows in = {counts.rows_accepted} published "
        f"{counts.rows_per_scenario} + {counts.rows_quarantined} quarantined {counts.quarantine_reasons}"
    )
    for warning in [*audit.warnings, *compare_day(dataset, ds)]:
        log.warning(f"{dataset.name} {ds}: {warning}")


def check_day(dataset: DatasetSpec, ds: date) -> None:
    """Raise SourceError where the data set has no day `ds`."""
    first, last = dataset.days.start, dataset.days.end
    if ds < first or (last is not None and ds > last):
        raise SourceError(
            f"{ds} is no day of {dataset.name}, which has {first} .. {last or 'today'}; choose one of them or change "
            "days in its YAML"
        )


def _completed(classified: DataFrame, dataset: DatasetSpec, fingerprint: str) -> DataFrame:
    """With the fingerprint, and with nulls for the fields that the log of the day does not have yet."""
    types = {f.name: f.dataType for f in spark_schema(get_table(IMPRESSIONS).for_dataset(dataset))}
    later = {f.raw_column: F.lit(None).cast(types[f.raw_column]) for f in dataset.fields}
    absent = {name: value for name, value in later.items() if name not in classified.columns}
    return classified.withColumns({FINGERPRINT.name: F.lit(fingerprint), **absent})


def _audit(classified: DataFrame, dataset: DatasetSpec, ds: date, counts: RowCounts) -> AuditResult:
    """The share of refused rows, then the table's and the data set's expectations, and a warning per silent scenario.

    An empty day that is allowed only warns.
    """
    if counts.rows_in == 0:
        return AuditResult(failures=(), warnings=("the day has no rows",))
    if too_many_refused(counts.rows_in, counts.quarantine_reasons, dataset):
        refused = collect_refused(classified, counts.rows_in, counts.quarantine_reasons)
        return AuditResult(failures=(describe_refused(refused, dataset),), warnings=())
    accepted = canonical.impressions(classified, dataset)
    spec = get_table(IMPRESSIONS).for_dataset(dataset)
    result = run_expectations(accepted, spec, dataset.audit.expectations, title=f"{dataset.name} {ds}")
    silent = [name for name, rows in counts.rows_per_scenario.items() if rows == 0]
    warnings = result.warnings + tuple(f"scenario {name} has no rows" for name in silent)
    failures = tuple(
        f"{line}; refused rows by reason: {counts.quarantine_reasons}" if counts.rows_quarantined else line
        for line in result.failures
    )
    return AuditResult(failures=failures, warnings=warnings, page=result.page)


def _keep_page(dataset: DatasetSpec, ds: date, page: str | None) -> None:
    """Write the day's page of Data Docs, or remove that of an earlier ingest."""
    path = data_docs_path(dataset, ds)
    if page is None:
        path.unlink(missing_ok=True)
    else:
        write_text(path, page)


def _publish(
    classified: DataFrame, dataset: DatasetSpec, ds: date, counts: RowCounts, *, only_refused: bool = False
) -> None:
    """Write the day's tables side by side: a publish plans and commits most of its time, on one core."""
    frames = {"quarantine": canonical.quarantine(classified)}
    expected = {"quarantine": counts.rows_quarantined}
    if not only_refused:
        frames[IMPRESSIONS] = canonical.impressions(classified, dataset)
        expected[IMPRESSIONS] = counts.rows_accepted
        if (truth := canonical.truth(classified)) is not None:
            frames["generated_truth"] = truth
            expected["generated_truth"] = counts.rows_accepted
    partition = {"ds": str(ds)}
    with ThreadPoolExecutor(len(frames)) as pool:
        writes = {name: pool.submit(publish, frame, dataset, name, partition) for name, frame in frames.items()}
    rows = {name: write.result() for name, write in writes.items()}
    if rows != expected:
        raise RuntimeError(f"{rows} rows published do not fit {counts}")
