"""Read and write Delta tables with Spark: the TableSpec enforced, one transaction per partition.

The counterpart for Arrow rows is `lake/arrow_writer.py`; both make tables with the same constraints and properties.
"""

from __future__ import annotations

import re
import shutil
from datetime import date
from pathlib import Path

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, from_arrow_type
from pyspark.sql.types import ArrayType, DataType, StructType

from lake.locations import table_uri
from lake.lock import one_writer
from lake.reader import check_readable
from lake.retry import commit_with_retries
from lake.spark_session import SPARK_ERRORS
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.table_spec import TableSpec
from schemas.tables import get_table

# Delta's names for a lost race, as error conditions and as classes: Spark Connect passes on the text alone.
_LOST_RACE = re.compile(
    r"DELTA_CONCURRENT_|DELTA_METADATA_CHANGED|DELTA_PROTOCOL_CHANGED|DELTA_TABLE_ALREADY_EXISTS"
    r"|DELTA_CREATE_TABLE_WITH_NON_EMPTY_LOCATION"  # the other has begun to create it
    r"|Concurrent\w+Exception|MetadataChangedException|ProtocolChangedException|FileAlreadyExistsException"
)
_NO_TABLE = re.compile(r"PATH_NOT_FOUND|DELTA_TABLE_NOT_FOUND|DELTA_MISSING_DELTA_TABLE|DELTA_PATH_DOES_NOT_EXIST")
_PROPERTIES = {"delta.enableDeletionVectors": "false", "delta.enableChangeDataFeed": "false"}


def read_days(
    spark: SparkSession, dataset: DatasetSpec, table: str, days: list[date], columns: list[str] | None = None
) -> DataFrame:
    """Rows of some days of a table that is partitioned by ds (a day that was never written has none).

    Columns that the table is older than are null. Raises TableError where it does not exist or lacks one of `columns`.
    """
    frame = open_frame(spark, dataset, table)
    absent = [c for c in get_table(table).for_dataset(dataset).columns if c.added and c.name not in frame.columns]
    if absent:  # a Connect client refuses an empty mapping
        frame = frame.withColumns({c.name: F.lit(None).cast(from_arrow_type(c.type)) for c in absent})
    if missing := [c for c in columns or [] if c not in frame.columns]:
        raise TableError(f"table {table} of {dataset.name} lacks columns {missing}; it has {frame.columns}")
    rows = frame.where(F.col("ds").isin([str(day) for day in days]))
    return rows.select(*columns) if columns else rows


def open_frame(spark: SparkSession, dataset: DatasetSpec, table: str) -> DataFrame:
    """All rows of a table. Raises TableError where it does not exist, or has features that other steps cannot read."""
    uri = table_uri(dataset, table)
    check_readable(dataset, table)
    frame = _load(spark, uri)
    if frame is None:
        make = command(get_table(table).written_by, dataset, "--ds DAY")
        raise TableError(f"table {table} does not exist at {uri}; make it with '{make}', or check MSR_LAKE_ROOT")
    return frame


def publish(frame: DataFrame, dataset: DatasetSpec, table: str, partition: dict[str, str]) -> int:
    """Replace one partition by the rows of `frame` in one transaction; returns the number of rows written.

    `partition` names a value for partition columns (all, or some to replace several partitions at once). The table is
    created with its constraints where it does not exist. Raises TableError where the frame does not fit the table's
    spec: columns, types, nulls, keys that repeat, rows outside the partition.
    """
    spec = get_table(table).for_dataset(dataset)
    spec.require_partition(partition)
    _check_columns(frame.schema, spec)
    fitted = frame.select(*spec.column_names)
    is_kept = frame.storageLevel.useMemory  # the caller has persisted it
    if not is_kept:
        fitted = fitted.persist()  # checked and written from one evaluation
    try:
        num_rows = _check_rows(fitted, spec, partition)
        uri = table_uri(dataset, table)
        check_readable(dataset, table)
        with one_writer(uri):
            _create(frame.sparkSession, uri, spec)
            commit_with_retries(lambda: _replace(fitted, uri, spec, partition), _is_lost_race)
    finally:
        if not is_kept:
            fitted.unpersist()
    return num_rows


def spark_schema(spec: TableSpec) -> StructType:
    """The table's schema as Spark's types; `for_dataset` first where the table has field columns."""
    return from_arrow_schema(spec.arrow_schema())


def _load(spark: SparkSession, uri: str) -> DataFrame | None:
    try:
        frame = spark.read.format("delta").load(uri)
        frame.schema  # noqa: B018  (not useless: Spark Connect looks for the table only when its schema is read)
    except SPARK_ERRORS as error:
        if _NO_TABLE.search(str(error)):
            return None
        raise
    return frame


def _check_columns(actual: StructType, spec: TableSpec) -> None:
    spec.require_columns(actual.names)
    expected = spark_schema(spec)
    wrong = [
        f"{field.name} is {actual[field.name].dataType.simpleString()}, not {field.dataType.simpleString()}"
        for field in expected
        if _plain(actual[field.name].dataType) != _plain(field.dataType)
    ]
    if wrong:
        raise TableError(
            f"table {spec.name}: wrong types: {'; '.join(wrong)}; cast them as schemas/tables/{spec.name}.py says"
        )


def _plain(kind: DataType) -> DataType:
    """The type without the nullability of list elements, which expressions do not keep."""
    return ArrayType(_plain(kind.elementType)) if isinstance(kind, ArrayType) else kind


def _check_rows(frame: DataFrame, spec: TableSpec, partition: dict[str, str]) -> int:
    """Number of rows; TableError names nulls, rows outside the partition and repeated keys with their counts."""
    solid = [c.name for c in spec.columns if not c.nullable]
    columns = [F.count(F.lit(1)).alias("rows")]
    columns += [F.count_if(F.col(name).isNull()).alias(f"null {name}") for name in solid]
    columns += [
        F.count_if(~F.col(name).cast("string").eqNullSafe(F.lit(value))).alias(f"outside {name}")
        for name, value in partition.items()
    ]
    if spec.keys:
        columns.append(F.count_distinct(*[F.col(k) for k in spec.keys]).alias("keys"))
    counts: Row = frame.agg(*columns).collect()[0]
    for name in solid:
        if nulls := counts[f"null {name}"]:
            raise TableError(
                f"table {spec.name}: column {name} must not be null, but {nulls} of {counts['rows']} rows are"
            )
    for name, value in partition.items():
        if outside := counts[f"outside {name}"]:
            raise TableError(
                f"table {spec.name}: {outside} rows have a {name} other than {value!r}; publish them separately"
            )
    if spec.keys and counts["keys"] != counts["rows"]:
        raise TableError(
            f"table {spec.name}: {counts['rows'] - counts['keys']} of {counts['rows']} rows repeat a key {spec.keys}; "
            "a key names one row"
        )
    return int(counts["rows"])


def _create(spark: SparkSession, uri: str, spec: TableSpec) -> None:
    """Create the table with all constraints in its first commit, unless it exists; then add the columns it lacks."""
    existing = _load(spark, uri)
    if existing is None:
        _clear_torn_creation(uri)
        statement = _create_statement(uri, spec)
        commit_with_retries(lambda: spark.sql(statement).collect(), _is_lost_race)
        existing = commit_with_retries(lambda: _created(spark, uri), lambda error: isinstance(error, _NotSeenYetError))
    _evolve(spark, uri, spec, existing.schema)


class _NotSeenYetError(TableError):
    """Another writer has created the table, and this engine's view of it is older."""


def _created(spark: SparkSession, uri: str) -> DataFrame:
    existing = _load(spark, uri)
    if existing is None:
        raise _NotSeenYetError(f"the table at {uri} was created and cannot be seen; run again")
    return existing


def _evolve(spark: SparkSession, uri: str, spec: TableSpec, actual: StructType) -> None:
    """Add the columns that an older table lacks. Raises TableError where columns or types do not fit the spec."""
    stored = from_arrow_schema(spec.stored_schema())
    may_be_added = {c.name for c in spec.columns if c.added}
    types = {f.name: _plain(f.dataType) for f in actual}
    unfit = [f.name for f in stored if types.get(f.name, _plain(f.dataType)) != _plain(f.dataType)]
    unfit += [f.name for f in stored if f.name not in types and f.name not in may_be_added]
    # Columns of fields that the YAML no longer has: new rows have null there
    unfit += [f.name for f in actual if f.name not in stored.names and not f.nullable]
    if unfit:
        raise TableError(
            f"table {spec.name} at {uri} was created with other columns ({', '.join(sorted(unfit))}): it has "
            f"{actual.simpleString()}, the spec says {stored.simpleString()}; rename the field or the data set, or "
            "remove the table and backfill its days"
        )
    missing = [f for f in stored if f.name not in types]
    if missing:
        columns = ", ".join(f"`{f.name}` {f.dataType.simpleString()}" for f in missing)
        statement = f"ALTER TABLE delta.`{uri}` ADD COLUMNS ({columns})"
        commit_with_retries(lambda: spark.sql(statement).collect(), _is_lost_race)


def _clear_torn_creation(uri: str) -> None:
    """Remove the empty log of a writer that was killed while it created the table: Delta would refuse the folder."""
    path = Path(uri)
    if "://" in uri or not path.is_dir() or [child.name for child in path.iterdir()] != ["_delta_log"]:
        return
    if not any((path / "_delta_log").glob("*.json")):
        shutil.rmtree(path)


def _create_statement(uri: str, spec: TableSpec) -> str:
    columns = ", ".join(
        f"`{f.name}` {f.dataType.simpleString()}{'' if f.nullable else ' NOT NULL'}"
        for f in from_arrow_schema(spec.stored_schema())
    )
    properties = _PROPERTIES | {f"delta.constraints.{c.name}": c.sql for c in spec.constraints}
    pairs = ", ".join(f"{_quoted(key)} = {_quoted(value)}" for key, value in properties.items())
    partitions = f" PARTITIONED BY ({', '.join(spec.partition_by)})" if spec.partition_by else ""
    comment = f" COMMENT {_quoted(' '.join(spec.doc.split()))}"
    return (
        f"CREATE TABLE IF NOT EXISTS delta.`{uri}` ({columns}) USING delta{partitions}{comment} TBLPROPERTIES ({pairs})"
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _replace(frame: DataFrame, uri: str, spec: TableSpec, partition: dict[str, str]) -> None:
    types = {f.name: f.dataType.simpleString() for f in spark_schema(spec)}
    where = " AND ".join(f"{name} = CAST({_quoted(value)} AS {types[name]})" for name, value in partition.items())
    frame.write.format("delta").mode("overwrite").option("replaceWhere", where).save(uri)


def _is_lost_race(error: BaseException) -> bool:
    return isinstance(error, SPARK_ERRORS) and _LOST_RACE.search(str(error)) is not None
