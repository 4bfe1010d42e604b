"""CSV and TSV: files whose headers, quotes and encodings differ are read each in its own way, all columns as text."""

from __future__ import annotations

import csv
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from jobs.adapters.raw_log import (
    CORRUPT,
    BadRecord,
    FileGroup,
    check_names,
    first_match,
    quoted_name,
    unreadable,
    with_adapter_columns,
    with_source,
)
from jobs.adapters.source_files import Listing, SourceFile
from jobs.transforms.raw_columns import SOURCE
from jobs.transforms.values import WHITESPACE

log = logging.getLogger(__name__)

_LINE, _TORN = "_line", "_torn"
_NO_DELIMITER = "\x01"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the files are written. quote: '' for none. names: the columns of files without header; default _c0, ...."""

    delimiter: str
    header: bool = True
    quote: str = ""
    multi_line: bool = True
    charset: str = "UTF-8"
    names: tuple[str, ...] = ()

    @property
    def is_wide(self) -> bool:
        """Whether a character takes two bytes or more: such text has no lines that can be found without decoding."""
        return self.charset.startswith("UTF-16")

    def ends_in_quotes(self, line: Column) -> Column:
        """Whether a line that begins a record ends inside a quoted value."""
        if not self.quote:
            return F.lit(False)
        quote, delimiter = _literal(self.quote), _literal(self.delimiter)
        cell = f"[^{delimiter}]*+" if len(self.delimiter) == 1 else f"(?:(?!{delimiter}).)*+"
        cells = f"(?: *(?:{quote}[^{quote}]*+{quote}{cell}|(?!{quote}){cell}){delimiter})*+"
        undoubled = F.replace(line, F.lit(self.quote * 2), F.lit(""))  # in quotes, two of them stand for one
        return undoubled.rlike(f"^{cells} *{quote}[^{quote}]*+$")

    def has_undeclared_quotes(self, line: Column) -> Column:
        """Whether a value stands in quotes where the files have none."""
        if self.quote:
            return F.lit(False)
        delimiter = _literal(self.delimiter)
        return line.rlike(f'(^|{delimiter})"[^"]*"({delimiter}|$)')


@dataclass(frozen=True, kw_only=True)
class _Profile:
    """A file's columns; how lines end: inside quotes (is_open), inside quotes never closed (is_torn)."""

    columns: tuple[str, ...]
    is_open: bool
    is_torn: bool


def read_delimited(spark: SparkSession, listing: Listing, layout: Layout) -> list[FileGroup]:
    """The files, those with the same columns in one frame. Refused rows: a line with another number of columns
    (unreadable_record), bytes that are no text (bad_encoding), a quote that is never closed (unclosed_quote), a quoted
    line break where `multi_line` is off (line_break).

    Empty files are left out. Raises SourceError where a header names a column twice.
    """
    profiles = _profiles(spark, listing, layout)
    groups: dict[_Profile, list[SourceFile]] = defaultdict(list)
    for file in listing.files:
        if (profile := profiles.get(file.uri)) is not None:
            groups[profile].append(file)
    return [
        FileGroup(frame=_read(spark, listing.of(files), layout, profile), files=tuple(files), columns=profile.columns)
        for profile, files in groups.items()
    ]


def _profiles(spark: SparkSession, listing: Listing, layout: Layout) -> dict[str, _Profile]:
    """Profiles of the files that hold anything, by URI; one pass over their lines."""
    if layout.names and not layout.quote:
        known = _Profile(columns=layout.names, is_open=False, is_torn=False)
        return {file.uri: known for file in listing.files}
    position = F.struct(F.col("_metadata.file_block_start"), F.monotonically_increasing_id())
    lines = _lines(spark, listing, layout, header=False)
    lines = lines.select(_LINE, F.col("_metadata.file_path").alias("uri"), position.alias("position"))
    quotes = F.length(_LINE) - F.length(F.replace(_LINE, F.lit(layout.quote))) if layout.quote else F.lit(0)
    is_open = layout.ends_in_quotes(F.col(_LINE))
    found = lines.groupBy("uri").agg(
        F.min_by(_LINE, "position").alias("first"),
        F.bool_or(is_open).alias("is_open"),
        F.sum(quotes).alias("quotes"),
        F.bool_or(layout.has_undeclared_quotes(F.col(_LINE))).alias("undeclared"),
    )
    names = {file.uri: file.name for file in listing.files}
    profiles = {}
    for row in found.collect():
        if row["undeclared"]:
            log.warning(f"{names[row['uri']]} has values in quotes, which are read as text; or set source.quote")
        is_torn = row["is_open"] and row["quotes"] % 2 == 1
        columns = layout.names or _columns(row["first"], layout, names[row["uri"]])
        profiles[row["uri"]] = _Profile(columns=columns, is_open=row["is_open"], is_torn=is_torn)
    return profiles


def _columns(first_line: str, layout: Layout, file: str) -> tuple[str, ...]:
    """Names of the columns: the header's, or their numbers."""
    if layout.quote and len(layout.delimiter) == 1:
        cells = next(
            csv.reader([first_line], delimiter=layout.delimiter, quotechar=layout.quote, skipinitialspace=True)
        )
    else:
        cells = first_line.split(layout.delimiter)
    if not layout.header:
        return tuple(f"_c{n}" for n in range(len(cells)))
    names = [cell.strip(WHITESPACE) or f"_c{n}" for n, cell in enumerate(cells)]
    check_names(names, file)
    return tuple(names)


def _read(spark: SparkSession, listing: Listing, layout: Layout, profile: _Profile) -> DataFrame:
    """Files of one profile."""
    if profile.is_torn:
        return _read_torn(spark, listing, layout, profile.columns)
    schema = StructType([StructField(name, StringType()) for name in [*profile.columns, CORRUPT]])
    reader = listing.reader(spark).options(**_options(layout)).schema(schema)
    is_multi = profile.is_open or layout.is_wide
    frame = reader.options(header=layout.header, enforceSchema=True, multiLine=is_multi).csv(listing.paths)
    bad = [unreadable(F.col(CORRUPT))]
    if is_multi and not layout.multi_line:
        bad.append(BadRecord(reason="line_break", detail=first_match(profile.columns, r"[\r\n]")))
    return with_adapter_columns(with_source(frame), bad)


def _read_torn(spark: SparkSession, listing: Listing, layout: Layout, columns: Sequence[str]) -> DataFrame:
    """Files with a quote that is never closed, each line a record: read as CSV, all after it would be one value."""
    schema = ", ".join(f"{quoted_name(name)} string" for name in [*columns, CORRUPT])
    lines = _lines(spark, listing, layout, header=layout.header)
    record = F.from_csv(_LINE, schema, _options(layout)).alias("_record")
    folders = [quoted_name(name) for name in lines.columns if name not in (_LINE, *columns)]
    parsed = with_source(lines).select(_LINE, SOURCE, *folders, record)
    fields = [F.col("_record").getField(name).alias(name) for name in columns]
    torn = F.when(layout.ends_in_quotes(F.col(_LINE)), F.col(_LINE)).alias(_TORN)
    frame = parsed.select(*fields, *folders, SOURCE, torn, F.col("_record").getField(CORRUPT).alias(CORRUPT))
    bad = [BadRecord(reason="unclosed_quote", detail=F.col(_TORN)), unreadable(F.col(CORRUPT))]
    return with_adapter_columns(frame, bad, helpers=[_TORN])


def _lines(spark: SparkSession, listing: Listing, layout: Layout, *, header: bool) -> DataFrame:
    """The files' lines, decoded, as `_line`; `header`: without the first one of each file."""
    reader: DataFrameReader = listing.reader(spark).options(sep=_NO_DELIMITER, quote="", encoding=layout.charset)
    reader = reader.options(header=header, enforceSchema=True, multiLine=layout.is_wide)
    return reader.schema(StructType([StructField(_LINE, StringType())])).csv(listing.paths)


def _options(layout: Layout) -> dict[str, str]:
    # With pruning, a line that lacks only unused columns would pass as complete
    return {
        "sep": layout.delimiter,
        "quote": layout.quote,
        "escape": layout.quote or "\\",
        "encoding": layout.charset,
        "mode": "PERMISSIVE",
        "columnNameOfCorruptRecord": CORRUPT,
        "columnPruning": "false",
        "ignoreLeadingWhiteSpace": "true" if layout.quote else "false",  # a quote may follow a blank
    }


def _literal(text: str) -> str:
    """The text as a pattern of Java."""
    return "".join(letter if letter.isalnum() else "\\" + letter for letter in text)
