"""The verdict on a row of a log: the first reason to refuse it, with the value and, where it can be told, the cause."""

from __future__ import annotations

from datetime import date
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.transforms.event_time import epoch_hint, local_day
from jobs.transforms.raw_columns import REFUSED_DETAIL, REFUSED_REASON, id_columns
from jobs.transforms.values import RawValues
from schemas.blocks import label_column
from schemas.dataset_spec import DatasetSpec

_DECIMAL_COMMA = r"^[+-]?[\d.\u2019' ]*\d,\d+$"


def verdict(values: RawValues, dataset: DatasetSpec, ds: date) -> Column:
    """Struct (reason, detail) for rows with the columns of `impressions`, duplicates aside; null where accepted."""
    columns = dataset.columns
    time, zone = columns.event_time.column, dataset.days.time_zone
    day = local_day(F.col("event_ts"), zone)
    hint = epoch_hint(values.plain(time), columns.event_time)
    on_day = F.concat(F.lit(" is on "), day.cast("string"), F.lit(f" in {zone} (days.time_zone)"))
    checks = [
        (F.col("event_ts").isNull(), "bad_time", time, hint),
        (day != F.lit(ds), "time_outside_day", time, F.when(hint != "", hint).otherwise(on_day)),
    ]
    for name in id_columns(dataset):
        if (inexact := values.is_inexact(name)) is not None:
            checks.append((inexact, "float_id", name, F.lit("")))
    checks += [
        (F.col("user_id").isNull(), "null_user", columns.user, F.lit("")),
        (F.col("item_id").isNull(), "null_item", columns.item, F.lit("")),
        (F.col("scenario_id").isNull(), "unknown_scenario", dataset.scenario.column, _near_scenario(values, dataset)),
        (F.col("label").isNull(), "bad_label", columns.label.column, F.lit("")),
    ]
    for name, spec in columns.further_labels.items():
        checks.append((F.col(label_column(name)).isNull(), "bad_label", spec.column, F.lit("")))
    numbers = {columns.value: "value"} if columns.value else {}
    numbers |= {field.source: field.raw_column for field in dataset.fields if field.kind == "numeric"}
    for name, parsed in numbers.items():
        checks.append((_is_bad_number(values, name, parsed), "bad_number", name, _comma_hint(values, name)))
    own = F.lit(None).cast("struct<reason:string,detail:string>")
    for broken, reason, name, remark in reversed(checks):
        value = F.coalesce(values.column(name).cast("string"), F.lit("null"))
        detail = F.concat(F.lit(f"{name}="), value, remark)
        own = F.when(broken, F.struct(F.lit(reason).alias("reason"), detail.alias("detail"))).otherwise(own)
    adapters = F.struct(F.col(REFUSED_REASON).alias("reason"), F.col(REFUSED_DETAIL).alias("detail"))
    return F.when(F.col(REFUSED_REASON).isNotNull(), adapters).otherwise(own)


def _near_scenario(values: RawValues, dataset: DatasetSpec) -> Column:
    """'' or the scenario that the value differs from in case only."""
    scenario = dataset.scenario
    if scenario.values is None:
        return F.lit("")
    text = F.lower(values.text(scenario.column))
    near = reduce(
        lambda rest, name: F.when(text == name.lower(), F.lit(f" (scenario.values has {name!r})")).otherwise(rest),
        scenario.names,
        F.lit(""),
    )
    return F.coalesce(near, F.lit(""))


def _is_bad_number(values: RawValues, name: str, parsed: str) -> Column:
    """Whether the column holds something that is neither missing (empty, NaN) nor a finite number."""
    text = F.lower(values.plain(name))
    return text.isNotNull() & (text != "nan") & (F.col(parsed).isNull() | (F.abs(parsed) == float("inf")))


def _comma_hint(values: RawValues, name: str) -> Column:
    has_comma = F.coalesce(values.plain(name).rlike(_DECIMAL_COMMA), F.lit(False))
    return F.when(has_comma, F.lit(" (a decimal comma? write a point)")).otherwise(F.lit(""))
