"""Write Arrow rows to Delta tables, for steps without Spark: the TableSpec enforced, one transaction per partition.

The counterpart for Spark frames is `lake/spark_writer.py`; both make tables with the same constraints and properties.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from lake.foreign import is_unwritable, naming_unwritable_features
from lake.locations import table_uri
from lake.reader import check_readable, table_exists
from lake.retry import commit_with_retries
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.table_spec import TableSpec
from schemas.tables import get_table


def overwrite_partition(rows: pa.Table, dataset: DatasetSpec, table: str, partition: dict[str, str]) -> int:
    """Replace one partition by `rows` in one transaction; returns the number of rows written.

    `partition` names a value for all or some of the table's partition columns, or of its keys where it has no
    partitions. Raises TableError where the rows do not fit the table's spec or lie outside the partition.
    """
    spec = get_table(table).for_dataset(dataset)
    spec.require_partition(partition)
    fitted = _fit(rows, spec)
    for column, value in partition.items():
        outside = pc.sum(pc.not_equal(pc.cast(fitted[column], pa.string()), value)).as_py() or 0
        if outside:
            raise TableError(f"table {table}: {outside} rows have a {column} other than {value!r}")
    predicate = " AND ".join(f"{column} = '{value}'" for column, value in partition.items())
    uri = table_uri(dataset, table)
    check_readable(dataset, table)
    with naming_unwritable_features(uri):
        _create(spec, dataset)
        commit_with_retries(
            lambda: write_deltalake(uri, fitted, mode="overwrite", predicate=predicate, schema_mode=None), _is_lost_race
        )
    return int(fitted.num_rows)


def replace_partitions(rows: pa.Table, dataset: DatasetSpec, table: str, column: str, values: Sequence[str]) -> None:
    """Replace several partitions of an existing table, those with `values` in `column`, in one transaction.

    Raises TableError where the rows do not fit the table's spec or lie outside these partitions.
    """
    spec = get_table(table).for_dataset(dataset)
    spec.require_partition(dict.fromkeys([column], ""))
    fitted = _fit(rows, spec)
    if outside := set(pc.unique(fitted[column]).to_pylist()) - set(values):
        raise TableError(f"table {table}: rows have {column} {sorted(outside)}, which is not to be replaced")
    listed = ", ".join(f"'{value}'" for value in values)
    uri = table_uri(dataset, table)
    commit_with_retries(
        lambda: write_deltalake(uri, fitted, mode="overwrite", predicate=f"{column} IN ({listed})"), _is_lost_race
    )


def _fit(rows: pa.Table, spec: TableSpec) -> pa.Table:
    """`rows` with exactly the spec's columns, in its order and types. Raises TableError where they do not fit."""
    spec.require_columns(rows.column_names)
    for column in spec.columns:
        nulls = rows[column.name].null_count
        if nulls and not column.nullable:
            raise TableError(f"table {spec.name}: column {column.name} must not be null, but {nulls} rows are")
    try:
        return rows.select(spec.column_names).cast(spec.arrow_schema())
    except pa.ArrowException as error:
        raise TableError(f"table {spec.name}: rows do not fit the spec: {error}") from error


def _create(spec: TableSpec, dataset: DatasetSpec) -> None:
    """Create the table with its constraints unless it exists; safe when several processes do so at once."""
    uri = table_uri(dataset, spec.name)
    if not table_exists(dataset, spec.name):
        try:
            DeltaTable.create(
                uri,
                schema=spec.stored_schema(),
                partition_by=list(spec.partition_by),
                mode="ignore",
                configuration={"delta.enableDeletionVectors": "false"},
                description=" ".join(spec.doc.split()),
            )
        except DeltaError:
            if not table_exists(dataset, spec.name):
                raise
    commit_with_retries(lambda: _add_constraints(uri, spec), _is_lost_race)
    commit_with_retries(lambda: _add_columns(uri, spec), _is_lost_race)


def _add_constraints(uri: str, spec: TableSpec) -> None:
    table = DeltaTable(uri)
    present = table.metadata().configuration
    for constraint in spec.constraints:
        if f"delta.constraints.{constraint.name}" not in present:
            try:
                table.alter.add_constraint({constraint.name: constraint.sql})
            except DeltaError:
                if f"delta.constraints.{constraint.name}" not in DeltaTable(uri).metadata().configuration:
                    raise


def _add_columns(uri: str, spec: TableSpec) -> None:
    """The columns that a table of an older version lacks."""
    table = DeltaTable(uri)
    present = {f.name for f in table.schema().fields}
    missing = [c.name for c in spec.columns if c.added and c.name not in present]
    if missing:
        stored = Schema.from_arrow(spec.stored_schema())
        table.alter.add_columns([f for f in stored.fields if f.name in missing])


def _is_lost_race(error: BaseException) -> bool:
    return isinstance(error, CommitFailedError) and not is_unwritable(error)
