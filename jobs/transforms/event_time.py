"""The event time of a log, in any of the supported forms, as a UTC timestamp."""

from __future__ import annotations

import zoneinfo

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampNTZType, TimestampType

from schemas.blocks import EventTimeSpec
from schemas.errors import DatasetSpecError

_TICKS_PER_SECOND = {"epoch_s": 1, "epoch_ms": 1_000}
_FULL_DATE = r"^\d{4}-\d{1,2}-\d{1,2}"  # Spark also casts '12:30', to that time today
_HAS_OFFSET = r"[:\d](Z|z|\s*UTC|\s*GMT|[+-]\d{1,2}(:?\d{2})?|\s*[A-Za-z]+/[A-Za-z_/]+)$"
_OFFSET_LETTERS = "VzOXxZ"  # of a Spark datetime pattern


def event_time(raw: DataFrame, spec: EventTimeSpec) -> Column:
    """UTC timestamp of each row, null where it cannot be read. Needs a session in UTC (lake/spark_session.py).

    Text without an offset is wall-clock time in `spec.time_zone`. Timestamp columns (Parquet) are
    taken as they are. Raises DatasetSpecError where the time zone does not exist.
    """
    _check_time_zone(spec.time_zone)
    column = F.col("`" + spec.column.replace("`", "``") + "`")
    kind = raw.schema[spec.column].dataType
    if isinstance(kind, TimestampType):
        return column
    if isinstance(kind, TimestampNTZType):
        return _from_wall_clock(column.cast("timestamp"), spec.time_zone)
    text = F.trim(column.cast("string"))
    if spec.format in _TICKS_PER_SECOND:
        micros = text.try_cast("decimal(20,6)") * F.lit(1_000_000 // _TICKS_PER_SECOND[spec.format])
        return F.timestamp_micros(micros.try_cast("bigint"))
    if spec.format == "iso":
        instant = F.when(text.rlike(_FULL_DATE), text.try_cast("timestamp"))
        has_offset = text.rlike(_HAS_OFFSET) & text.contains(":")
        return F.when(has_offset, instant).otherwise(_from_wall_clock(instant, spec.time_zone))
    parsed = F.try_to_timestamp(text, F.lit(spec.format))
    if any(letter in _unquoted(spec.format) for letter in _OFFSET_LETTERS):
        return parsed
    return _from_wall_clock(parsed, spec.time_zone)


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
