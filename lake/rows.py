"""Typed rows of small tables: read and written as the Row classes of `schemas/tables`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import TypeVar

import pyarrow as pa

from lake import reader
from lake.arrow_writer import overwrite_partition
from schemas.dataset_spec import DatasetSpec
from schemas.table_spec import Row
from schemas.tables import get_table

R = TypeVar("R", bound=Row)


def read_rows(
    dataset: DatasetSpec, row: type[R], *, days: Sequence[date] | None = None, filters: dict[str, str] | None = None
) -> list[R]:
    """All rows, or those of some days and partition values; none where the table does not exist yet.

    Raises TableError where the table lacks a column.
    """
    if not reader.table_exists(dataset, row.table):
        return []
    columns = get_table(row.table).column_names
    return [
        row(**r) for r in reader.read_table(dataset, row.table, columns=columns, days=days, filters=filters).to_pylist()
    ]


def write_rows(dataset: DatasetSpec, rows: Sequence[Row]) -> None:
    """Replace the partition that the rows (at least one) belong to, or their key in a table without partitions.

    Raises TableError where the rows belong to several partitions.
    """
    spec = get_table(rows[0].table)
    partition = {name: str(getattr(rows[0], name)) for name in spec.replaced_by}
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=spec.arrow_schema())
    overwrite_partition(table, dataset, spec.name, partition)
