"""Raw log -> canonical impressions; rows that break the contract -> quarantine. Pure: no reads, no writes.

`classify` gives every raw row its canonical columns and a verdict; `impressions`, `quarantine`, `truth` select from it.
Every raw row gets exactly one verdict, so rows in = impressions + quarantine.
"""

from __future__ import annotations

from datetime import date
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StructType

from jobs.transforms.event_time import event_time
from schemas.blocks import ScenarioSpec
from schemas.dataset_spec import DatasetSpec
from schemas.field_spec import FieldSpec
from schemas.tables import get_table

# Columns that adapters add to the log's own.
SOURCE = "_source"  # file or generator
REFUSED_REASON = "_refused_reason"  # null, or why the adapter could not read the row
REFUSED_DETAIL = "_refused_detail"
CLICK_PROBABILITY = "_click_probability"  # generated log only
IS_SHAREABLE = "_is_shareable"
ADAPTER_COLUMNS = (SOURCE, REFUSED_REASON, REFUSED_DETAIL, CLICK_PROBABILITY, IS_SHAREABLE)

REASON = "_reason"
DETAIL = "_detail"
RAW_RECORD = "_raw_record"
_RAW, _KEY, _VERDICT = "_raw", "_natural_key", "_verdict"


def classify(raw: DataFrame, dataset: DatasetSpec, ds: date) -> DataFrame:
    """Each raw row once, with the columns of `impressions`, `_reason` and `_detail` (null where it is accepted).

    `raw` holds the log's columns (of any type) and `_source`, `_refused_reason`, `_refused_detail`. Reasons, the first
    that applies: the adapter's own (unreadable_record, ...), bad_time, time_outside_day, null_user, null_item,
    unknown_scenario, bad_label, bad_number, duplicate. Of rows with the same natural key the least by content
    is kept, whatever file it came from.
    """
    own = [_column(name) for name in raw.columns if name not in ADAPTER_COLUMNS]
    kept = [F.col(name) for name in ADAPTER_COLUMNS if name in raw.columns]
    parsed = raw.select(F.struct(*own).alias(_RAW), *kept, *_parsed(raw, dataset, ds))
    keyed = parsed.select(
        "*",
        _natural_key(dataset).alias(_KEY),
        _verdict(dataset, ds).alias(_VERDICT),
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
    """Accepted rows, as schemas/tables/impressions.py says."""
    spec = get_table("impressions").for_dataset(dataset)
    return classified.where(F.col(REASON).isNull()).select(*spec.column_names)


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


def required_columns(dataset: DatasetSpec) -> list[str]:
    """Distinct columns of the log that the data set's YAML names, in order."""
    columns = dataset.columns
    names = [columns.event_time.column, columns.user, columns.item, columns.label.column, dataset.scenario.column]
    names += [columns.value] if columns.value else []
    names += [*columns.natural_key, *(field.source for field in dataset.fields)]
    return list(dict.fromkeys(names))


def _parsed(raw: DataFrame, dataset: DatasetSpec, ds: date) -> list[Column]:
    """The columns of `impressions` except instance_id; null where the log's value is invalid."""
    return [
        F.lit(str(ds)).alias("ds"),
        event_time(raw, dataset.columns.event_time).alias("event_ts"),
        _scenario_id(dataset.scenario).alias("scenario_id"),
        _text(dataset.columns.user).alias("user_id"),
        _text(dataset.columns.item).alias("item_id"),
        _label(dataset).alias("label"),
        _value(dataset).alias("value"),
        *[_field(raw.schema, field).alias(field.raw_column) for field in dataset.fields],
    ]


def _verdict(dataset: DatasetSpec, ds: date) -> Column:
    """Struct (reason, detail) for parsed rows, duplicates aside; null where the row is accepted."""
    columns = dataset.columns
    checks = [
        (F.col("event_ts").isNull(), "bad_time", columns.event_time.column),
        (F.to_date("event_ts") != F.lit(ds), "time_outside_day", columns.event_time.column),
        (F.col("user_id").isNull(), "null_user", columns.user),
        (F.col("item_id").isNull(), "null_item", columns.item),
        (F.col("scenario_id").isNull(), "unknown_scenario", dataset.scenario.column),
        (F.col("label").isNull(), "bad_label", columns.label.column),
    ]
    numbers = {columns.value: "value"} if columns.value else {}
    numbers |= {field.source: field.raw_column for field in dataset.fields if field.kind == "numeric"}
    checks += [(_is_bad_number(name, parsed), "bad_number", name) for name, parsed in numbers.items()]
    verdict = F.lit(None).cast("struct<reason:string,detail:string>")
    for broken, reason, name in reversed(checks):
        value = F.coalesce(_raw_text(name), F.lit("null"))
        detail = F.concat(F.lit(f"{name}="), value)
        verdict = F.when(broken, F.struct(F.lit(reason).alias("reason"), detail.alias("detail"))).otherwise(verdict)
    adapters = F.struct(F.col(REFUSED_REASON).alias("reason"), F.col(REFUSED_DETAIL).alias("detail"))
    return F.when(F.col(REFUSED_REASON).isNotNull(), adapters).otherwise(verdict)


def _mark_duplicates(rows: DataFrame) -> DataFrame:
    """Refuse all but the least (by content, not file order) of the accepted rows with the same natural key."""
    accepted = F.col(_VERDICT).isNull()
    same_key = Window.partitionBy(accepted, _KEY).orderBy(RAW_RECORD, SOURCE)
    detail = F.concat(F.lit("natural key "), F.to_json(_KEY))
    duplicate = F.struct(F.lit("duplicate").alias("reason"), detail.alias("detail"))
    numbered = rows.withColumn("_nth", F.row_number().over(same_key))
    verdict = F.when(accepted & (F.col("_nth") > 1), duplicate).otherwise(F.col(_VERDICT))
    return numbered.withColumn(_VERDICT, verdict).drop("_nth")


def _natural_key(dataset: DatasetSpec) -> Column:
    """Struct that identifies a row; as text, so that the same log as CSV and as Parquet has the same keys."""
    if names := dataset.columns.natural_key:
        return F.struct(*[_raw_text(name).alias(name) for name in names])
    time = F.unix_micros("event_ts").cast("string")
    return F.struct(F.col("user_id").alias("user"), F.col("item_id").alias("item"), time.alias("event_us"))


def _instance_id(dataset: DatasetSpec) -> Column:
    """64-bit hash of the natural key. Nulls get a marker: xxhash64 skips them, and (a, null) would equal (null, a)."""
    names = dataset.columns.natural_key or ("user", "item", "event_us")
    return F.xxhash64(*[F.coalesce(F.col(_KEY).getField(name), F.lit("\u0000")) for name in names])


def _text(name: str) -> Column:
    """A column as text; null where it is blank."""
    text = _column(name).cast("string")
    return F.when(F.trim(text) != "", text)


def _number(name: str) -> Column:
    """A column as double; null where it is missing, not a number or NaN."""
    number = F.trim(_column(name).cast("string")).try_cast("double")
    return F.when(~F.isnan(number), number)


def _is_bad_number(name: str, parsed: str) -> Column:
    """Whether the raw column holds something that is neither missing (empty, NaN) nor a finite number."""
    text = F.lower(F.trim(_raw_text(name)))
    return ~text.isin("", "nan") & (F.col(parsed).isNull() | (F.abs(parsed) == float("inf")))


def _raw_text(name: str) -> Column:
    """A column of the log as text, in parsed rows."""
    return F.col(_RAW).getField(name).cast("string")


def _label(dataset: DatasetSpec) -> Column:
    """1, 0, or null where it is neither. Without a threshold, true and false count as 1 and 0."""
    label = dataset.columns.label
    number = _number(label.column)
    if label.threshold is not None:
        return F.when(number >= label.threshold, F.lit(1)).when(number < label.threshold, F.lit(0)).cast("int")
    text = F.lower(F.trim(_text(label.column)))
    return F.when((number == 1) | (text == "true"), 1).when((number == 0) | (text == "false"), 0).cast("int")


def _value(dataset: DatasetSpec) -> Column:
    return _number(dataset.columns.value) if dataset.columns.value else F.lit(None).cast("double")


def _scenario_id(scenario: ScenarioSpec) -> Column:
    """0 .. K-1 in the order of the names; null where the row belongs to no scenario."""
    none = F.lit(None).cast("int")
    if scenario.buckets is None:
        text = F.trim(_text(scenario.column))
        return reduce(
            lambda rest, pair: F.when(text == pair[1], F.lit(pair[0])).otherwise(rest), enumerate(scenario.names), none
        )
    number = _number(scenario.column)
    edges = scenario.buckets.edges
    inside = reduce(  # buckets include their lower edge
        lambda rest, pair: F.when(number < pair[1], F.lit(pair[0])).otherwise(rest),
        reversed(list(enumerate(edges))),
        F.lit(len(edges)),
    )
    return F.when(number.isNotNull(), inside).otherwise(none)


def _field(schema: StructType, field: FieldSpec) -> Column:
    """A field's raw value: text, number, or the list of texts of a multi-valued one."""
    if field.kind == "numeric":
        return _number(field.source)
    if field.kind == "categorical":
        return _text(field.source)
    kind = schema[field.source].dataType if field.source in schema.names else None
    if isinstance(kind, ArrayType):
        values = _column(field.source).cast("array<string>")
    else:
        values = F.split(_text(field.source), _literal_pattern(field.separator))
    return F.filter(F.transform(values, lambda value: F.trim(value)), lambda value: value != "")


def _literal_pattern(separator: str) -> str:
    return "\\Q" + separator + "\\E"


def _column(name: str) -> Column:
    """A column of the log; its name may hold dots or blanks."""
    return F.col("`" + name.replace("`", "``") + "`")
