"""Vocabularies: (field, value) -> id. A later version keeps every id of the one before and appends new values.

Ids are 1 .. n per field, 0 is out of vocabulary and not stored. New values are numbered by (count descending, value
ascending in bytes), so the same rows give the same ids on any engine and partitioning. An evicted value loses its id,
which no other value gets: one that comes back is a new value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.transforms.dense import dense_moments
from schemas.dataset_spec import DatasetSpec
from schemas.field_spec import BinningSpec, FieldSpec
from schemas.tables.vocabularies import ADDED, EVICTED, PUBLISHED, TABLE

LOWEST_EDGE = "-inf"
NO_BOUND = 2**31 - 1


def first_changes(impressions: DataFrame, dataset: DatasetSpec) -> DataFrame:
    """(field, value, id, change) of a lineage's first version, fitted on `impressions`: ids of values, the bins of
    numeric fields, and the moments of dense ones.
    """
    new = _numbered(_counts(impressions, stored_fields(dataset)))
    rows = new.where(F.col("id") <= _bound(dataset))
    bins = _bins(impressions, [f for f in dataset.fields if f.kind == "numeric"])
    if bins is not None:
        rows = rows.unionByName(bins)
    moments = dense_moments(impressions, dataset.dense_fields)
    if moments is not None:
        rows = rows.unionByName(moments)
    return rows.withColumn("change", F.lit(ADDED))


def next_changes(
    before: DataFrame, impressions: DataFrame, recent: DataFrame | None, dataset: DatasetSpec, day: date
) -> DataFrame:
    """(field, value, id, change) by which the version of `day` differs from the one before, which `before` made.

    `dataset` has the fields that the log has had so far. Evicted are values that no impression of the evict_after_days
    days before `day` has (`recent`; None where no field evicts). Then the values of `impressions` without an id are
    added, where max_ids leaves places.
    """
    live = live_values(before, dataset)
    counts = _counts(impressions, stored_fields(dataset)).join(
        live.select("field", "value"), ["field", "value"], "left_anti"
    )
    new = _numbered(counts)
    gone = None if recent is None else live.join(_seen(recent, dataset, day), ["field", "value"], "left_anti")
    if gone is not None:
        gone = gone.where(F.col("field").isin([f.name for f in evicting_fields(dataset)]))
    if any(f.max_ids for f in dataset.fields):
        new = _within_bounds(new, live, gone, dataset)
    last_ids = before.where(F.col("change") == ADDED).groupBy("field").agg(F.max("id").alias("last_id"))
    new = new.join(F.broadcast(last_ids), "field", "left")
    new = new.select("field", "value", (F.col("id") + F.coalesce("last_id", F.lit(0))).alias("id"))
    if (bins := _late_bins(before, impressions, dataset)) is not None:
        new = new.unionByName(bins)
    rows = new.withColumn("change", F.lit(ADDED))
    return rows if gone is None else rows.unionByName(gone.withColumn("change", F.lit(EVICTED)))


def live_values(changes: DataFrame, dataset: DatasetSpec) -> DataFrame:
    """(field, value, id) of the values that have an id after `changes`."""
    added = changes.where(F.col("change") == ADDED).select("field", "value", "id")
    if not evicting_fields(dataset):
        return added
    evicted = changes.where(F.col("change") == EVICTED).select("field", "id")
    return added.join(evicted, ["field", "id"], "left_anti").select("field", "value", "id")


def as_version(changes: DataFrame, version: str, fingerprint: str = "") -> DataFrame:
    """Rows of `vocabularies`: the changes and the record that marks the version as published."""
    spark = changes.sparkSession
    mark = spark.createDataFrame([("", fingerprint, 0, PUBLISHED)], "field string, value string, id int, change string")
    rows = changes.withColumn("id", F.col("id").cast("int")).unionByName(mark)
    return rows.withColumn("first_version", F.lit(version)).select(*TABLE.column_names)


def stored_fields(dataset: DatasetSpec) -> list[FieldSpec]:
    """Fields whose values have rows: neither bins nor hashes."""
    return [f for f in dataset.fields if f.kind != "numeric" and not f.is_hashed]


def evicting_fields(dataset: DatasetSpec) -> list[FieldSpec]:
    """Fields whose values can lose their ids."""
    return [f for f in dataset.fields if f.evict_after_days is not None]


def _within_bounds(new: DataFrame, live: DataFrame, gone: DataFrame | None, dataset: DatasetSpec) -> DataFrame:
    """`new` without the values for which max_ids leaves no place beside those that stay."""
    stay = live.groupBy("field").agg(F.count(F.lit(1)).alias("stay"))
    new = new.join(F.broadcast(stay), "field", "left").withColumn("stay", F.coalesce("stay", F.lit(0)))
    if gone is not None:
        leave = gone.groupBy("field").agg(F.count(F.lit(1)).alias("leave"))
        new = new.join(F.broadcast(leave), "field", "left")
        new = new.withColumn("stay", F.col("stay") - F.coalesce("leave", F.lit(0)))
    bound = _bound(dataset)
    return new.where(F.col("id") <= bound - F.col("stay")).select("field", "value", "id")


def _bound(dataset: DatasetSpec) -> Column:
    """max_ids of the row's field."""
    bounded = [f for f in dataset.fields if f.max_ids is not None]
    return _of_field(bounded, lambda f: f.max_ids or NO_BOUND, F.lit(NO_BOUND))


def _of_field(fields: Iterable[FieldSpec], value: Callable[[FieldSpec], int], default: Column) -> Column:
    """A number of the row's field."""
    number = default
    for f in fields:
        number = F.when(F.col("field") == f.name, F.lit(value(f))).otherwise(number)
    return number


def _seen(recent: DataFrame, dataset: DatasetSpec, day: date) -> DataFrame:
    """Distinct (field, value) that impressions of the field's evict_after_days days before `day` have."""
    pairs = []
    for f in evicting_fields(dataset):
        assert f.evict_after_days is not None
        is_recent = F.col("ds") >= str(day - timedelta(days=f.evict_after_days))
        pairs.append(F.when(is_recent, _pairs(f)).otherwise(_no_pairs()))
    values = recent.select(F.explode(F.concat(*pairs)).alias("pair")).select("pair.field", "pair.value")
    return values.where(F.col("value").isNotNull()).distinct()


def _counts(impressions: DataFrame, fields: Iterable[FieldSpec]) -> DataFrame:
    """(field, value, count of impressions) of the values that are frequent enough. One scan, one shuffle."""
    fields = list(fields)
    pairs = F.concat(_no_pairs(), *[_pairs(f) for f in fields])
    values = impressions.select(F.explode(pairs).alias("pair")).select("pair.field", "pair.value")
    counts = values.where(F.col("value").isNotNull()).groupBy("field", "value").agg(F.count(F.lit(1)).alias("count"))
    rare = [f for f in fields if f.min_count > 1]
    return counts.where(F.col("count") >= _of_field(rare, lambda f: f.min_count, F.lit(1)))


def _no_pairs() -> Column:
    return F.array().cast("array<struct<field:string,value:string>>")


def _pairs(field: FieldSpec) -> Column:
    """Array of (field, value) of one impression; a repeated value of a multi-valued field counts once."""
    raw = F.col(field.raw_column)
    if field.kind != "multi_valued":  # no lambda, so that Spark can compile it
        return F.array(_pair(field, raw))
    return F.transform(F.array_distinct(F.coalesce(raw, F.array())), lambda value: _pair(field, value))


def _pair(field: FieldSpec, value: Column) -> Column:
    return F.struct(F.lit(field.name).alias("field"), value.alias("value"))


def _numbered(counts: DataFrame) -> DataFrame:
    """(field, value, id from 1 by count descending, then value)."""
    order = Window.partitionBy("field").orderBy(F.desc("count"), F.asc("value"))
    return counts.select("field", "value", F.row_number().over(order).alias("id"))


def _late_bins(before: DataFrame, impressions: DataFrame, dataset: DatasetSpec) -> DataFrame | None:
    """Bins of the numeric fields with `since` that have none yet."""
    bins = _bins(impressions, [f for f in dataset.fields if f.kind == "numeric" and f.since is not None])
    return None if bins is None else bins.join(before.select("field").distinct(), "field", "left_anti")


def _bins(impressions: DataFrame, fields: list[FieldSpec]) -> DataFrame | None:
    """(field, value = lower edge as text, id = bin); None where no field is numeric.

    A bin holds lower edge <= x < next lower edge; the first one's lower edge is -inf.
    """
    if not fields:
        return None
    edges = impressions.agg(*[_inner_edges(f).alias(f.name) for f in fields])
    lists = F.array(*[
        F.struct(F.lit(f.name).alias("field"), F.concat(F.array(F.lit(LOWEST_EDGE)), F.col(f.name)).alias("edges"))
        for f in fields
    ])  # fmt: skip
    rows = edges.select(F.explode(lists).alias("bins"))
    rows = rows.select("bins.field", F.posexplode("bins.edges").alias("position", "value"))
    return rows.select("field", "value", (F.col("position") + 1).alias("id"))


def _inner_edges(field: FieldSpec) -> Column:
    """Ascending, distinct edges as text: those of the YAML, or exact quantiles (none where no row has a number)."""
    assert field.binning is not None
    if field.binning.edges is not None:
        edges = F.array(*[F.lit(repr(edge)) for edge in field.binning.edges])
        return F.coalesce(F.first(edges), edges)  # also where there is no row
    raw = F.col(field.raw_column)
    # An exact percentile does not depend on the order of rows; + 0.0 makes -0.0 and 0.0 one edge
    is_finite = F.abs(raw) < F.lit(float("inf"))  # NaN is above every number
    quantiles = F.percentile(F.when(is_finite, raw), _fractions(field.binning))
    distinct = F.array_distinct(F.transform(quantiles, lambda edge: edge + F.lit(0.0)))
    return F.coalesce(F.transform(distinct, lambda edge: edge.cast("string")), F.array().cast("array<string>"))


def _fractions(binning: BinningSpec) -> list[float]:
    assert binning.quantiles is not None
    return [n / binning.quantiles for n in range(1, binning.quantiles)]
