"""Typed rows of small tables: read and written as the Row classes of `schemas/tables`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import TypeVar

import pyarrow as pa

from lake import reader
from schemas.dataset_spec import DatasetSpec
from schemas.table_spec import Row
from schemas.tables import get_table

R = TypeVar("R", bound=Row)


def read_rows(
    dataset: DatasetSpec, row: type[R], *, days: Sequence[date] | None = None, filters: dict[str, str] | None = None
) -> list[R]:
    """All rows, or those of some days and partition values; none where the table does not exist yet.

    A nullable column that an older table lacks reads as None. Raises TableError where another column is missing.
    """
    if not reader.table_exists(dataset, row.table):
        return []
    spec = get_table(row.table)
    present = set(reader.open_dataset(dataset, row.table, ()).schema.names)
    names = [c.name for c in spec.columns if c.name in present or not c.nullable]
    rows = reader.read_table(dataset, row.table, columns=names, days=days, filters=filters).to_pylist()
    absent = dict.fromkeys(set(spec.column_names) - set(names))
    return [row(**values, **absent) for values in rows]


def to_arrow(rows: Sequence[Row], table: str) -> pa.Table:
    """The rows with the table's schema, for the writers."""
    return pa.Table.from_pylist([asdict(r) for r in rows], schema=get_table(table).arrow_schema())
