"""Adapter `files`: CSV, TSV, Parquet or JSON lines with any columns; a file, a folder or a glob, per day or for all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, MapType, StringType, StructField, StructType

from jobs.adapters.alignment import check_files, names_of, own_columns, union, with_nested
from jobs.adapters.delimited import Layout, read_delimited
from jobs.adapters.parquet import read_parquet
from jobs.adapters.raw_log import (
    CORRUPT,
    FileGroup,
    check_names,
    lacks_columns,
    missing_log,
    quoted_name,
    source_path,
    unreadable,
    with_adapter_columns,
    with_source,
)
from jobs.adapters.source_files import Listing, list_files, visible
from jobs.transforms.raw_columns import REFUSED_REASON, SOURCE, nullable_columns, required_columns
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SourceError
from schemas.source_spec import SourceSpec

log = logging.getLogger(__name__)


def read(spark: SparkSession, dataset: DatasetSpec, ds: date) -> DataFrame:
    """Rows of the day's files (all files where the path has no {ds}), kept by the engine.

    A record that cannot be read is a refused row. Raises MissingLogError where there is no file, SourceError where one
    lacks a column, names one twice, or holds another format.
    """
    path = source_path(dataset, ds)
    with visible(path) as seen:
        listing = list_files(spark, seen)
        if listing is None:
            raise missing_log(dataset, ds)
        if not listing.files:
            raise SourceError(f"the log of {dataset.name} for {ds}: {path} holds no files; deliver it again")
        rows = _read(spark, dataset, path, listing)
        if seen == path:
            return rows
        name = F.lit(path.rsplit("/", 1)[-1])
        return rows.withColumn(SOURCE, name).localCheckpoint()  # the link ends with this block


def _read(spark: SparkSession, dataset: DatasetSpec, path: str, listing: Listing) -> DataFrame:
    if dataset.source.format == "jsonl":
        return _read_json_lines(spark, dataset, path, listing)
    if dataset.source.format == "parquet":
        groups = read_parquet(spark, listing)
    else:
        groups = read_delimited(spark, listing, _layout(dataset.source))
    if not groups:
        raise SourceError(lacks_columns(dataset, path, required_columns(dataset), ()))
    groups = [_with_all_columns(group, dataset) for group in groups]
    check_files(groups, dataset, path)
    rows = union([group.frame for group in groups], [names_of(group) for group in groups], dataset)
    _check_kinds(rows, dataset, path)
    return rows


def _layout(source: SourceSpec) -> Layout:
    is_tsv = source.format == "tsv"
    quote = ("" if is_tsv else '"') if source.quote is None else source.quote
    delimiter = "\t" if is_tsv else source.delimiter or ","
    return Layout(
        delimiter=delimiter,
        header=source.header,
        quote=quote,
        multi_line=source.multi_line,
        charset=source.charset,
    )


def _with_all_columns(group: FileGroup, dataset: DatasetSpec) -> FileGroup:
    """The group with nested fields and `column=value` folders as columns."""
    frame = with_nested(group.frame, dataset)
    return FileGroup(frame=frame, files=group.files, columns=own_columns(frame))


def _read_json_lines(spark: SparkSession, dataset: DatasetSpec, path: str, listing: Listing) -> DataFrame:
    """JSON lines. A column that no line has is null where it may be: many writers leave nulls out."""
    reader = listing.reader(spark).options(mode="PERMISSIVE", columnNameOfCorruptRecord=CORRUPT)
    inferred = reader.json(listing.paths).schema
    found = [name for name in inferred.names if name != CORRUPT]
    check_names(found, path)
    if not found:
        raise SourceError(
            f"the log of {dataset.name} at {path} holds no line that is a JSON object; fix source.format or deliver it "
            "again"
        )
    schema = StructType([*(inferred[name] for name in found), StructField(CORRUPT, StringType())])
    frame = with_source(reader.schema(schema).json(listing.paths))
    rows = with_nested(with_adapter_columns(frame, [unreadable(F.col(CORRUPT))]), dataset)
    _check_kinds(rows, dataset, path)
    rows = rows.localCheckpoint()  # its values are looked at file by file
    _check_json_files(rows, dataset, path)
    absent = [name for name in required_columns(dataset) if name not in rows.columns]
    return rows.withColumns({name: F.lit(None).cast("string") for name in absent}) if absent else rows


def _check_json_files(rows: DataFrame, dataset: DatasetSpec, path: str) -> None:
    """Raise SourceError where no line of a file has a value that may not be empty; warn where it may."""
    names = required_columns(dataset)
    readable = rows.where(F.col(REFUSED_REASON).isNull())
    counts = [F.count(quoted_name(name) if name in rows.columns else F.lit(None)).alias(name) for name in names]
    for row in readable.groupBy(SOURCE).agg(F.count(F.lit(1)).alias("_rows"), *counts).orderBy(SOURCE).collect():
        empty = [name for name in names if row[name] == 0]
        fatal = [name for name in empty if name not in nullable_columns(dataset)]
        if fatal:
            own = [name for name in own_columns(rows) if name not in empty]
            raise SourceError(lacks_columns(dataset, f"{path}, file {row[SOURCE]},", fatal, own))
        if empty:
            log.warning(f"{dataset.name}: no line of {row[SOURCE]} has {empty}: they are null there")


def _check_kinds(rows: DataFrame, dataset: DatasetSpec, path: str) -> None:
    """Raise SourceError where a column that stands for one value holds lists or nested values."""
    lists_allowed = {field.source for field in dataset.fields if field.kind == "multi_valued"}
    columns = dataset.columns
    single = {columns.event_time.column, columns.user, columns.item, columns.label.column, dataset.scenario.column}
    single |= {field.source for field in dataset.fields if field.kind != "multi_valued"} | {*columns.natural_key}
    single |= {columns.value} if columns.value else set()
    for name in (name for name in required_columns(dataset) if name in rows.columns):
        kind = rows.schema[name].dataType
        if isinstance(kind, ArrayType) and (name in single or name not in lists_allowed):
            raise SourceError(
                f"{path}: column {name!r} holds lists, which only a field of kind multi_valued takes; give the field "
                "that kind or name another column"
            )
        if isinstance(kind, StructType | MapType):
            fields = [f"{name}.{field}" for field in kind.names] if isinstance(kind, StructType) else []
            known = f"name one of its fields: {', '.join(fields)}" if fields else "name another column"
            raise SourceError(f"{path}: column {name!r} holds nested values; {known}")


def read_text(
    spark: SparkSession, path: str, *, delimiter: str, header: bool, quoted: bool, names: Sequence[str] = ()
) -> DataFrame | None:
    """Delimited files of one layout, all columns as text, for adapters of downloads; None where nothing is there.

    `names` are the columns of a file without header. A line with another number of columns is a refused row.
    """
    listing = list_files(spark, path)
    if listing is None or not listing.files:
        return None
    layout = Layout(delimiter=delimiter, header=header, quote='"' if quoted else "", names=tuple(names))
    frames = [group.frame for group in read_delimited(spark, listing, layout)]
    if not frames:
        return None
    whole = frames[0]
    for frame in frames[1:]:
        whole = whole.unionByName(frame, allowMissingColumns=True)
    return whole
