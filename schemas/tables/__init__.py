"""One module per Delta table, each with a TableSpec `TABLE` and, for small tables, its Row class."""

from __future__ import annotations

import importlib
import pkgutil

from schemas.errors import TableError
from schemas.table_spec import TableSpec


def table_names() -> list[str]:
    """Names of all tables, sorted: the module names of this package."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


def get_table(name: str) -> TableSpec:
    """The spec of one table. Raises TableError where no such table is specified."""
    if name not in table_names():
        raise TableError(f"table {name!r} is not specified; known tables: {', '.join(table_names())}")
    spec: TableSpec = importlib.import_module(f"{__name__}.{name}").TABLE
    return spec
