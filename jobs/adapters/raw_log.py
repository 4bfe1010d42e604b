"""What adapters share: the columns every raw log must have, refused records, and errors that name the place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, StringType

from jobs.adapters.source_files import SourceFile
from jobs.transforms.raw_columns import ADAPTER_COLUMNS, REFUSED_DETAIL, REFUSED_REASON, SOURCE, required_columns
from schemas.dataset_spec import DatasetSpec
from schemas.errors import DatasetSpecError, MsrError, SourceError

CORRUPT = "_corrupt_record"
UNREADABLE = "unreadable_record"
BAD_ENCODING = "bad_encoding"
REPLACEMENT = "\ufffd"  # what decoders put in place of bytes that are no text

_CONDITION = re.compile(r"\[[A-Z_]+(\.[A-Z_]+)*\] .*")
_FILE = re.compile(r"(?:file|path) (\S+/\S+?)[.,;]?(?:\s|$)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class FileGroup:
    """Files of one schema as one frame. columns: those in the files, without the adapters' own."""

    frame: DataFrame
    files: tuple[SourceFile, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BadRecord:
    """A reason to refuse a record; its detail is null where it does not apply."""

    reason: str
    detail: Column


class MissingLogError(SourceError):
    """There is nothing at the source's path."""


def source_path(dataset: DatasetSpec, ds: date) -> str:
    """The source's path with the day put in."""
    return (dataset.source.path or "").replace("{ds}", str(ds))


def quoted_name(name: str) -> str:
    """A column's name for Spark; it may hold dots or blanks."""
    return "`" + name.replace("`", "``") + "`"


def check_columns(raw: DataFrame, dataset: DatasetSpec, ds: date) -> None:
    """Raise SourceError where the log lacks a column that the data set's YAML names."""
    actual = [name for name in raw.columns if name not in ADAPTER_COLUMNS]
    missing = [name for name in required_columns(dataset) if name not in actual]
    if missing:
        raise SourceError(lacks_columns(dataset, source_path(dataset, ds), missing, actual))


def lacks_columns(dataset: DatasetSpec, path: str, missing: list[str], actual: Sequence[str]) -> str:
    """The message about columns that a file or a day does not have."""
    found = f"it has {list(actual)}" if actual else "it is empty"
    return (
        f"the log of {dataset.name} at {path} lacks columns {missing}; {found}; fix the file or the column names in "
        "the data set's YAML"
    )


def check_names(names: Sequence[str], path: str) -> None:
    """Raise SourceError where a file names a column twice, or has a column with a name that the adapters use."""
    counts = Counter(name.lower() for name in names)  # Spark tells no columns apart by case
    if doubled := [name for name in names if counts[name.lower()] > 1]:
        raise SourceError(f"{path}: columns {doubled} have one name (case does not count); rename all but one")
    if taken := [name for name in names if name in (*ADAPTER_COLUMNS, CORRUPT)]:
        raise SourceError(
            f"{path}: columns {taken} have names that are reserved for the pipeline; rename them in the log"
        )


def with_source(frame: DataFrame) -> DataFrame:
    """The frame of a file source with the name of each row's file."""
    name = F.replace(F.col("_metadata.file_name"), F.lit("+"), F.lit("%2B"))  # encoded but for plus signs
    return frame.select("*", F.url_decode(name).alias(SOURCE))


def unreadable(record: Column) -> BadRecord:
    """A record that the parser gave up on."""
    return BadRecord(reason=UNREADABLE, detail=record)


def with_adapter_columns(frame: DataFrame, bad: Sequence[BadRecord], helpers: Sequence[str] = ()) -> DataFrame:
    """The log's columns, `_source` and the refusal of each row: bytes that are no text, then the first of `bad`."""
    fields = [field for field in frame.schema.fields if field.name not in (CORRUPT, SOURCE, *helpers)]
    texts = [field.name for field in fields if isinstance(field.dataType, StringType | BinaryType)]
    details = [_undecoded(texts)] if texts else []
    details += [F.when(record.detail.contains(REPLACEMENT), record.detail) for record in bad]
    lost = BadRecord(reason=BAD_ENCODING, detail=F.coalesce(F.lit(None).cast("string"), *details))
    records = [lost, *bad]
    return frame.select(
        *[F.col(quoted_name(field.name)) for field in fields],
        SOURCE,
        F.coalesce(*[F.when(record.detail.isNotNull(), F.lit(record.reason)) for record in records]).alias(
            REFUSED_REASON
        ),
        F.coalesce(*[record.detail for record in records]).alias(REFUSED_DETAIL),
    )


def first_match(names: Sequence[str], pattern: str) -> Column:
    """`name=value` of the first column whose value matches; null where none does."""
    values = {name: F.col(quoted_name(name)) for name in names}
    return F.coalesce(*[F.when(value.rlike(pattern), _pair(name, value)) for name, value in values.items()])


def _undecoded(names: Sequence[str]) -> Column:
    """`name=value` of the first column with bytes that are no text; null where there is none."""
    # One test for all columns: a case for each made plans of logs with a hundred columns outgrow the engine's memory
    pairs = F.array(*[_pair(name, F.col(quoted_name(name)).cast("string")) for name in names])
    lost = F.filter(pairs, lambda pair: pair.contains(REPLACEMENT) | ~F.is_valid_utf8(pair))
    return F.make_valid_utf8(F.get(lost, F.lit(0)))


def _pair(name: str, value: Column) -> Column:
    return F.concat(F.lit(f"{name}="), value)


def missing_log(dataset: DatasetSpec, ds: date) -> MissingLogError:
    """Nothing at the source's path."""
    fetch = "fetch it with scripts/get_movielens.py" if dataset.source.adapter == "movielens" else "deliver it"
    return MissingLogError(
        f"the log of {dataset.name} for {ds} is missing: nothing at {source_path(dataset, ds)}; {fetch} or fix "
        "source.path"
    )


def source_error(error: Exception, dataset: DatasetSpec, ds: date) -> MsrError:
    """Spark's error about a source as one line with place and remedy."""
    text = str(error)
    condition = _CONDITION.search(text)  # an engine in this process puts class names first
    first_line = " ".join((condition.group() if condition else text).split("\n")[0].split())
    if "PATH_NOT_FOUND" in text:
        return missing_log(dataset, ds)
    if re.search(r"DATETIME_\w*PATTERN", text):
        return DatasetSpecError(
            f"columns.event_time.format: {dataset.columns.event_time.format!r} is not a datetime pattern "
            f"({first_line}); write iso, epoch_s, epoch_ms, epoch_us, epoch_ns or a Spark datetime pattern"
        )
    return SourceError(
        f"the log of {dataset.name} for {ds} at {source_path(dataset, ds)} cannot be read: {_cause(text, first_line)}"
    )


def _cause(text: str, first_line: str) -> str:
    """What is wrong with which file, where the engine says it."""
    named = re.search(r"file:\S+?(?=[\s.,;]*(?:\s|$))", first_line) or _FILE.search(first_line)
    file = named.group().rsplit("/", 1)[-1] if named else "a file"
    for pattern, cause in _CAUSES.items():
        if re.search(pattern, text):
            return f"{file} {cause}"
    return f"{first_line[:300]}; mend or deliver it again"


_CAUSES = {
    r"is not a Parquet file|CANNOT_READ_FILE_FOOTER": "is no Parquet file; fix source.format or deliver it again",
    r"not in GZIP format|unknown compression": "is not compressed as its name says; rename it or deliver it again",
    r"EOFException|Unexpected end of (?:input|ZLIB)|invalid stored block|ZipException|ZstdIOException": (
        "ends in the middle of its compressed data; deliver it again"
    ),
    r"AccessControlException|Permission denied|AccessDenied": "may not be read by Spark; give it the right to",
    r"FILE_NOT_EXIST|FileNotFoundException": "disappeared while it was read; run again",
}
