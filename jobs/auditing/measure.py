"""Measure a day's impressions in one pass: the figures of jobs/auditing/profile.py."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.auditing.profile import DayProfile
from schemas.dataset_spec import DatasetSpec

_DIGITS = 6


def measure(accepted: DataFrame, dataset: DatasetSpec, columns: Sequence[str]) -> DayProfile:
    """The profile of accepted impressions of a log with `columns`.

    Persist them first: one aggregate, distinct values approximated.
    """
    nullable = [f.raw_column for f in dataset.fields] + (["value"] if dataset.columns.value else [])
    fields = [f for f in dataset.fields if f.kind != "numeric"]
    ids = {"user_id": dataset.columns.user, "item_id": dataset.columns.item}
    # Most data sets have user and item as fields too: once is enough
    counted = [name for name, source in ids.items() if source not in {f.source for f in fields}]
    counted += [f.raw_column for f in fields]
    row = accepted.agg(
        F.count(F.lit(1)).alias("rows"),
        F.avg("label").alias("label"),
        *[F.avg(F.when(_is_empty(accepted, name), 1.0).otherwise(0.0)).alias(f"null {name}") for name in nullable],
        *[F.approx_count_distinct(name).alias(f"distinct {name}") for name in counted],
    ).collect()[0]
    return DayProfile(
        rows=row["rows"],
        label_mean=round(row["label"] or 0.0, _DIGITS),
        null_share={name: round(row[f"null {name}"] or 0.0, _DIGITS) for name in nullable},
        distinct={name: row[f"distinct {name}"] for name in counted},
        columns=sorted(columns),
    )


def _is_empty(frame: DataFrame, name: str) -> Column:
    is_list = frame.schema[name].dataType.typeName() == "array"
    return F.col(name).isNull() | (F.size(name) == 0) if is_list else F.col(name).isNull()
