"""A user's behaviours up to the end of a day, once per user and day; an impression points into them with hist_end."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.transforms.encoding import VocabularyIndex, categorical_ids, hash_id, known_or_zero
from schemas.dataset_spec import DatasetSpec
from schemas.table_spec import FINGERPRINT
from schemas.tables.behaviour_sequences import TABLE


def user_key() -> Column:
    """64-bit hash of user_id: joins tables and tensors without strings."""
    return F.xxhash64("user_id")


def behaviour_sequences(
    today: DataFrame,
    recent: DataFrame,
    index: VocabularyIndex,
    dataset: DatasetSpec,
    ds: date,
    version: str,
    fingerprint: str,
) -> DataFrame:
    """Rows of `behaviour_sequences`: one per user of `today`, empty arrays where a user has no behaviour.

    `today` holds the impressions of `ds`, `recent` those of the lookback's days and of `ds`. A row holds what the
    user's impressions of the day can see: the newest max_length behaviours before the first impression, and all
    behaviours of the day itself; nothing where max_length is 0.
    """
    users = today.groupBy("user_id").agg(F.min("event_ts").alias("first_ts"))
    behaviours = _behaviours(recent, index, dataset)
    fields = [c for c in behaviours.columns if c != "user_id"]
    behaviour = F.when(F.col("instance_id").isNotNull(), F.struct(*fields))  # collect_list skips nulls
    joined = users.join(behaviours, "user_id", "left")
    rows = joined.groupBy("user_id", "first_ts").agg(F.sort_array(F.collect_list(behaviour)).alias("all_behaviours"))
    rows = rows.withColumn("behaviours", _visible(dataset.sequence.max_length)).withColumns({
        "ds": F.lit(str(ds)),
        "vocabulary_version": F.lit(version),
        "user_key": user_key(),
        FINGERPRINT.name: F.lit(fingerprint),
        # a field of an array of structs is the array of that field
        "hist_event_ts": F.col("behaviours.ts"),
        "hist_item_ids": F.col("behaviours.item_id"),
        "hist_scenario_ids": F.col("behaviours.scenario_id"),
        **{f"hist_f_{name}": F.col(f"behaviours.f_{name}") for name in dataset.sequence.attributes},
    })  # fmt: skip
    return rows.select(*TABLE.for_dataset(dataset).column_names)


def _behaviours(recent: DataFrame, index: VocabularyIndex, dataset: DatasetSpec) -> DataFrame:
    """(user_id, ts in microseconds, instance_id, scenario_id, item_id, f_<attribute>): ordered by time as structs."""
    if dataset.sequence.max_length == 0:
        recent = recent.limit(0)
    if dataset.sequence.behaviour == "positive":
        recent = recent.where(F.col("label") == 1)
    item, attributes = dataset.sequence.item_field, dataset.sequence.attributes
    rows, fields = recent, {f.name: f for f in dataset.fields}
    for column, name in {"_item": item, **{f"f_{name}": name for name in attributes}}.items():
        buckets = fields[name].hash_buckets
        if buckets is not None:
            rows = rows.withColumn(column, hash_id(F.col(f"x_{name}"), buckets))
            continue
        rows = rows.join(categorical_ids(index, name, f"x_{name}", column), f"x_{name}", "left")
    return rows.select(
        "user_id",
        F.unix_micros("event_ts").alias("ts"),
        "instance_id",
        "scenario_id",
        known_or_zero("_item").alias("item_id"),
        *[known_or_zero(f"f_{name}").alias(f"f_{name}") for name in attributes],
    )


def _visible(max_length: int) -> Column:
    """`all_behaviours` without those older than the newest max_length before first_ts."""
    all_behaviours = F.col("all_behaviours")
    first = F.unix_micros("first_ts")
    num_before = F.size(F.filter(all_behaviours, lambda b: b["ts"] < first))
    start = F.greatest(num_before - F.lit(max_length), F.lit(0))
    return F.slice(all_behaviours, start + F.lit(1), F.size(all_behaviours))
