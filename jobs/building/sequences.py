"""A day of `behaviour_sequences`."""

from __future__ import annotations

import logging
import time
from datetime import date

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.building.impressions import ensure_ingested
from jobs.building.vocabularies import ensure_vocabulary, load_vocabulary
from jobs.transforms.sequences import behaviour_sequences
from lake.provenance import IMPRESSIONS, made_of, record, stale_days
from lake.reader import published_days, read_table
from lake.spark_writer import publish, read_days
from schemas.dataset_spec import DatasetSpec

log = logging.getLogger(__name__)

SEQUENCES = "behaviour_sequences"


def ensure_sequences(spark: SparkSession, dataset: DatasetSpec, ds: date, version: str) -> None:
    """Build the day's sequences where they are missing, or were made of other rows, settings or vocabulary."""
    if ds in published_days(dataset, SEQUENCES) and not stale_days(dataset, SEQUENCES, [ds]):
        column = read_table(dataset, SEQUENCES, columns=["vocabulary_version"], days=[ds])["vocabulary_version"]
        if column.unique().to_pylist() == [version]:
            return
    build_sequences(spark, dataset, ds)


def build_sequences(spark: SparkSession, dataset: DatasetSpec, ds: date) -> None:
    """Write `behaviour_sequences` of one day that has a vocabulary."""
    started = time.monotonic()
    days = [*dataset.days_before(ds, dataset.sequence.lookback_days), ds]
    ensure_ingested(spark, dataset, days)
    version = ensure_vocabulary(spark, dataset, ds)
    names = dict.fromkeys([dataset.sequence.item_field, *dataset.sequence.attributes])
    columns = ["ds", "user_id", "event_ts", "instance_id", "scenario_id", "label", *[f"x_{name}" for name in names]]
    recent = read_days(spark, dataset, IMPRESSIONS, days, columns)
    today = recent.where(F.col("ds") == str(ds))
    index = load_vocabulary(spark, dataset, version)
    fingerprint = record(dataset, made_of(dataset, SEQUENCES, ds))
    rows = behaviour_sequences(today, recent, index, dataset, ds, version, fingerprint)
    num_users = publish(rows, dataset, SEQUENCES, {"ds": str(ds)})
    seconds = time.monotonic() - started
    log.info(f"{SEQUENCES} {dataset.name} {ds}: {num_users} users, vocabulary {version}, {seconds:.1f} s")
