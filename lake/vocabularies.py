"""Vocabulary versions as they are stored: all changes of a lineage up to a version, each stored once."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pds

from lake.locations import table_uri
from lake.reader import open_dataset, open_table, table_exists
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.tables.vocabularies import ADDED, EVICTED, PUBLISHED, TABLE

VOCABULARIES = TABLE.name


def lineage_of(version: str) -> str:
    """The lineage that a version's name ends with."""
    return version.rpartition("-")[2]


def published_versions(dataset: DatasetSpec, table_version: int | None = None) -> set[str]:
    """Versions of all lineages that are in the table, from the Delta log alone.

    Raises TableError where the table holds a full copy per version, as it once did.
    """
    if table_version is None and not table_exists(dataset, VOCABULARIES):
        return set()
    opened = open_table(dataset, VOCABULARIES, table_version)
    if list(opened.metadata().partition_columns) != list(TABLE.partition_by):
        again = command("build_vocabularies", dataset, "--from .. --to ..")
        raise TableError(
            f"{table_uri(dataset, VOCABULARIES)} holds a full copy of each version, as earlier releases stored them; "
            f"remove that folder and build the versions again, which gives the same ids: {again}"
        )
    return {p["first_version"] for p in opened.partitions()}


def read_changes(
    dataset: DatasetSpec, version: str, columns: Sequence[str], table_version: int | None = None
) -> pa.Table:
    """What made `version`: rows `added` and `evicted` by it and by earlier versions of its lineage, with `columns`.

    No rows where the version is not published.
    """
    published = published_versions(dataset, table_version)
    chain = sorted(v for v in published if v <= version and lineage_of(v) == lineage_of(version))
    chain = chain if version in published else []
    is_change = pds.field("change").isin([ADDED, EVICTED])
    rows = pds.field("first_version").isin(pa.array(chain, pa.string())) & is_change
    return open_dataset(dataset, VOCABULARIES, columns, table_version).to_table(columns=list(columns), filter=rows)


def fingerprints(dataset: DatasetSpec) -> dict[str, str]:
    """Published version of the data set's lineage -> what it records of scenarios and of the fields with `since`."""
    if not published_versions(dataset):
        return {}
    columns = ["first_version", "value"]
    files = open_dataset(dataset, VOCABULARIES, [*columns, "change"])
    marks = files.to_table(columns=columns, filter=pds.field("change") == PUBLISHED)
    found = dict(zip(marks["first_version"].to_pylist(), marks["value"].to_pylist(), strict=True))
    return {version: value for version, value in found.items() if lineage_of(version) == dataset.lineage}


def added(changes: pa.Table) -> pa.Table:
    """Values that ever got an id; needs the column change."""
    return changes.filter(pc.equal(changes["change"], ADDED))


def live(changes: pa.Table) -> pa.Table:
    """Values that have an id; needs the columns field, id and change."""
    evicted = changes.filter(pc.equal(changes["change"], EVICTED))
    if evicted.num_rows == 0:
        return added(changes)
    return added(changes).join(evicted.select(["field", "id"]), ["field", "id"], join_type="left anti")


def read_vocabulary(dataset: DatasetSpec, version: str, table_version: int | None = None) -> pa.Table:
    """(field, value, id, first_version) of the values that have an id in `version`; none where it is not published."""
    columns = ["field", "value", "id", "first_version", "change"]
    return live(read_changes(dataset, version, columns, table_version)).drop_columns("change")


def largest_ids(dataset: DatasetSpec, changes: pa.Table) -> dict[str, int]:
    """Field -> the largest id that a value ever had, or could get (hash_buckets); needs field, id and change."""
    largest = added(changes).group_by("field").aggregate([("id", "max")])
    found = dict(zip(largest["field"].to_pylist(), largest["id_max"].to_pylist(), strict=True))
    return found | {f.name: f.hash_buckets for f in dataset.fields if f.hash_buckets is not None}


def num_ids(dataset: DatasetSpec, version: str) -> dict[str, int]:
    """`largest_ids` of a published version."""
    return largest_ids(dataset, read_changes(dataset, version, ["field", "id", "change"]))
