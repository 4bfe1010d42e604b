"""Fold old vocabulary versions into one where fields are bounded, so that the table does not grow with the log."""

from __future__ import annotations

from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from jobs.maintenance.retention import Removal
from lake.arrow_writer import replace_partitions
from lake.reader import open_table
from lake.vocabularies import VOCABULARIES, added, fingerprints, lineage_of, live, published_versions, read_changes
from schemas.dataset_spec import DatasetSpec
from schemas.tables.vocabularies import ADDED, EVICTED, PUBLISHED, TABLE

_SCHEMA = TABLE.arrow_schema()


def fold_vocabulary(dataset: DatasetSpec, first_day: date, *, dry_run: bool) -> Removal | None:
    """Make the version of `first_day` the first one that is stored: earlier ones and what they lost are removed.

    None where there is nothing to fold, or no field bounds its ids: then all grows anyway. The values keep their ids,
    and of each field the largest id stays known, because no other value may get it.
    """
    base = dataset.vocabulary_version(first_day)
    published = {v for v in published_versions(dataset) if lineage_of(v) == dataset.lineage}
    older = sorted(v for v in published if base is not None and v < base)
    if base is None or base not in published or not older or not any(f.is_bounded for f in dataset.fields):
        return None
    removal = Removal(what=f"vocabulary versions {older[0]} .. {older[-1]}", bytes=_bytes_of(dataset, older))
    if not dry_run:
        rows = pa.concat_tables([_base_rows(dataset, base), _record(dataset, base)])
        replace_partitions(rows, dataset, VOCABULARIES, "first_version", [*older, base])
    return removal


def _base_rows(dataset: DatasetSpec, base: str) -> pa.Table:
    """Rows that make the version from nothing, with its own name as first_version."""
    changes = read_changes(dataset, base, TABLE.column_names)
    kept = live(changes)
    # Where the value with a field's largest id was evicted, both facts stay
    largest = added(changes).group_by("field").aggregate([("id", "max")]).rename_columns(["field", "id"])
    unused = largest.join(kept.select(["field", "id"]), ["field", "id"], join_type="left anti")
    last = changes.join(unused, ["field", "id"], join_type="left semi")
    # A join forgets which columns have no nulls
    rows = pa.concat_tables([part.select(TABLE.column_names).cast(_SCHEMA) for part in (kept, last)])
    assert set(pc.unique(rows["change"]).to_pylist()) <= {ADDED, EVICTED}
    names = pa.repeat(pa.scalar(base), rows.num_rows)
    return rows.set_column(rows.column_names.index("first_version"), "first_version", names).cast(_SCHEMA)


def _record(dataset: DatasetSpec, version: str) -> pa.Table:
    row = {
        "first_version": version,
        "field": "",
        "value": fingerprints(dataset)[version],
        "id": 0,
        "change": PUBLISHED,
    }
    return pa.Table.from_pylist([row], schema=_SCHEMA)


def _bytes_of(dataset: DatasetSpec, versions: list[str]) -> int:
    files = pa.table(open_table(dataset, VOCABULARIES).get_add_actions(flatten=True))
    is_old = pc.is_in(files["partition.first_version"], pa.array(versions, pa.string()))
    return pc.sum(files.filter(is_old)["size_bytes"]).as_py() or 0
