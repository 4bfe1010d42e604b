"""Vocabularies: (field, value) -> id. A later version keeps every id of the one before and appends new values.

Ids are 1 .. n per field, 0 is out of vocabulary and not stored. New values are numbered by (count descending, value
ascending in bytes), so the same rows give the same ids on any engine and partitioning.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from schemas.dataset_spec import DatasetSpec
from schemas.field_spec import BinningSpec, FieldSpec
from schemas.tables.vocabularies import TABLE

LOWEST_EDGE = "-inf"


def first_vocabulary(impressions: DataFrame, dataset: DatasetSpec, version: str) -> DataFrame:
    """The first version of a lineage, fitted on `impressions`: ids of values, and the bins of numeric fields.

    Returns rows of `vocabularies`.
    """
    rows = _numbered(_counts(impressions, dataset.fields))
    bins = _bins(impressions, [f for f in dataset.fields if f.kind == "numeric"])
    if bins is not None:
        rows = rows.unionByName(bins)
    return _as_version(rows.withColumn("first_version", F.lit(version)), version)


def next_vocabulary(previous: DataFrame, impressions: DataFrame, dataset: DatasetSpec, version: str) -> DataFrame:
    """`previous` with its ids, and after them the values of `impressions` that it does not have.

    Bins of numeric fields never change within a lineage. Returns rows of `vocabularies`.
    """
    known = previous.select("field", "value")
    counts = _counts(impressions, dataset.fields).join(known, ["field", "value"], "left_anti")
    last_ids = previous.groupBy("field").agg(F.max("id").alias("last_id"))
    new = _numbered(counts).join(F.broadcast(last_ids), "field", "left")
    new = new.withColumns({"id": F.col("id") + F.coalesce("last_id", F.lit(0)), "first_version": F.lit(version)})
    kept = previous.select("field", "value", "id", "first_version")
    return _as_version(kept.unionByName(new.select(kept.columns)), version)


def _as_version(rows: DataFrame, version: str) -> DataFrame:
    rows = rows.withColumn("vocabulary_version", F.lit(version)).withColumn("id", F.col("id").cast("int"))
    return rows.select(*TABLE.column_names)


def _counts(impressions: DataFrame, fields: Iterable[FieldSpec]) -> DataFrame:
    """(field, value, count of impressions) of the values that are frequent enough. One scan, one shuffle."""
    fields = [f for f in fields if f.kind != "numeric"]
    none = F.array().cast("array<struct<field:string,value:string>>")
    pairs = F.concat(none, *[_pairs(f) for f in fields])
    values = impressions.select(F.explode(pairs).alias("pair")).select("pair.field", "pair.value")
    counts = values.where(F.col("value").isNotNull()).groupBy("field", "value").agg(F.count(F.lit(1)).alias("count"))
    enough = F.lit(1)
    for f in fields:
        if f.min_count > 1:
            enough = F.when(F.col("field") == f.name, F.lit(f.min_count)).otherwise(enough)
    return counts.where(F.col("count") >= enough)


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
