"""The event time of a log, in any of the supported forms, as a UTC timestamp; its day; hints on wrong formats."""

from __future__ import annotations

import zoneinfo

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampNTZType, TimestampType

from jobs.transforms.values import trimmed
from schemas.blocks import EventTimeSpec
from schemas.errors import DatasetSpecError

# Ticks per second, and the number of digits before the point that times from 2001 to 2286 have.
_EPOCHS = {"epoch_s": (1, 10), "epoch_ms": (1_000, 13), "epoch_us": (1_000_000, 16), "epoch_ns": (1_000_000_000, 19)}
_LAST_YEAR = 3000  # a later time is a number of other ticks
_FULL_DATE = r"^\d{4}-\d{1,2}-\d{1,2}"  # Spark also casts '12:30', to that time today
_HAS_OFFSET = r"[:\d](Z|z|\s*UTC|\s*GMT|[+-]\d{1,2}(:?\d{2})?|\s*[A-Za-z]+/[A-Za-z_/]+)$"
_OFFSET_LETTERS = "VzOXxZ"  # of a Spark datetime pattern


def event_time(raw: DataFrame, spec: EventTimeSpec) -> Column:
    """UTC timestamp of each row, null where it cannot be read. Needs a session in UTC (lake/spark_session.py).

    Text without an offset is wall-clock time in `spec.time_zone`. Timestamp columns (Parquet) are taken as they are. A
    number of ticks after the year 3000 is not read: it counts other ticks than `spec.format` says. Raises
    DatasetSpecError where the time zone does not exist.
    """
    _check_time_zone(spec.time_zone)
    column = F.col("`" + spec.column.replace("`", "``") + "`")
    kind = raw.schema[spec.column].dataType
    if isinstance(kind, TimestampType):
        return column
    if isinstance(kind, TimestampNTZType):
        return _from_wall_clock(column.cast("timestamp"), spec.time_zone)
    text = trimmed(column.cast("string"))
    if spec.format in _EPOCHS:
        ticks_per_second, _ = _EPOCHS[spec.format]
        micros = text.try_cast("decimal(38,9)") * F.lit(1_000_000) / F.lit(ticks_per_second)
        instant = F.timestamp_micros(F.floor(micros).try_cast("bigint"))
        return F.when(F.year(instant) <= _LAST_YEAR, instant)
    if spec.format == "iso":
        pointed = F.regexp_replace(text, r"(:\d{2}),(\d)", "$1.$2")  # Python's logging writes 10:00:00,250
        instant = F.when(pointed.rlike(_FULL_DATE), pointed.try_cast("timestamp"))
        has_offset = pointed.rlike(_HAS_OFFSET) & pointed.contains(":")
        return F.when(has_offset, instant).otherwise(_from_wall_clock(instant, spec.time_zone))
    parsed = F.try_to_timestamp(text, F.lit(spec.format))
    if any(letter in _unquoted(spec.format) for letter in _OFFSET_LETTERS):
        return parsed
    return _from_wall_clock(parsed, spec.time_zone)


def local_day(instant: Column, time_zone: str) -> Column:
    """The date of a UTC timestamp on the calendar of a time zone."""
    return F.to_date(instant if time_zone == "UTC" else F.from_utc_timestamp(instant, time_zone))


def epoch_hint(text: Column, spec: EventTimeSpec) -> Column:
    """'' or a remark that the time looks like a number of ticks that `columns.event_time.format` does not name."""
    hint = F.lit("")
    digits = F.length(F.regexp_extract(text, r"^(\d+)(\.\d*)?$", 1))
    for name, (_, usual) in _EPOCHS.items():
        if name != spec.format:
            remark = F.lit(f" (looks like {name}: see columns.event_time.format)")
            hint = F.when(digits.between(usual - 1, usual), remark).otherwise(hint)
    return F.coalesce(hint, F.lit(""))


def _from_wall_clock(instant: Column, time_zone: str) -> Column:
    return instant if time_zone == "UTC" else F.to_utc_timestamp(instant, time_zone)


def _check_time_zone(name: str) -> None:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise DatasetSpecError(
            f"columns.event_time.time_zone: {name!r} is not a time zone; write UTC or a name such as Europe/Berlin"
        ) from error


def _unquoted(pattern: str) -> str:
    """A datetime pattern without its quoted literals ('T')."""
    return "".join(part for n, part in enumerate(pattern.split("'")) if n % 2 == 0)
