"""Erase rows from the files of a Delta table in place, in every version at once.

Delta never changes a file; what must not exist in any version is the exception. A file keeps its name and its other
rows, so that versions stay readable; the log gets the new size and loses the file's statistics, whose least and
greatest values may be what was erased. A killed erasure is finished by running it again. Nothing else may use the table
meanwhile, and engines that hold its log in memory must be started again afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.files import replacing

LOG = "_delta_log"


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """A data file of any version, and its partition's values."""

    path: Path
    partition: Mapping[str, str]

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows without partition columns; of `columns` only those that the file has."""
        with pq.ParquetFile(self.path, coerce_int96_timestamp_unit="us") as file:
            names = set(file.schema_arrow.names)
            return file.read(None if columns is None else [c for c in columns if c in names])


Find = Callable[[TableFile], pa.Array]
Change = Callable[[pa.Table, pa.Array], pa.Table]


def table_files(root: Path) -> Iterator[TableFile]:
    """Every data file below a table's folder, whether or not a version names it."""
    for path in sorted(root.rglob("*.parquet")):
        parts = path.relative_to(root).parts[:-1]
        if LOG not in parts and not path.name.startswith("."):
            pairs = [part.partition("=") for part in parts]
            yield TableFile(path=path, partition={name: unquote(value) for name, _, value in pairs})


def drop_rows(rows: pa.Table, found: pa.Array) -> pa.Table:
    """The rows that were not found."""
    return rows.filter(pc.invert(found))


def erase(root: Path, schema: pa.Schema, find: Find, change: Change = drop_rows) -> int:
    """Apply `change` to the files in which `find` finds rows, then mend the log; returns the number of rows found.

    schema: the table's. `find` returns a boolean per row without nulls.
    """
    erased, changed = 0, set()
    for file in table_files(root):
        found = find(file)
        rows = pc.sum(found).as_py() or 0
        if rows:
            erased += rows
            changed.add(file.path)
            _write(file.path, _typed(change(file.read(), found), schema))
    _mend_log(root, changed)
    return erased


def _typed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """In the table's types: Spark writes times in a format that Arrow reads without a zone, and writes otherwise."""
    for at, name in enumerate(rows.column_names):
        if name in schema.names:
            rows = rows.set_column(at, name, rows[name].cast(schema.field(name).type))
    return rows


def _write(path: Path, rows: pa.Table) -> None:
    with replacing(path) as aside:
        pq.write_table(rows, aside)
    path.with_name(f".{path.name}.crc").unlink(missing_ok=True)  # Hadoop's checksum of the old bytes


def _mend_log(root: Path, changed: set[Path]) -> None:
    """Make the log fit the files: those changed now, and those that a killed erasure left with another size."""
    log = root / LOG
    for path in sorted(log.rglob("*.json")):
        lines = path.read_text(encoding="utf-8").splitlines()
        mended = [_mended_line(root, changed, line) for line in lines]
        if mended != lines:
            with replacing(path) as aside:
                aside.write_text("\n".join(mended) + "\n", encoding="utf-8")
            _forget_checksums(path)
    for path in sorted(log.rglob("*.parquet")):
        with pq.ParquetFile(path) as file:
            table = file.read()
        actions = table.to_pylist()  # one per file of the table
        if sum(_mend(root, changed, action) for action in actions):
            _write(path, pa.Table.from_pylist(actions, schema=table.schema))
            for name in ("_last_checkpoint", "._last_checkpoint.crc"):
                (log / name).unlink(missing_ok=True)


def _forget_checksums(path: Path) -> None:
    """Of a log file: Hadoop's, and Delta's own, which repeats the files' statistics."""
    version = path.name.partition(".")[0]
    for name in (f".{path.name}.crc", f"{version}.crc", f".{version}.crc.crc"):
        path.with_name(name).unlink(missing_ok=True)


def _mended_line(root: Path, changed: set[Path], line: str) -> str:
    action = json.loads(line) if line else {}
    return json.dumps(action, separators=(",", ":")) if _mend(root, changed, action) else line


def _mend(root: Path, changed: set[Path], action: Mapping[str, Any]) -> bool:
    """Put the file's size into an action that adds or removes it, and take its statistics out; whether that was due."""
    for kind in ("add", "remove"):
        named = action.get(kind)
        path = root / unquote(named["path"]) if named else root
        if named and path.is_file():
            size = path.stat().st_size
            is_old = named.get("size") not in (None, size)
            has_statistics = any(named.get(key) is not None for key in ("stats", "stats_parsed"))
            if is_old or (path in changed and has_statistics):
                named.update({key: None for key in ("stats", "stats_parsed") if key in named})
                if named.get("size") is not None:
                    named["size"] = size
                return True
    return False
