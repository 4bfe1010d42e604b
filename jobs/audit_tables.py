"""Check a published day across tables: every impression has features, ids and pointers are in range, nothing is late.

Writes the row counts and failures of scenario_features and behaviour_sequences to audits; exit 3 where a check fails.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from jobs.building.days import for_each_feature_day
from jobs.building.sequences import SEQUENCES
from jobs.cli import StepArgs, StepOptions, run_step
from lake.provenance import IMPRESSIONS
from lake.rows import write_rows
from lake.spark_writer import read_days
from lake.vocabularies import num_ids
from schemas.dataset_spec import STATISTIC_IDS, DatasetSpec
from schemas.errors import AuditFailedError
from schemas.tables.audits import Audit

log = logging.getLogger(__name__)

GROUP = "daily"
FEATURES = "scenario_features"


@dataclass(kw_only=True)
class Finding:
    """One table's day: what was expected, what is there, what does not hold."""

    table: str
    rows_expected: int
    rows_found: int
    rows_per_scenario: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def audit_day(spark: SparkSession, dataset: DatasetSpec, ds: date) -> None:
    """Check one day that has features and record what was found.

    Raises TableError where a table is missing, AuditFailedError where something does not hold.
    """
    sizes = vocabulary_sizes(dataset, ds)
    findings = [_audit_features(spark, dataset, ds, sizes), _audit_sequences(spark, dataset, ds, sizes)]
    for finding in findings:
        _record(dataset, ds, finding)
        state = "; ".join(finding.failures) or "all checks hold"
        log.info(f"{dataset.name} {ds}: {finding.table}: {finding.rows_found} rows of {finding.rows_expected}: {state}")
    if broken := [f"{finding.table}: {text}" for finding in findings for text in finding.failures]:
        raise AuditFailedError(
            f"{dataset.name} {ds}: {'; '.join(broken)}; run build_behaviour_sequences and build_scenario_features for "
            f"{ds} again, and report it if that does not help"
        )


def vocabulary_sizes(dataset: DatasetSpec, ds: date) -> dict[str, int]:
    """Largest id per field in the version that `ds` uses; statistics have a fixed number of bins."""
    version = dataset.vocabulary_version(ds)
    found = num_ids(dataset, version) if version else {}
    return {f.name: STATISTIC_IDS - 1 if f.is_statistic else found.get(f.name, 0) for f in dataset.encoded_fields}


def _audit_features(spark: SparkSession, dataset: DatasetSpec, ds: date, sizes: dict[str, int]) -> Finding:
    features = read_days(spark, dataset, FEATURES, [ds])
    sequences = read_days(spark, dataset, SEQUENCES, [ds], ["user_key", "hist_event_ts"])
    seen = features.join(sequences, on="user_key", how="left")
    length, end, time = F.size("hist_event_ts"), F.col("hist_end"), F.unix_micros("event_ts")
    checks = {
        "rows whose user has no behaviour_sequences row": F.col("hist_event_ts").isNull(),
        "rows whose hist_end is beyond the user's behaviours": (end < 0) | (end > length),
        # F.get counts from 0 and gives null outside the array
        "rows that see a behaviour not before the impression": F.get("hist_event_ts", end - 1) >= time,
        "rows that miss a behaviour before the impression": F.get("hist_event_ts", end) < time,
        **_common_checks(dataset, ds),
        **{
            f"rows with an id of {f.name} outside 0..{sizes[f.name]}": _is_outside(
                f.column, f.max_values > 1, sizes[f.name]
            )
            for f in dataset.encoded_fields
        },
    }
    counts = _count(seen, checks, dataset)
    matched = _match_impressions(spark, dataset, ds, features)
    finding = Finding(
        table=FEATURES,
        rows_expected=matched["impressions"],
        rows_found=counts["rows"],
        rows_per_scenario={name: counts[f"scenario {name}"] for name in dataset.scenario.names},
        failures=_failures(counts, checks),
    )
    for text in ("impressions without features", "features without an impression"):
        if matched[text]:
            finding.failures.append(f"{matched[text]} {text}")
    if finding.rows_found != finding.rows_expected:
        finding.failures.append(f"{finding.rows_found} rows for {finding.rows_expected} impressions")
    return finding


def _match_impressions(spark: SparkSession, dataset: DatasetSpec, ds: date, features: DataFrame) -> Row:
    """How many impressions there are, and how many of one table the other lacks (by instance, scenario and labels)."""
    same = ["instance_id", "scenario_id", "label", *dataset.columns.label_columns.values()]
    left = read_days(spark, dataset, IMPRESSIONS, [ds], same).withColumn("is_impression", F.lit(True))
    right = features.select(*same).withColumn("is_feature", F.lit(True))
    joined = left.join(right, on=same, how="full_outer")
    return joined.agg(
        F.count("is_impression").alias("impressions"),
        F.count_if(F.col("is_feature").isNull()).alias("impressions without features"),
        F.count_if(F.col("is_impression").isNull()).alias("features without an impression"),
    ).collect()[0]


def _audit_sequences(spark: SparkSession, dataset: DatasetSpec, ds: date, sizes: dict[str, int]) -> Finding:
    sequences = read_days(spark, dataset, SEQUENCES, [ds])
    lists = ["hist_item_ids", "hist_scenario_ids", *(f"hist_f_{name}" for name in dataset.sequence.attributes)]
    first = _midnight_us(dataset, ds - timedelta(days=dataset.sequence.lookback_days))
    last = _midnight_us(dataset, ds + timedelta(days=1))
    times = F.col("hist_event_ts")
    uneven = [F.size(name) != F.size(times) for name in lists]
    checks = {
        "rows whose lists differ in length": F.array_contains(F.array(*uneven), True),
        "rows whose times do not ascend": F.sort_array(times) != times,
        "rows with a time outside the lookback": (F.array_min(times) < first) | (F.array_max(times) >= last),
        f"rows with a scenario outside 0..{dataset.num_scenarios - 1}": _is_outside(
            "hist_scenario_ids", True, dataset.num_scenarios - 1
        ),
        "rows with an item id outside the vocabulary": _is_outside(
            "hist_item_ids", True, sizes[dataset.sequence.item_field]
        ),
        "rows of another vocabulary version": _common_checks(dataset, ds)["rows of another vocabulary version"],
        **{
            f"rows with an id of {name} outside the vocabulary": _is_outside(f"hist_f_{name}", True, sizes[name])
            for name in dataset.sequence.attributes
        },
    }
    counts = _count(sequences, checks, None)
    users = read_days(spark, dataset, IMPRESSIONS, [ds], ["user_id"]).agg(F.count_distinct("user_id").alias("users"))
    finding = Finding(
        table=SEQUENCES,
        rows_expected=users.collect()[0]["users"],
        rows_found=counts["rows"],
        failures=_failures(counts, checks),
    )
    if finding.rows_found != finding.rows_expected:
        finding.failures.append(f"{finding.rows_found} rows for {finding.rows_expected} users of the day")
    return finding


def _common_checks(dataset: DatasetSpec, ds: date) -> dict[str, Column]:
    return {
        "rows of another vocabulary version": F.col("vocabulary_version") != F.lit(dataset.vocabulary_version(ds)),
        "rows of an unknown scenario": ~F.col("scenario_id").between(0, dataset.num_scenarios - 1),
    }


def _is_outside(column: str, is_list: bool, largest: int) -> Column:
    low, high = (F.array_min(column), F.array_max(column)) if is_list else (F.col(column), F.col(column))
    return (low < 0) | (high > largest)


def _count(frame: DataFrame, checks: dict[str, Column], dataset: DatasetSpec | None) -> Row:
    """Rows, rows per scenario and rows that break each check, in one pass."""
    columns = [F.count(F.lit(1)).alias("rows")]
    columns += [F.count_if(broken).alias(text) for text, broken in checks.items()]
    for scenario_id, name in enumerate(dataset.scenario.names if dataset else ()):
        columns.append(F.count_if(F.col("scenario_id") == scenario_id).alias(f"scenario {name}"))
    return frame.agg(*columns).collect()[0]


def _failures(counts: Row, checks: dict[str, Column]) -> list[str]:
    return [f"{counts[text]} {text}" for text in checks if counts[text]]


def _midnight_us(dataset: DatasetSpec, day: date) -> int:
    return int(dataset.days.midnight(day).timestamp()) * 1_000_000


def _record(dataset: DatasetSpec, ds: date, finding: Finding) -> None:
    row = Audit(
        table_name=finding.table,
        ds=str(ds),
        status="failed" if finding.failures else "published",
        rows_in=finding.rows_expected,
        rows_published=finding.rows_found,
        rows_per_scenario=json.dumps(finding.rows_per_scenario),
        failures=json.dumps(finding.failures),
    )
    write_rows(dataset, [row])


def step(args: StepArgs[StepOptions]) -> None:
    """Check one day after the other in one session."""
    for_each_feature_day("audit_tables", args.dataset, args.days, audit_day)


if __name__ == "__main__":
    run_step(__doc__, step, StepOptions)
