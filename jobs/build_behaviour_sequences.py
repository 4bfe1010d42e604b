"""Write a day's behaviour_sequences: each user's behaviours of the lookback up to the end of the day, oldest first.

Which events are behaviours, how many an impression sees and how old they may be stands in the data set's YAML
(sequence). Days of the lookback and a vocabulary that are missing are made first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs.build_vocabularies import ensure_vocabulary, load_vocabulary
from jobs.cli import StepArgs, progress, run_step
from jobs.ingest_impressions import ensure_ingested
from jobs.transforms.sequences import behaviour_sequences
from lake.reader import published_days, read_table
from lake.spark_session import get_session
from lake.spark_writer import publish, read_days
from schemas.dataset_spec import DatasetSpec

TABLE_NAME = "behaviour_sequences"


def ensure_sequences(spark: SparkSession, dataset: DatasetSpec, ds: date, version: str) -> None:
    """Build the day's sequences where they are missing or were made with another vocabulary version."""
    if ds in published_days(dataset, TABLE_NAME):
        column = read_table(dataset, TABLE_NAME, columns=["vocabulary_version"], days=[ds])["vocabulary_version"]
        if column.unique().to_pylist() == [version]:
            return
    build_day(spark, dataset, ds)


def build_day(spark: SparkSession, dataset: DatasetSpec, ds: date) -> None:
    """Write `behaviour_sequences` of one day that has a vocabulary."""
    started = time.monotonic()
    days = [*dataset.days_before(ds, dataset.sequence.lookback_days), ds]
    ensure_ingested(spark, dataset, days)
    version = ensure_vocabulary(spark, dataset, ds)
    names = dict.fromkeys([dataset.sequence.item_field, *dataset.sequence.attributes])
    columns = ["ds", "user_id", "event_ts", "instance_id", "scenario_id", "label", *[f"x_{name}" for name in names]]
    recent = read_days(spark, dataset, "impressions", days, columns)
    today = recent.where(F.col("ds") == str(ds))
    index = load_vocabulary(spark, dataset, version)
    rows = behaviour_sequences(today, recent, index, dataset, ds, version)
    num_users = publish(rows, dataset, TABLE_NAME, {"ds": str(ds)})
    seconds = time.monotonic() - started
    progress(f"{TABLE_NAME} {dataset.name} {ds}: {num_users} users, vocabulary {version}, {seconds:.1f} s")


def for_each_day(args: StepArgs, app_name: str, build: Callable[[SparkSession, DatasetSpec, date], None]) -> None:
    """Build the days asked for one after another in one session; those before the first vocabulary have nothing."""
    spark = get_session(app_name)
    for ds in args.days:
        if ds < args.dataset.first_feature_day:
            progress(f"{args.dataset.name} {ds}: no features before {args.dataset.first_feature_day}, nothing to do")
        else:
            build(spark, args.dataset, ds)


def step(args: StepArgs) -> None:
    """Sequences of the days asked for."""
    for_each_day(args, "build_behaviour_sequences", build_day)


if __name__ == "__main__":
    run_step(__doc__, step)
