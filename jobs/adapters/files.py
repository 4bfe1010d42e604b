"""Adapter `files`: CSV, TSV, Parquet or JSON lines with any columns; a file, a folder or a glob, per day or for all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from jobs.adapters.raw_log import UNREADABLE, check_reserved, source_path
from jobs.transforms.canonical import REFUSED_DETAIL, REFUSED_REASON, SOURCE
from schemas.dataset_spec import DatasetSpec

_CORRUPT = "_corrupt_record"


def read(spark: SparkSession, dataset: DatasetSpec, ds: date) -> DataFrame:
    """Rows of the day's files (all files where the path has no {ds}); a line that cannot be parsed is a refused row."""
    source = dataset.source
    path = source_path(dataset, ds)
    if source.format == "parquet":
        return _with_adapter_columns(spark.read.parquet(path), path)
    if source.format == "jsonl":
        return _with_adapter_columns(_read_json_lines(spark, path), path)
    delimiter = "\t" if source.format == "tsv" else source.delimiter or ","
    return read_delimited(spark, path, delimiter=delimiter, header=source.header, quoted=source.format == "csv")


def read_delimited(
    spark: SparkSession, path: str, *, delimiter: str, header: bool, quoted: bool, names: Sequence[str] | None = None
) -> DataFrame:
    """A delimited text file, all columns as text. A line with another number of columns is a refused row.

    `names` are the columns of a file without header (default: Spark's). Several files must have the same header, else
    Spark raises.
    """
    quote = '"' if quoted else ""
    reader = spark.read.options(sep=delimiter, header=header, quote=quote, escape='"', encoding="UTF-8")
    columns = names or reader.csv(path).columns
    schema = StructType([StructField(name, StringType()) for name in [*columns, _CORRUPT]])
    # With pruning, a line that lacks only unused columns would pass as complete
    reader = reader.options(mode="PERMISSIVE", columnNameOfCorruptRecord=_CORRUPT, columnPruning=False)
    reader = reader.options(enforceSchema=not header)
    return _with_adapter_columns(reader.schema(schema).csv(path), path)


def _read_json_lines(spark: SparkSession, path: str) -> DataFrame:
    """JSON lines with scalar values as text, so that types may change between days."""
    reader = spark.read.options(primitivesAsString=True, mode="PERMISSIVE", columnNameOfCorruptRecord=_CORRUPT)
    inferred = reader.json(path).schema
    if _CORRUPT not in inferred.names:
        inferred = StructType([*inferred.fields, StructField(_CORRUPT, StringType())])
    return reader.schema(inferred).json(path)


def _with_adapter_columns(frame: DataFrame, path: str) -> DataFrame:
    own = [name for name in frame.columns if name != _CORRUPT]
    check_reserved(own, path)
    corrupt = F.col(_CORRUPT) if _CORRUPT in frame.columns else F.lit(None).cast("string")
    return frame.select(
        *[F.col("`" + name.replace("`", "``") + "`") for name in own],
        F.col("_metadata.file_name").alias(SOURCE),
        F.when(corrupt.isNotNull(), F.lit(UNREADABLE)).alias(REFUSED_REASON),
        corrupt.alias(REFUSED_DETAIL),
    )
