"""A day of `scenario_features`."""

from __future__ import annotations

import logging
import time
from datetime import date

import pyarrow.dataset as pds
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from jobs.building.impressions import ensure_ingested
from jobs.building.sequences import SEQUENCES, ensure_sequences
from jobs.building.vocabularies import ensure_vocabulary, load_vocabulary
from jobs.transforms.features import scenario_features
from jobs.transforms.statistics import scenario_statistics
from lake.provenance import IMPRESSIONS, made_of, record
from lake.reader import open_table
from lake.spark_writer import publish, read_days
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.field_spec import FieldSpec

log = logging.getLogger(__name__)

FEATURES = "scenario_features"


def build_day(spark: SparkSession, dataset: DatasetSpec, ds: date) -> None:
    """Write `scenario_features` of one day that has a vocabulary.

    Raises TableError where the rows out are not the rows in, or the day's sequences lack one of its users.
    """
    started = time.monotonic()
    lookback_days = dataset.statistics.lookback_days if dataset.statistics else 0
    past_days = dataset.days_before(ds, lookback_days)
    ensure_ingested(spark, dataset, [*past_days, ds])
    version = ensure_vocabulary(spark, dataset, ds)
    ensure_sequences(spark, dataset, ds, version)
    fingerprint = record(dataset, made_of(dataset, FEATURES, ds))
    impressions = read_days(spark, dataset, IMPRESSIONS, [ds])
    past = read_days(spark, dataset, IMPRESSIONS, past_days, ["scenario_id", "user_id", "item_id", "label"])
    rows = scenario_features(
        impressions,
        load_vocabulary(spark, dataset, version),
        scenario_statistics(past, dataset),
        read_days(spark, dataset, SEQUENCES, [ds], ["user_id", "hist_event_ts"]),
        dataset,
        version,
        fingerprint,
    )
    rows = rows.hint("rebalance", "scenario_id").persist()  # few files per partition; counted before it is written
    try:
        counts = _check_rows(rows, impressions, dataset, ds)
        publish(rows, dataset, FEATURES, {"ds": str(ds)})
    finally:
        rows.unpersist()
    seconds = time.monotonic() - started
    log.info(f"{FEATURES} {dataset.name} {ds}: {counts}; vocabulary {version}, {seconds:.1f} s")


def _num_impressions(dataset: DatasetSpec, ds: date) -> int:
    """Published impressions of the day, from the files' own counts."""
    impressions = open_table(dataset, IMPRESSIONS).to_pyarrow_dataset()
    return int(impressions.count_rows(filter=pds.field("ds") == str(ds)))


def _check_rows(rows: DataFrame, impressions: DataFrame, dataset: DatasetSpec, ds: date) -> str:
    """Rows per scenario and share without an id per field, one line; TableError where rows were lost or doubled."""
    no_id = [
        F.count_if(F.size(f"f_{f.name}") == 0 if f.kind == "multi_valued" else F.col(f"f_{f.name}") == 0).alias(f.name)
        for f in dataset.fields
    ]
    counts: list[Row] = (
        rows.groupBy("scenario_id")
        .agg(F.count(F.lit(1)).alias("rows"), F.count_if(F.col("hist_end").isNull()).alias("no_sequence"), *no_id)
        .collect()
    )
    num_rows, num_impressions = sum(row["rows"] for row in counts), _num_impressions(dataset, ds)
    if num_rows != num_impressions:
        raise TableError(
            f"features of {dataset.name} {ds}: {num_impressions} impressions made {num_rows} rows: the impressions "
            "changed meanwhile, or a key of the vocabulary or of behaviour_sequences repeats; run it again"
        )
    if orphans := sum(row["no_sequence"] for row in counts):
        again = command("build_behaviour_sequences", dataset, f"--ds {ds}")
        raise TableError(f"{orphans} impressions of {ds} have users without behaviour_sequences; run '{again}' again")
    names = dataset.scenario.names
    sizes = {names[row["scenario_id"]]: row["rows"] for row in sorted(counts, key=lambda row: row["scenario_id"])}
    without_id = {f.name: sum(row[f.name] for row in counts) for f in dataset.fields}
    scenarios = ", ".join(f"{name} {size}" for name, size in sizes.items())
    return f"{num_rows} rows ({scenarios}); {_coverage(impressions, without_id, num_rows, dataset)}"


def _coverage(impressions: DataFrame, without_id: dict[str, int], num_rows: int, dataset: DatasetSpec) -> str:
    """Per field, the share of rows without a value and of those whose value has no id: missing is not unknown."""
    missing = [
        F.count_if(F.coalesce(F.size(f.raw_column), F.lit(0)) <= 0 if f.kind == "multi_valued" else _is_missing(f))
        for f in dataset.fields
    ]
    nulls = impressions.agg(*[count.alias(f.name) for count, f in zip(missing, dataset.fields, strict=True)])
    num_null: Row = nulls.collect()[0]
    shares = [
        f"{f.name} null {num_null[f.name] / max(num_rows, 1):.2%} unknown "
        f"{(without_id[f.name] - num_null[f.name]) / max(num_rows, 1):.2%}"
        for f in dataset.fields
    ]
    return ", ".join(shares)


def _is_missing(field: FieldSpec) -> Column:
    raw = F.col(field.raw_column)
    return raw.isNull() | F.isnan(raw) if field.kind == "numeric" else raw.isNull()
