"""Raw log -> canonical impressions, and what does not fit -> quarantine. Pure: no reads, no writes.

`judge` adds the canonical columns and a verdict to every raw row; `impressions`, `quarantine` and `truth` select from it.
Every raw row gets exactly one verdict, so rows in = impressions + quarantine.
"""

from __future__ import annotations

from datetime import date
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StructType

from jobs.transforms.event_time import event_time
from schemas.dataset_spec import DatasetSpec, FieldSpec, ScenarioSpec
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


def judge(raw: DataFrame, dataset: DatasetSpec, ds: date) -> DataFrame:
    """Each raw row once, with the columns of `impressions`, `_reason` and `_detail` (null where it is accepted).

    `raw` holds the log's columns (of any type) and `_source`, `_refused_reason`, `_refused_detail`. Reasons, the first that
    applies: the adapter's own (unreadable_record, ...), bad_time, time_outside_day, null_user, null_item, unknown_scenario,
    bad_label, bad_number, duplicate. Of rows with one natural key the first by content stays, whatever file it came from.
    """
    canonical = raw.select(
        F.lit(str(ds)).alias("ds"),
        _instance_id(raw, dataset).alias("instance_id"),
        event_time(raw, dataset.columns.event_time).alias("event_ts"),
        _scenario_id(dataset.scenario).alias("scenario_id"),
        _text(dataset.columns.user).alias("user_id"),
        _text(dataset.columns.item).alias("item_id"),
        _label(dataset).alias("label"),
        _value(dataset).alias("value"),
        *[_field(raw.schema, field).alias(field.raw_column) for field in dataset.fields],
        _raw_record(raw).alias(RAW_RECORD),
        *[F.col(name) for name in ADAPTER_COLUMNS if name in raw.columns],
        _natural_key(raw, dataset).alias("_natural_key"),
        _verdict(raw, dataset, ds).alias("_verdict"),
    )
    return (
        _mark_duplicates(canonical)
        .withColumns({REASON: F.col("_verdict.reason"), DETAIL: F.col("_verdict.detail")})
        .drop("_verdict", "_natural_key")
    )


def impressions(judged: DataFrame, dataset: DatasetSpec) -> DataFrame:
    """Accepted rows, as schemas/tables/impressions.py says."""
    spec = get_table("impressions").for_dataset(dataset)
    return judged.where(F.col(REASON).isNull()).select(*spec.column_names)


def quarantine(judged: DataFrame) -> DataFrame:
    """Refused rows, as schemas/tables/quarantine.py says."""
    refused = judged.where(F.col(REASON).isNotNull()).select(
        "ds",
        F.col(REASON).alias("reason"),
        F.coalesce(DETAIL, F.lit("")).alias("detail"),
        F.col(RAW_RECORD).alias("raw_record"),
        F.coalesce(SOURCE, F.lit("")).alias("source"),
    )
    return refused.select(*get_table("quarantine").column_names)


def truth(judged: DataFrame) -> DataFrame | None:
    """What the generator knows of the accepted rows, as schemas/tables/generated_truth.py says; None for other logs."""
    if CLICK_PROBABILITY not in judged.columns:
        return None
    accepted = judged.where(F.col(REASON).isNull())
    return accepted.select(
        "ds",
        "instance_id",
        F.col(CLICK_PROBABILITY).alias("click_probability"),
        F.col(IS_SHAREABLE).alias("is_shareable"),
    ).select(*get_table("generated_truth").column_names)


def required_columns(dataset: DatasetSpec) -> list[str]:
    """Columns of the log that the data set's YAML names, in order, each once."""
    columns = dataset.columns
    names = [columns.event_time.column, columns.user, columns.item, columns.label.column, dataset.scenario.column]
    names += [columns.value] if columns.value else []
    names += [*columns.natural_key, *(field.source for field in dataset.fields)]
    return list(dict.fromkeys(names))


def _verdict(raw: DataFrame, dataset: DatasetSpec, ds: date) -> Column:
    """Struct (reason, detail) of everything but duplicates; null where the row is accepted."""
    columns = dataset.columns
    time = event_time(raw, columns.event_time)
    checks = [
        (F.col(REFUSED_REASON).isNotNull(), F.col(REFUSED_REASON), F.col(REFUSED_DETAIL)),
        (time.isNull(), F.lit("bad_time"), _shown(columns.event_time.column)),
        (F.to_date(time) != F.lit(ds), F.lit("time_outside_day"), _shown(columns.event_time.column)),
        (_text(columns.user).isNull(), F.lit("null_user"), _shown(columns.user)),
        (_text(columns.item).isNull(), F.lit("null_item"), _shown(columns.item)),
        (_scenario_id(dataset.scenario).isNull(), F.lit("unknown_scenario"), _shown(dataset.scenario.column)),
        (_label(dataset).isNull(), F.lit("bad_label"), _shown(columns.label.column)),
    ]
    numbers = [columns.value] if columns.value else []
    numbers += [field.source for field in dataset.fields if field.kind == "numeric"]
    checks += [(_is_bad_number(name), F.lit("bad_number"), _shown(name)) for name in dict.fromkeys(numbers)]
    verdict = F.lit(None).cast("struct<reason:string,detail:string>")
    for broken, reason, detail in reversed(checks):
        verdict = F.when(broken, F.struct(reason.alias("reason"), detail.alias("detail"))).otherwise(verdict)
    return verdict


def _mark_duplicates(rows: DataFrame) -> DataFrame:
    """Refuse all but one of the accepted rows with one natural key: the least by content, so file order does not matter."""
    accepted = F.col("_verdict").isNull()
    same_key = Window.partitionBy(accepted, "_natural_key").orderBy(RAW_RECORD, SOURCE)
    detail = F.concat(F.lit("natural key "), F.to_json("_natural_key"))
    duplicate = F.struct(F.lit("duplicate").alias("reason"), detail.alias("detail"))
    numbered = rows.withColumn("_nth", F.row_number().over(same_key))
    return numbered.withColumn(
        "_verdict", F.when(accepted & (F.col("_nth") > 1), duplicate).otherwise(F.col("_verdict"))
    ).drop("_nth")


def _natural_key(raw: DataFrame, dataset: DatasetSpec) -> Column:
    """Struct of what names a row; text, so that the same log as CSV and as Parquet has the same keys."""
    columns = dataset.columns
    if columns.natural_key:
        return F.struct(*[F.col(_quoted(name)).cast("string").alias(name) for name in columns.natural_key])
    time = F.unix_micros(event_time(raw, columns.event_time)).cast("string")
    return F.struct(_text(columns.user).alias("user"), _text(columns.item).alias("item"), time.alias("event_us"))


def _instance_id(raw: DataFrame, dataset: DatasetSpec) -> Column:
    """64-bit hash of the natural key. Nulls are marked: the hash would skip them, and (a, null) equal (null, a)."""
    key = _natural_key(raw, dataset)
    names = dataset.columns.natural_key or ("user", "item", "event_us")
    return F.xxhash64(*[F.coalesce(key.getField(name), F.lit("\u0000")) for name in names])


def _raw_record(raw: DataFrame) -> Column:
    own = [F.col(_quoted(name)) for name in raw.columns if name not in ADAPTER_COLUMNS]
    return F.to_json(F.struct(*own), {"ignoreNullFields": "false"})


def _text(name: str) -> Column:
    """A column as text; blank counts as missing."""
    text = F.col(_quoted(name)).cast("string")
    return F.when(F.trim(text) != "", text)


def _number(name: str) -> Column:
    """A column as double; null where it is missing, not a number or NaN."""
    number = F.trim(F.col(_quoted(name)).cast("string")).try_cast("double")
    return F.when(~F.isnan(number), number)


def _is_bad_number(name: str) -> Column:
    text = F.lower(F.trim(_text(name)))
    missing = text.isNull() | (text == "nan")
    return ~missing & (_number(name).isNull() | (F.abs(_number(name)) == float("inf")))


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
    """0 .. K-1 in the order of the names, null where the row belongs to none."""
    none = F.lit(None).cast("int")
    if scenario.buckets is None:
        text = F.trim(_text(scenario.column))
        return reduce(
            lambda rest, pair: F.when(text == pair[1], F.lit(pair[0])).otherwise(rest), enumerate(scenario.names), none
        )
    number = _number(scenario.column)
    edges = scenario.buckets.edges
    inside = reduce(  # buckets hold their lower edge
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
        values = F.col(_quoted(field.source)).cast("array<string>")
    else:
        values = F.split(_text(field.source), _literal_pattern(field.separator))
    return F.filter(F.transform(values, F.trim), lambda value: value != "")


def _literal_pattern(separator: str) -> str:
    return "\\Q" + separator + "\\E"


def _shown(name: str) -> Column:
    value = F.coalesce(F.col(_quoted(name)).cast("string"), F.lit("null"))
    return F.concat(F.lit(f"{name}="), value)


def _quoted(name: str) -> str:
    """A column name that may hold dots or blanks."""
    return "`" + name.replace("`", "``") + "`"
