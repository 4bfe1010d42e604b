"""Impressions of a day -> rows of `scenario_features`: ids, statistics and the pointer into the user's behaviours."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.transforms.dense import NO_MOMENTS, dense_value
from jobs.transforms.encoding import (
    VocabularyIndex,
    bin_id,
    categorical_ids,
    hash_id,
    hash_ids,
    known_or_none,
    known_or_zero,
    multi_valued_ids,
)
from jobs.transforms.sequences import user_key
from jobs.transforms.statistics import entity_column, statistic_columns
from schemas.dataset_spec import DatasetSpec
from schemas.field_spec import FieldSpec
from schemas.table_spec import FINGERPRINT
from schemas.tables.scenario_features import TABLE


def scenario_features(
    impressions: DataFrame,
    index: VocabularyIndex,
    statistics: dict[str, DataFrame],
    sequences: DataFrame,
    dataset: DatasetSpec,
    version: str,
    fingerprint: str,
) -> DataFrame:
    """One row per impression of one day.

    `statistics` is from `scenario_statistics`, `sequences` the day's `behaviour_sequences`. hist_end is null where the
    user has no row in `sequences`, which then were built from other impressions; the writer refuses nulls.
    """
    rows = impressions
    columns: dict[str, Column] = {}  # one projection at the end: every projection is analysed anew
    for field in dataset.fields:
        found = _lookup(impressions, index, field)
        rows = rows if found is None else rows.join(found, field.raw_column, "left")
        columns[f"f_{field.name}"] = _encoded(index, field)
        if field.dense is not None:
            columns[field.dense_column] = dense_value(field, index.moments.get(field.name, NO_MOMENTS))
    for entity, frame in statistics.items():
        rows = rows.join(frame, ["scenario_id", entity_column(entity)], "left")
        # 0 where the scenario has not shown the user or item within the lookback
        columns |= {name: known_or_zero(name) for name in statistic_columns(entity)}
    columns |= {"user_key": user_key(), "vocabulary_version": F.lit(version), FINGERPRINT.name: F.lit(fingerprint)}
    rows = _with_hist_end(rows, sequences).withColumns(columns)
    return rows.select(*TABLE.for_dataset(dataset).column_names)


def _lookup(impressions: DataFrame, index: VocabularyIndex, field: FieldSpec) -> DataFrame | None:
    """Raw value -> f_<name> (null where unknown); None for numbers and hashes, which need no join."""
    column = f"f_{field.name}"
    if field.kind == "numeric" or field.is_hashed:
        return None
    if field.kind == "multi_valued":
        return multi_valued_ids(impressions, index, field, column)
    return categorical_ids(index, field.name, field.raw_column, column)


def _encoded(index: VocabularyIndex, field: FieldSpec) -> Column:
    column = f"f_{field.name}"
    if field.kind == "numeric":
        return bin_id(F.col(field.raw_column), index.lower_edges.get(field.name, ()))
    if field.hash_buckets is not None:
        raw, buckets = F.col(field.raw_column), field.hash_buckets
        return hash_ids(raw, buckets, field.max_values) if field.kind == "multi_valued" else hash_id(raw, buckets)
    return known_or_none(column) if field.kind == "multi_valued" else known_or_zero(column)


def _with_hist_end(rows: DataFrame, sequences: DataFrame) -> DataFrame:
    """Number of the user's stored behaviours strictly before the impression; one at the same instant is not counted."""
    histories = sequences.select("user_id", "hist_event_ts")
    joined = rows.join(histories, "user_id", "left")
    return joined.withColumn("hist_end", _num_before("hist_event_ts", F.unix_micros("event_ts")))


def _num_before(times: str, now: Column) -> Column:
    is_known = F.col(times).isNotNull()
    return F.when(is_known, F.size(F.filter(times, lambda ts: ts < now))).cast("int")
