"""Parquet files: a schema per file from its footer, and times in nanoseconds, which Spark reads as plain integers."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.adapters.raw_log import FileGroup, check_names, quoted_name, with_adapter_columns, with_source
from jobs.adapters.source_files import Listing, SourceFile
from schemas.errors import SourceError

_READERS = 8


@dataclass(frozen=True, kw_only=True)
class _Footer:
    """Columns with their types. nanoseconds: columns of times, and whether they are instants (else wall-clock time)."""

    columns: tuple[tuple[str, str], ...]
    nanoseconds: tuple[tuple[str, bool], ...] = ()


def read_parquet(spark: SparkSession, listing: Listing) -> list[FileGroup]:
    """The files, those of one schema in one frame. Raises SourceError where one is no Parquet file."""
    with ThreadPoolExecutor(_READERS) as pool:
        footers = list(pool.map(lambda file: _footer(spark, file), listing.files))
    groups: dict[_Footer, list[SourceFile]] = defaultdict(list)
    for file, footer in zip(listing.files, footers, strict=True):
        groups[footer].append(file)
    return [_group(spark, listing.of(files), footer) for footer, files in groups.items()]


def _group(spark: SparkSession, listing: Listing, footer: _Footer) -> FileGroup:
    names = [name for name, _ in footer.columns]
    check_names(names, listing.files[0].name)
    frame: DataFrame = with_source(listing.reader(spark).parquet(*listing.paths))
    times = {name: _from_nanoseconds(name, is_instant) for name, is_instant in footer.nanoseconds}
    frame = frame.withColumns(times) if times else frame
    return FileGroup(frame=with_adapter_columns(frame, []), files=listing.files, columns=tuple(names))


def _footer(spark: SparkSession, file: SourceFile) -> _Footer:
    """A file's footer, read here where this process sees the file, else by the engine."""
    url = urlsplit(file.uri)
    try:
        if url.scheme == "file":
            return _from_arrow(pq.read_schema(unquote(url.path)))
    except FileNotFoundError:
        pass  # the engine runs elsewhere
    except pa.ArrowInvalid as error:
        cause = " ".join(str(error).split("\n")[0].split())
        raise SourceError(
            f"{unquote(url.path)}: is no Parquet file ({cause}); fix source.format or deliver it again"
        ) from error
    fields = spark.read.parquet(file.path).schema.fields
    return _Footer(columns=tuple((field.name, field.dataType.simpleString()) for field in fields))


def _from_arrow(schema: pa.Schema) -> _Footer:
    is_nano = {field.name: pa.types.is_timestamp(field.type) and field.type.unit == "ns" for field in schema}
    return _Footer(
        columns=tuple((field.name, str(field.type)) for field in schema),
        nanoseconds=tuple((name, schema.field(name).type.tz is not None) for name, is_ns in is_nano.items() if is_ns),
    )


def _from_nanoseconds(name: str, is_instant: bool) -> Column:
    """A timestamp of a column of nanoseconds, to the microsecond below."""
    nanos = F.col(quoted_name(name))
    instant = F.timestamp_micros(((nanos - F.pmod(nanos, F.lit(1000))) / F.lit(1000)).cast("bigint"))
    return instant if is_instant else instant.cast("timestamp_ntz")
