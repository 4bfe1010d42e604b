"""Vocabulary versions read from changes that are stored once."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lake.arrow_writer import overwrite_partition
from lake.locations import table_uri
from lake.vocabularies import published_versions, read_vocabulary
from schemas.errors import TableError
from schemas.tables import get_table
from tests.support.tiny_lake import tiny_dataset

DATASET = tiny_dataset()
Change = tuple[str, str, int, str]


def write(version: str, *changes: Change) -> None:
    names = ("field", "value", "id", "change")
    rows = [dict(zip(names, c, strict=True)) | {"first_version": version} for c in (*changes, ("", "", 0, "published"))]
    table = pa.Table.from_pylist(rows, schema=get_table("vocabularies").arrow_schema())
    overwrite_partition(table, DATASET, "vocabularies", {"first_version": version})


def ids(version: str) -> dict[str, int]:
    rows = read_vocabulary(DATASET, version).to_pylist()
    return {row["value"]: row["id"] for row in rows}


def test_a_version_is_what_came_up_to_it_in_its_lineage(lake: Path) -> None:
    write("20260102-aaaaaaaa", ("user", "ann", 1, "added"), ("user", "bob", 2, "added"))
    write("20260103-aaaaaaaa", ("user", "ann", 1, "evicted"), ("user", "cid", 3, "added"))
    write("20260104-aaaaaaaa")
    write("20260105-aaaaaaaa", ("user", "ann", 4, "added"))
    write("20260103-bbbbbbbb", ("user", "dan", 1, "added"))
    assert ids("20260102-aaaaaaaa") == {"ann": 1, "bob": 2}
    assert ids("20260103-aaaaaaaa") == ids("20260104-aaaaaaaa") == {"bob": 2, "cid": 3}
    assert ids("20260105-aaaaaaaa") == {"bob": 2, "cid": 3, "ann": 4}
    assert ids("20260103-bbbbbbbb") == {"dan": 1}
    assert ids("20260106-aaaaaaaa") == {}, "not published"
    assert len(published_versions(DATASET)) == 5


def test_a_table_of_full_copies_is_told(lake: Path) -> None:
    rows = pa.table({"vocabulary_version": ["20260102-aaaaaaaa"], "field": ["user"], "value": ["ann"], "id": [1]})
    write_deltalake(table_uri(DATASET, "vocabularies"), rows, partition_by=["vocabulary_version"])
    with pytest.raises(TableError, match=r"holds a full copy of each version.*jobs\.build_vocabularies --dataset tiny"):
        published_versions(DATASET)
