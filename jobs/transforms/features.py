"""Impressions of a day -> rows of `scenario_features`: ids, statistics and the pointer into the user's behaviours."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.transforms.encoding import VocabularyIndex, bin_id, with_categorical_id, with_multi_valued_ids
from jobs.transforms.sequences import user_key
from jobs.transforms.statistics import entity_column, statistic_columns
from schemas.dataset_spec import DatasetSpec, FieldSpec
from schemas.tables.scenario_features import TABLE


def scenario_features(
    impressions: DataFrame,
    index: VocabularyIndex,
    statistics: dict[str, DataFrame],
    sequences: DataFrame,
    dataset: DatasetSpec,
    version: str,
) -> DataFrame:
    """One row per impression of one day.

    `statistics` is from `scenario_statistics`, `sequences` the day's `behaviour_sequences`. hist_end is null where the
    user has no row in `sequences`, which then were not made from these impressions; the writer refuses nulls.
    """
    rows = impressions
    for field in dataset.fields:
        rows = _with_field(rows, index, field)
    for entity, frame in statistics.items():
        rows = _with_statistics(rows, frame, entity)
    rows = _with_hist_end(rows, sequences).withColumns({"user_key": user_key(), "vocabulary_version": F.lit(version)})
    return rows.select(*TABLE.for_dataset(dataset).column_names)


def _with_field(rows: DataFrame, index: VocabularyIndex, field: FieldSpec) -> DataFrame:
    column = f"f_{field.name}"
    if field.kind == "numeric":
        return rows.withColumn(column, bin_id(F.col(field.raw_column), index.lower_edges[field.name]))
    if field.kind == "multi_valued":
        return with_multi_valued_ids(rows, index, field, column)
    return with_categorical_id(rows, index, field.name, field.raw_column, column)


def _with_statistics(rows: DataFrame, statistics: DataFrame, entity: str) -> DataFrame:
    """0 where the scenario has not shown the user or item within the lookback."""
    joined = rows.join(statistics, ["scenario_id", entity_column(entity)], "left")
    return joined.withColumns({c: F.coalesce(F.col(c), F.lit(0)).cast("int") for c in statistic_columns(entity)})


def _with_hist_end(rows: DataFrame, sequences: DataFrame) -> DataFrame:
    """Number of the user's stored behaviours strictly before the impression: one at the same instant is not seen."""
    histories = sequences.select("user_id", "hist_event_ts")
    joined = rows.join(histories, "user_id", "left")
    return joined.withColumn("hist_end", _num_before("hist_event_ts", F.unix_micros("event_ts")))


def _num_before(times: str, now: Column) -> Column:
    is_known = F.col(times).isNotNull()
    return F.when(is_known, F.size(F.filter(times, lambda ts: ts < now))).cast("int")
