"""Print one content hash per table and day: two lakes, or two runs of one lake, hold the same rows if the hashes match.

A hash covers the rows and the columns of the TableSpec, whatever the order of rows or the layout of files; clocks,
durations, storage locations and Delta versions (volatile columns) are not hashed. Without days: all days. Tables
without days (shared_instance_sets) are hashed as a whole, vocabularies per version.

  python -m jobs.hash_tables --dataset generated --json before.json
  python -m jobs.hash_tables --dataset generated --compare before.json    # exits 2 and names what differs
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from jobs.cli import StepArgs, StepOptions, run_step
from lake.files import write_json
from lake.reader import open_table, read_table, table_exists
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.table_spec import TableSpec
from schemas.tables import get_table, table_names

GROUP = "operators"
WHOLE = "-"


class HashOptions(StepOptions):
    """Options of this command."""

    table: list[str] = Field(default=[], title="TABLE", description="only these tables; may be given several times")
    json_file: Path | None = Field(
        default=None, validation_alias="json", title="FILE", description="write the hashes to FILE"
    )
    compare: Path | None = Field(default=None, title="FILE", description="compare with FILE; exit 2 on a difference")


@dataclass(frozen=True, order=True)
class ContentHash:
    """Hash of one part of a table: `ds` is a day, a vocabulary version, or `-` for the whole table."""

    table: str
    ds: str
    rows: int
    hash: str


def hash_rows(rows: pa.Table, spec: TableSpec) -> str:
    """First 16 hex digits of the SHA-256 over the content columns of `rows`, independent of the rows' order.

    Rows are put in the order of the table's keys (of all sortable columns where keys repeat or there are none); then
    every column adds its name, validity, lengths and value bytes.
    """
    ordered = _ordered(rows.select(spec.content_columns), spec.keys)
    digest = hashlib.sha256()
    for name in ordered.column_names:
        digest.update(name.encode())
        for part in _canonical_parts(ordered[name].combine_chunks()):
            digest.update(part)
    return digest.hexdigest()[:16]


def hash_lake(dataset: DatasetSpec, tables: Sequence[str], days: Sequence[date]) -> Iterator[ContentHash]:
    """Hashes of the parts of `tables` that exist, sorted; of `days` only where any are given."""
    for table in sorted(tables):
        if not table_exists(dataset, table):
            continue
        spec = get_table(table).for_dataset(dataset)
        column = _part_column(spec)
        if column is None:
            rows = read_table(dataset, table, columns=spec.content_columns)
            yield ContentHash(table, WHOLE, rows.num_rows, hash_rows(rows, spec))
            continue
        for part in sorted({p[column] for p in open_table(dataset, table).partitions()}):
            if _is_wanted(part, days):
                rows = read_table(dataset, table, columns=spec.content_columns, filters={column: part})
                yield ContentHash(table, part, rows.num_rows, hash_rows(rows, spec))


def differences(
    found: Sequence[ContentHash], expected: Sequence[ContentHash], tables: Sequence[str], days: Sequence[date]
) -> list[str]:
    """One line per part of `tables` and `days` that is missing on one side or differs."""
    here = {(h.table, h.ds): h for h in found}
    there = {(h.table, h.ds): h for h in expected if h.table in tables and _is_wanted(h.ds, days)}
    lines = []
    for key in sorted(here.keys() | there.keys()):
        mine, theirs = here.get(key), there.get(key)
        if mine != theirs:
            shown = [f"{h.rows} rows {h.hash}" if h else "missing" for h in (theirs, mine)]
            lines.append(f"{key[0]} {key[1]}: was {shown[0]}, is {shown[1]}")
    return lines


def step(args: StepArgs[HashOptions]) -> None:
    """Print the hashes, then save or compare them."""
    options = args.options
    tables = options.table or table_names()
    for table in tables:
        get_table(table)  # an unknown name is an error, not an empty answer
    if options.json_file and options.json_file.is_dir():
        raise TableError(f"--json {options.json_file} is a folder; give a file")
    expected = _load(options.compare) if options.compare else None
    found = []
    for part in hash_lake(args.dataset, tables, args.days):
        print(f"{part.table:<24} {part.ds:<20} {part.rows:>10} {part.hash}", flush=True)
        found.append(part)
    if not found:
        raise TableError(f"no table of data set {args.dataset.name} has rows of these days; check MSR_LAKE_ROOT")
    if options.json_file:
        write_json(options.json_file, {"dataset": args.dataset.name, "hashes": [asdict(h) for h in found]})
    if expected is not None:
        lines = differences(found, expected, tables, args.days)
        print("\n".join(f"differs: {line}" for line in lines) or f"all {len(found)} parts match {options.compare}")
        if lines:
            raise TableError(f"{len(lines)} parts differ from {options.compare}: {'; '.join(lines[:3])} ...")


def _ordered(rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    sortable = [f.name for f in rows.schema if not pa.types.is_nested(f.type)]
    by = list(keys)
    if not by or rows.group_by(by).aggregate([]).num_rows < rows.num_rows:
        by = [*by, *(name for name in sortable if name not in by)]
    return rows.take(pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in by]))


def _canonical_parts(values: pa.Array) -> Iterator[bytes]:
    """Bytes that depend on the values alone: validity, then lengths and items of lists and texts, or plain values."""
    yield str(values.type).encode()
    yield np.asarray(pc.is_valid(values)).astype(np.uint8).tobytes()
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        yield _int64_bytes(pc.list_value_length(values))
        yield from _canonical_parts(pc.list_flatten(values))
    elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        yield _int64_bytes(pc.binary_length(values))
        yield _text_bytes(values)
    elif pa.types.is_timestamp(values.type):
        yield _int64_bytes(values.cast(pa.int64()))
    else:
        yield np.ascontiguousarray(pc.fill_null(values, _zero(values.type)).to_numpy(zero_copy_only=False)).tobytes()


def _text_bytes(values: pa.Array) -> bytes:
    """The UTF-8 bytes of all texts, one after the other, without an object per text."""
    texts = pa.concat_arrays([values.drop_null().cast(pa.large_string())])  # a fresh array: offsets begin at its start
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return data[ends[0] : ends[-1]].to_pybytes() if data is not None and len(texts) else b""


def _int64_bytes(values: pa.Array) -> bytes:
    return np.ascontiguousarray(pc.fill_null(values, 0).cast(pa.int64()).to_numpy(zero_copy_only=False)).tobytes()


def _zero(kind: pa.DataType) -> pa.Scalar:
    return pa.scalar(False) if pa.types.is_boolean(kind) else pa.scalar(0).cast(kind)


def _part_column(spec: TableSpec) -> str | None:
    return next((c for c in ("ds", "first_version") if c in spec.partition_by), None)


def _is_wanted(part: str, days: Sequence[date]) -> bool:
    """Whether a part belongs to `days`: a day itself, a vocabulary version by its first day of validity."""
    return not days or part == WHOLE or part.split("-")[0] in {f"{d:%Y%m%d}" for d in days} or part in map(str, days)


def _load(path: Path) -> list[ContentHash]:
    try:
        return [ContentHash(**part) for part in json.loads(path.read_text())["hashes"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(f"{path}: is not a file of hashes ({error}); make one with --json {path}") from error


if __name__ == "__main__":
    run_step(__doc__, step, HashOptions, needs_days=False)
