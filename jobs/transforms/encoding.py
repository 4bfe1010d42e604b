"""Raw values -> ids of one vocabulary version, with joins and expressions only."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from jobs.transforms.dense import standardised
from schemas.dataset_spec import DatasetSpec
from schemas.field_spec import FieldSpec

# A field's vocabulary with more values is joined by a shuffle instead of being broadcast
BROADCAST_VALUES = 200_000


@dataclass(frozen=True, kw_only=True)
class VocabularyIndex:
    """One vocabulary version, ready to encode with: its rows, each field's size, the lower edges of numeric fields,
    and (mean, deviation) of dense ones.
    """

    rows: DataFrame
    num_values: dict[str, int]
    lower_edges: dict[str, tuple[float, ...]]
    moments: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def values_of(self, name: str) -> DataFrame:
        """(value, id) of one field, to be broadcast where it is small."""
        values = self.rows.where(F.col("field") == name).select("value", "id")
        return F.broadcast(values) if self.num_values.get(name, 0) <= BROADCAST_VALUES else values


def index_vocabulary(vocabulary: DataFrame, dataset: DatasetSpec) -> VocabularyIndex:
    """Materialise one version for all fields, with sizes per field and the edges and moments of numeric fields."""
    # Each field joins these rows: planned from the table, every join would read Delta's log again
    kept = vocabulary.select("field", "value", "id").localCheckpoint()
    numeric = [f.name for f in dataset.fields if f.kind == "numeric"]
    numeric += [f.moments_field for f in standardised(dataset.dense_fields)]
    is_edge = F.col("field").isin(numeric) if numeric else F.lit(False)
    edges = F.collect_list(F.when(is_edge, F.struct("id", "value")))
    rows = kept.groupBy("field").agg(F.count(F.lit(1)).alias("size"), edges.alias("edges")).collect()
    numbers = {row["field"]: _as_numbers(row["edges"]) for row in rows if row["edges"]}
    return VocabularyIndex(
        rows=kept,
        num_values={row["field"]: row["size"] for row in rows},
        lower_edges=numbers,
        moments={f.name: numbers[f.moments_field] for f in standardised(dataset.dense_fields)},
    )


def _as_numbers(edges: list[Row]) -> tuple[float, ...]:
    return tuple(float(edge["value"]) for edge in sorted(edges, key=lambda edge: int(edge["id"])))


def categorical_ids(index: VocabularyIndex, field: str, raw_column: str, id_column: str) -> DataFrame:
    """(raw value, id) of one field under the given names, for a left join: null where a value is unknown."""
    return index.values_of(field).select(F.col("value").alias(raw_column), F.col("id").alias(id_column))


def multi_valued_ids(frame: DataFrame, index: VocabularyIndex, field: FieldSpec, id_column: str) -> DataFrame:
    """(raw list, ids) of each distinct list in `frame` that has a known value, for a left join.

    Ids are distinct, in the list's order, at most max_values. Each distinct list is encoded once: lists belong to few
    items or users, so that not all rows are shuffled.
    """
    raw = field.raw_column
    lists = frame.where(F.size(raw) > 0).select(raw).distinct()
    values = lists.select(raw, F.posexplode(F.array_distinct(raw)).alias("_position", "value"))
    known = values.join(index.values_of(field.name), "value", "inner")
    in_order = F.sort_array(F.collect_list(F.struct("_position", "id")))
    ids = F.slice(F.transform(in_order, lambda pair: pair["id"].cast("int")), 1, field.max_values)
    return known.groupBy(raw).agg(ids.alias(id_column))


def hash_id(value: Column, buckets: int) -> Column:
    """Id (int32) of a value of a field with hash_buckets; 0 for null."""
    bucket = F.pmod(F.xxhash64(value), F.lit(buckets).cast("long"))
    return F.when(value.isNull(), F.lit(0)).otherwise(F.lit(1) + bucket).cast("int")


def hash_ids(raw: Column, buckets: int, max_values: int) -> Column:
    """Ids of a list: distinct, in the list's order, at most max_values."""
    ids = F.transform(F.coalesce(raw, F.array().cast("array<string>")), lambda value: hash_id(value, buckets))
    return F.slice(F.array_remove(F.array_distinct(ids), 0), 1, max_values)


def known_or_zero(id_column: str) -> Column:
    """A joined id (int32); 0 where the value was null or unknown."""
    return F.coalesce(F.col(id_column), F.lit(0)).cast("int")


def known_or_none(id_column: str) -> Column:
    """Joined ids of a list (int32); empty where it was null or none of its values is known."""
    return F.coalesce(F.col(id_column), F.array().cast("array<int>"))


def bin_id(raw: Column, lower_edges: tuple[float, ...]) -> Column:
    """Bin (int32) of a number: how many lower edges it reaches; 0 for null and NaN."""
    edges = F.array(*[F.lit(edge) for edge in lower_edges]).cast("array<double>")
    reached = F.size(F.filter(edges, lambda edge: edge <= raw))
    return F.when(raw.isNull() | F.isnan(raw), F.lit(0)).otherwise(reached).cast("int")
