"""Read Delta tables with deltalake and pyarrow: no JVM, no torch."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from datetime import date

import pyarrow as pa
import pyarrow.dataset as pds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lake.foreign import require_readable, unreadable, unreadable_features
from lake.locations import table_uri
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.tables import get_table

# Large enough to make numpy's cost per call negligible, small enough for a piece to stay in the processor's cache.
STREAM_ROWS = 65_536
READ_BYTES = 2**18


def table_exists(dataset: DatasetSpec, table: str) -> bool:
    """Whether the table has been created. Raises TableError where the lake cannot be reached."""
    get_table(table)
    uri = table_uri(dataset, table)
    try:
        return DeltaTable.is_deltatable(uri)
    except (DeltaError, OSError) as error:
        raise TableError(
            f"{uri} cannot be reached ({_first_line(error)}); check MSR_LAKE_ROOT and its credentials"
        ) from error


def open_table(dataset: DatasetSpec, table: str, version: int | None = None) -> DeltaTable:
    """Open a table, at a version where one is given.

    Raises TableError where it does not exist, naming the step that writes it, cannot be opened at that version, or has
    features that another engine switched on and that cannot be read here.
    """
    spec = get_table(table)
    uri = table_uri(dataset, table)
    try:
        opened = DeltaTable(uri, version=version)
    except (DeltaError, OSError) as error:
        if features := unreadable_features(error):
            raise unreadable(uri, features) from error
        if not table_exists(dataset, table):
            raise TableError(
                f"table {table} does not exist at {uri}; make it with "
                f"'{command(spec.written_by, dataset, '--ds DAY')}', or check MSR_LAKE_ROOT"
            ) from error
        if version is None:
            raise TableError(f"{uri} cannot be opened ({_first_line(error)}); check its files") from error
        raise TableError(
            f"version {version} of {uri} cannot be opened ({_first_line(error)}); it may have been vacuumed"
        ) from error
    require_readable(opened, uri)
    return opened


def check_readable(dataset: DatasetSpec, table: str) -> None:
    """Raise TableError where the table exists and every reader would refuse it."""
    if table_exists(dataset, table):
        open_table(dataset, table)


def _first_line(error: Exception) -> str:
    """Without deltalake's backtrace."""
    return str(error).partition("\n")[0]


def table_version(dataset: DatasetSpec, table: str) -> int:
    """The newest version of a table."""
    return open_table(dataset, table).version()


def published_days(dataset: DatasetSpec, table: str, filters: dict[str, str] | None = None) -> set[date]:
    """Days that have rows, from the Delta log's partition values; empty where the table does not exist."""
    if not table_exists(dataset, table):
        return set()
    wanted = filters or {}
    partitions = open_table(dataset, table).partitions()
    return {date.fromisoformat(p["ds"]) for p in partitions if all(p[key] == value for key, value in wanted.items())}


def read_table(
    dataset: DatasetSpec,
    table: str,
    *,
    columns: Sequence[str] | None = None,
    days: Sequence[date] | None = None,
    filters: dict[str, str] | None = None,
    version: int | None = None,
) -> pa.Table:
    """Rows of a table: all, or those of some days and partition values. Files of other partitions are not opened.

    Raises TableError where the table or a named column does not exist.
    """
    files = open_dataset(dataset, table, columns or (), version)
    return files.to_table(columns=list(columns) if columns is not None else None, filter=condition(days, filters))


def open_dataset(dataset: DatasetSpec, table: str, columns: Sequence[str], version: int | None = None) -> pds.Dataset:
    """A table's files as an Arrow dataset that has `columns`: null where the table is older than a column.

    Raises TableError where the table or a named column does not exist.
    """
    opened = open_table(dataset, table, version)
    files = opened.to_pyarrow_dataset(filesystem=_local_files(dataset, table))
    absent = set(columns) - set(files.schema.names)
    later = [c for c in get_table(table).columns if c.added and c.name in absent]
    if later:
        files = files.replace_schema(pa.schema([*files.schema, *(pa.field(c.name, c.type) for c in later)]))
    missing = sorted(absent - {c.name for c in later})
    if missing:
        raise TableError(
            f"table {table} at {table_uri(dataset, table)} has no column {', '.join(missing)} "
            f"(it has {', '.join(files.schema.names)}); was the data set's YAML changed? rebuild the table's days"
        )
    return files


def _local_files(dataset: DatasetSpec, table: str) -> pafs.FileSystem | None:
    """Arrow's own file system for a table on a local disk; None: Delta's.

    Delta's is written in Python: a thread of Arrow that still closes such a file while the interpreter ends aborts the
    process (exit 134) after its work was done.
    """
    uri = table_uri(dataset, table)
    return None if "://" in uri else pafs.SubTreeFileSystem(uri, pafs.LocalFileSystem())


def condition(days: Sequence[date] | None, filters: dict[str, str] | None = None) -> pds.Expression | None:
    """Rows of these days and partition values; None: all."""
    clauses = [pds.field(key) == value for key, value in (filters or {}).items()]
    if days is not None:
        clauses.append(pds.field("ds").isin(pa.array([f"{d:%Y-%m-%d}" for d in days], pa.string())))
    return functools.reduce(operator.and_, clauses) if clauses else None


def stream(
    dataset: pds.Dataset,
    columns: Sequence[str],
    partitions: pds.Expression | None,
    optional: Mapping[str, pa.DataType] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Pieces of at most STREAM_ROWS rows of these partitions, file after file, one piece in memory at a time.

    An Arrow scanner would hold several whole row groups. optional: columns that are null in files without them. Raises
    TableError where a file lacks another column.
    """
    absent = optional or {}
    for file in dataset.get_fragments(filter=partitions):
        fixed = pds.get_partition_keys(file.partition_expression)
        stored = [c for c in columns if c not in fixed]
        with pq.ParquetFile(file.open(), pre_buffer=False, buffer_size=READ_BYTES) as opened:
            missing = set(stored) - set(opened.schema_arrow.names)
            if required := sorted(missing - set(absent)):
                raise TableError(f"{file.path} has no column {', '.join(required)}; rebuild the day of that file")
            stored = [c for c in stored if c not in missing]
            for piece in opened.iter_batches(STREAM_ROWS, columns=stored):
                arrays = [
                    pa.repeat(pa.scalar(fixed[c], dataset.schema.field(c).type), piece.num_rows)
                    if c in fixed
                    else pa.nulls(piece.num_rows, absent[c])
                    if c in missing
                    else piece[c]
                    for c in columns
                ]
                yield pa.RecordBatch.from_arrays(arrays, names=list(columns))
        # Arrow's pool keeps several times what it has in use.
        pa.default_memory_pool().release_unused()


def count_rows(
    dataset: DatasetSpec,
    table: str,
    days: Sequence[date],
    *,
    filters: dict[str, str] | None = None,
    version: int | None = None,
) -> dict[date, int]:
    """Rows of each day from the Delta log, or from the files' footers where the log does not count them."""
    opened = open_table(dataset, table, version)
    wanted = {f"partition.{key}": value for key, value in (filters or {}).items()}
    rows = dict.fromkeys(days, 0)
    for file in pa.table(opened.get_add_actions(flatten=True)).to_pylist():
        day = date.fromisoformat(file["partition.ds"])
        if day not in rows or any(file[key] != value for key, value in wanted.items()):
            continue
        if file.get("num_records") is None:
            files = opened.to_pyarrow_dataset()
            return {d: files.count_rows(filter=condition([d], filters)) for d in days}
        rows[day] += file["num_records"]
    return rows
