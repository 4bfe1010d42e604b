"""Raw log -> canonical impressions; rows that break the contract -> quarantine. Pure: no reads, no writes.

`classify` gives every raw row its canonical columns and a verdict; `impressions`, `quarantine`, `truth` select from it.
Every raw row gets exactly one verdict, so rows in = impressions + quarantine.
"""

from __future__ import annotations

from datetime import date
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.transforms.event_time import event_time
from jobs.transforms.raw_columns import (
    ADAPTER_COLUMNS,
    CLICK_PROBABILITY,
    IS_SHAREABLE,
    SOURCE,
)
from jobs.transforms.values import RawValues
from jobs.transforms.verdict import verdict
from schemas.blocks import LabelSpec, ScenarioSpec, label_column
from schemas.dataset_spec import DatasetSpec
from schemas.field_spec import FieldSpec
from schemas.table_spec import FINGERPRINT
from schemas.tables import get_table

REASON = "_reason"
DETAIL = "_detail"
RAW_RECORD = "_raw_record"
_RAW, _KEY, _VERDICT = "_raw", "_natural_key", "_verdict"
_YES, _NO = ("true", "t", "yes", "y"), ("false", "f", "no", "n")


def classify(raw: DataFrame, dataset: DatasetSpec, ds: date) -> DataFrame:
    """Each raw row once, with the columns of `impressions`, `_reason` and `_detail` (null where it is accepted).

    `raw` holds the log's columns (of any type) and `_source`, `_refused_reason`, `_refused_detail`. Reasons, the first
    that applies: the adapter's own (unreadable_record, ...), bad_time, time_outside_day, float_id, null_user,
    null_item, unknown_scenario, bad_label, bad_number, duplicate. Of rows with the same natural key the least by
    content is kept, whatever file it came from.
    """
    own = [_column(name) for name in raw.columns if name not in ADAPTER_COLUMNS]
    kept = [F.col(name) for name in ADAPTER_COLUMNS if name in raw.columns]
    nulls = dataset.source.null_values
    values = RawValues(schema=raw.schema, column=_column, null_values=nulls)
    parsed = raw.select(F.struct(*own).alias(_RAW), *kept, *_parsed(values, raw, dataset, ds))
    stored = RawValues(schema=raw.schema, column=lambda name: F.col(_RAW).getField(name), null_values=nulls)
    keyed = parsed.select(
        "*",
        _natural_key(stored, dataset).alias(_KEY),
        verdict(stored, dataset, ds).alias(_VERDICT),
        F.to_json(_RAW, {"ignoreNullFields": "false"}).alias(RAW_RECORD),
    )
    unique = _mark_duplicates(keyed)
    fixed = {
        "instance_id": _instance_id(dataset),
        REASON: F.col(_VERDICT).getField("reason"),
        DETAIL: F.col(_VERDICT).getField("detail"),
    }
    return unique.withColumns(fixed).drop(_VERDICT, _KEY, _RAW)


def impressions(classified: DataFrame, dataset: DatasetSpec) -> DataFrame:
    """Accepted rows, as schemas/tables/impressions.py says; their fingerprint where `classified` has one."""
    names = get_table("impressions").for_dataset(dataset).column_names
    known = [name for name in names if name != FINGERPRINT.name or name in classified.columns]
    return classified.where(F.col(REASON).isNull()).select(*known)


def quarantine(classified: DataFrame) -> DataFrame:
    """Refused rows, as schemas/tables/quarantine.py says."""
    refused = classified.where(F.col(REASON).isNotNull()).select(
        "ds",
        F.col(REASON).alias("reason"),
        F.coalesce(DETAIL, F.lit("")).alias("detail"),
        F.col(RAW_RECORD).alias("raw_record"),
        F.coalesce(SOURCE, F.lit("")).alias("source"),
    )
    return refused.select(*get_table("quarantine").column_names)


def truth(classified: DataFrame) -> DataFrame | None:
    """The planted truth of the accepted rows, as schemas/tables/generated_truth.py says; None for other logs."""
    if CLICK_PROBABILITY not in classified.columns:
        return None
    accepted = classified.where(F.col(REASON).isNull())
    return accepted.select(
        "ds",
        "instance_id",
        F.col(CLICK_PROBABILITY).alias("click_probability"),
        F.col(IS_SHAREABLE).alias("is_shareable"),
    ).select(*get_table("generated_truth").column_names)


def _parsed(values: RawValues, raw: DataFrame, dataset: DatasetSpec, ds: date) -> list[Column]:
    """The columns of `impressions` except instance_id; null where the log's value is invalid."""
    columns = dataset.columns
    value = values.number(columns.value) if columns.value else F.lit(None).cast("double")
    session = values.text(columns.session) if columns.session else F.lit(None).cast("string")
    return [
        F.lit(str(ds)).alias("ds"),
        event_time(raw, columns.event_time).alias("event_ts"),
        _scenario_id(values, dataset.scenario).alias("scenario_id"),
        values.text(columns.user).alias("user_id"),
        values.text(columns.item).alias("item_id"),
        label(values, columns.label).alias("label"),
        value.alias("value"),
        session.alias("session_id"),
        *[label(values, spec).alias(label_column(name)) for name, spec in columns.further_labels.items()],
        *[_field(values, field).alias(field.raw_column) for field in dataset.fields],
    ]


def _mark_duplicates(rows: DataFrame) -> DataFrame:
    """Refuse all but the least (by content, not file order) of the accepted rows with the same natural key."""
    accepted = F.col(_VERDICT).isNull()
    same_key = Window.partitionBy(accepted, _KEY).orderBy(RAW_RECORD, SOURCE)
    detail = F.concat(F.lit("natural key "), F.to_json(_KEY))
    duplicate = F.struct(F.lit("duplicate").alias("reason"), detail.alias("detail"))
    numbered = rows.withColumn("_nth", F.row_number().over(same_key))
    verdict = F.when(accepted & (F.col("_nth") > 1), duplicate).otherwise(F.col(_VERDICT))
    return numbered.withColumn(_VERDICT, verdict).drop("_nth")


def _natural_key(values: RawValues, dataset: DatasetSpec) -> Column:
    """Struct that identifies a row; canonical text, so that the same log as CSV and as Parquet has the same keys."""
    time = F.unix_micros("event_ts").cast("string")
    if names := dataset.columns.natural_key:
        when = dataset.columns.event_time.column
        return F.struct(*[(time if name == when else values.text(name)).alias(name) for name in names])
    return F.struct(F.col("user_id").alias("user"), F.col("item_id").alias("item"), time.alias("event_us"))


def _instance_id(dataset: DatasetSpec) -> Column:
    """64-bit hash of the natural key. Nulls get a marker: xxhash64 skips them, and (a, null) would equal (null, a)."""
    names = dataset.columns.natural_key or ("user", "item", "event_us")
    return F.xxhash64(*[F.coalesce(F.col(_KEY).getField(name), F.lit("\u0000")) for name in names])


def label(values: RawValues, spec: LabelSpec) -> Column:
    """1, 0, or null where it is neither. Without a threshold, words such as true and N count too, in any case."""
    number = values.number(spec.column)
    if spec.threshold is not None:
        return F.when(number >= spec.threshold, F.lit(1)).when(number < spec.threshold, F.lit(0)).cast("int")
    word = F.lower(values.plain(spec.column))
    return F.when((number == 1) | word.isin(*_YES), 1).when((number == 0) | word.isin(*_NO), 0).cast("int")


def _scenario_id(values: RawValues, scenario: ScenarioSpec) -> Column:
    """0 .. K-1 in the order of the names; null where the row belongs to no scenario."""
    none = F.lit(None).cast("int")
    if scenario.buckets is None:
        text = values.text(scenario.column)
        return reduce(
            lambda rest, pair: F.when(text == pair[1], F.lit(pair[0])).otherwise(rest), enumerate(scenario.names), none
        )
    number = values.number(scenario.column)
    edges = scenario.buckets.edges
    inside = reduce(  # buckets include their lower edge
        lambda rest, pair: F.when(number < pair[1], F.lit(pair[0])).otherwise(rest),
        reversed(list(enumerate(edges))),
        F.lit(len(edges)),
    )
    return F.when(number.isNotNull(), inside).otherwise(none)


def _field(values: RawValues, field: FieldSpec) -> Column:
    """A field's raw value: text, number, or the list of texts of a multi-valued one."""
    if field.kind == "numeric":
        return values.number(field.source)
    if field.kind == "categorical":
        return values.text(field.source)
    return values.texts(field.source, field.separator)


def _column(name: str) -> Column:
    """A column of the log; its name may hold dots or blanks."""
    return F.col("`" + name.replace("`", "``") + "`")
