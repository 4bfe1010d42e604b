"""Read a day of the raw log, refuse what breaks the contract, audit the rest and publish it.

Writes impressions and quarantine (and generated_truth for the generated log), then the day's accounts in audits: that
row is written last, so a day without it has to be ingested again. Every row of the log is published or in quarantine.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.adapters import read_raw
from jobs.auditing.expectations import AuditResult, run_expectations
from jobs.cli import StepArgs, progress, run_step
from jobs.transforms import canonical
from lake.audits import published_days, record_accounts
from lake.spark_session import get_session
from lake.spark_writer import publish
from schemas.dataset_spec import DatasetSpec
from schemas.errors import AuditFailedError, SourceError
from schemas.tables import get_table

TABLE = "impressions"


@dataclass(frozen=True, kw_only=True)
class Accounts:
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


def ingest_day(spark: SparkSession, dataset: DatasetSpec, ds: date) -> None:
    """Publish one day.

    Raises SourceError where the log or its rows are missing or `ds` lies outside the data set's days, AuditFailedError
    where an expectation of severity fail does not hold: then nothing but an audits row is written.
    """
    _check_day(dataset, ds)
    raw = read_raw(spark, dataset, ds)
    judged = canonical.judge(raw, dataset, ds).persist()
    try:
        accounts = _count(raw, judged, dataset)
        _check_rows(accounts, dataset, ds)
        audit = _audit(judged, dataset, accounts)
        if audit.failures:
            _write_audit(dataset, ds, accounts, audit)
            raise AuditFailedError(
                f"{dataset.name} {ds}: nothing published, {len(audit.failures)} expectations do not hold: "
                f"{'; '.join(audit.failures)}; refused rows by reason: {accounts.quarantine_reasons}; mend the log and "
                "run again"
            )
        _publish(judged, dataset, ds, accounts)
        _write_audit(dataset, ds, accounts, audit)
    finally:
        judged.unpersist()
    _report(dataset, ds, accounts, audit)


def ensure_ingested(spark: SparkSession, dataset: DatasetSpec, days: list[date]) -> None:
    """Ingest those of `days` that `audits` does not show as published."""
    missing = sorted(set(days) - published_days(dataset, TABLE, days))
    for day in missing:
        progress(f"{dataset.name} {day}: not ingested yet, doing it first")
        ingest_day(spark, dataset, day)


def _check_day(dataset: DatasetSpec, ds: date) -> None:
    first, last = dataset.days.start, dataset.days.end
    if ds < first or (last is not None and ds > last):
        raise SourceError(
            f"{ds} is no day of {dataset.name}, which has {first} .. {last or 'today'}; choose one of them or change "
            "days in its YAML"
        )


def _count(raw: DataFrame, judged: DataFrame, dataset: DatasetSpec) -> Accounts:
    """Count the raw rows and the judged rows apart, and compare: a row lost or doubled on the way is a bug."""
    groups = judged.groupBy(canonical.REASON, "scenario_id").agg(F.count(F.lit(1)).alias("rows")).collect()
    per_scenario = dict.fromkeys(dataset.scenario.names, 0)
    reasons: dict[str, int] = {}
    for group in groups:
        if group[canonical.REASON] is None:
            per_scenario[dataset.scenario.names[group["scenario_id"]]] += group["rows"]
        else:
            reasons[group[canonical.REASON]] = reasons.get(group[canonical.REASON], 0) + group["rows"]
    accounts = Accounts(
        rows_in=raw.count(), rows_per_scenario=per_scenario, quarantine_reasons=dict(sorted(reasons.items()))
    )
    if accounts.rows_in != accounts.rows_accepted + accounts.rows_quarantined:
        raise RuntimeError(f"rows do not add up: {accounts}")
    return accounts


def _check_rows(accounts: Accounts, dataset: DatasetSpec, ds: date) -> None:
    if accounts.rows_in == 0 and not dataset.days.allow_empty:
        raise SourceError(
            f"the log of {dataset.name} at {dataset.source.path or dataset.source.adapter} has no rows for {ds}; "
            "deliver the day, or set days.allow_empty: true in the YAML to publish it empty"
        )


def _audit(judged: DataFrame, dataset: DatasetSpec, accounts: Accounts) -> AuditResult:
    """The table's expectations, and a warning per scenario without rows; a day that may be empty and is only warns."""
    if accounts.rows_in == 0:
        return AuditResult(failures=(), warnings=("the day has no rows",))
    accepted = canonical.impressions(judged, dataset)
    result = run_expectations(accepted, get_table(TABLE).for_dataset(dataset))
    silent = [name for name, rows in accounts.rows_per_scenario.items() if rows == 0]
    warnings = result.warnings + tuple(f"scenario {name} has no rows" for name in silent)
    return AuditResult(failures=result.failures, warnings=warnings)


def _publish(judged: DataFrame, dataset: DatasetSpec, ds: date, accounts: Accounts) -> None:
    """Write the day's tables side by side: a publish plans and commits most of its time, on one core."""
    frames = {"quarantine": canonical.quarantine(judged), TABLE: canonical.impressions(judged, dataset)}
    if (truth := canonical.truth(judged)) is not None:
        frames["generated_truth"] = truth
    partition = {"ds": str(ds)}
    with ThreadPoolExecutor(len(frames)) as pool:
        writes = {name: pool.submit(publish, frame, dataset, name, partition) for name, frame in frames.items()}
    rows = {name: write.result() for name, write in writes.items()}
    if (rows[TABLE], rows["quarantine"]) != (accounts.rows_accepted, accounts.rows_quarantined):
        raise RuntimeError(f"{rows} rows published do not fit {accounts}")


def _write_audit(dataset: DatasetSpec, ds: date, accounts: Accounts, audit: AuditResult) -> None:
    failed = bool(audit.failures)
    published = dict.fromkeys(accounts.rows_per_scenario, 0) if failed else accounts.rows_per_scenario
    row = {
        "table_name": TABLE,
        "ds": str(ds),
        "status": "failed" if failed else "published",
        "rows_in": accounts.rows_in,
        "rows_published": sum(published.values()),
        "rows_quarantined": 0 if failed else accounts.rows_quarantined,
        "rows_per_scenario": json.dumps(published),
        "quarantine_reasons": json.dumps(accounts.quarantine_reasons),
        "warnings": json.dumps(audit.warnings),
        "failures": json.dumps(audit.failures),
    }
    record_accounts(dataset, row)


def _report(dataset: DatasetSpec, ds: date, accounts: Accounts, audit: AuditResult) -> None:
    progress(
        f"{dataset.name} {ds}: {accounts.rows_in} rows in = {accounts.rows_accepted} published "
        f"{accounts.rows_per_scenario} + {accounts.rows_quarantined} quarantined {accounts.quarantine_reasons}"
    )
    for warning in audit.warnings:
        progress(f"{dataset.name} {ds}: warning: {warning}")


def step(args: StepArgs) -> None:
    """Ingest the days asked for, one after the other in one session."""
    for ds in args.days:
        _check_day(args.dataset, ds)  # before the engine starts
    spark = get_session(f"ingest_impressions {args.dataset.name}")
    for ds in args.days:
        ingest_day(spark, args.dataset, ds)


if __name__ == "__main__":
    run_step(__doc__, step)
