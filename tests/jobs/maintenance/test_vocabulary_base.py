"""Folding keeps what a version says and what later ones go on from, whether or not a value was evicted."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.maintenance.vocabulary_base import fold_vocabulary
from lake.arrow_writer import overwrite_partition
from lake.vocabularies import largest_ids, published_versions, read_changes, read_vocabulary
from schemas.dataset_spec import DatasetSpec
from schemas.tables import get_table
from tests.support.random_log import random_dataset

DAYS = [date(2026, 3, 3) + timedelta(days=n) for n in range(3)]


def dataset_with(**bounds: Any) -> DatasetSpec:
    fields = [f.model_dump() for f in random_dataset().fields]
    return random_dataset(fields=[fields[0] | bounds, *fields[1:]])


def write(dataset: DatasetSpec, ds: date, *changes: tuple[str, str, int, str]) -> None:
    version = str(dataset.vocabulary_version(ds))
    names = ("field", "value", "id", "change")
    rows = [dict(zip(names, c, strict=True)) | {"first_version": version} for c in (*changes, ("", "", 0, "published"))]
    table = pa.Table.from_pylist(rows, schema=get_table("vocabularies").arrow_schema())
    overwrite_partition(table, dataset, "vocabularies", {"first_version": version})


def ids(dataset: DatasetSpec, ds: date) -> dict[str, int]:
    rows = read_vocabulary(dataset, str(dataset.vocabulary_version(ds))).to_pylist()
    return {row["value"]: row["id"] for row in rows}


@pytest.mark.parametrize("bounds", [{"evict_after_days": 2}, {"max_ids": 9}, {"hash_buckets": 9}])
def test_without_evicted_values(lake: Path, bounds: dict[str, int]) -> None:
    dataset = dataset_with(**bounds)
    for n, ds in enumerate(DAYS):
        write(dataset, ds, ("item", f"i{n}", n + 1, "added"))
    before = [ids(dataset, ds) for ds in DAYS[1:]]
    folded = fold_vocabulary(dataset, DAYS[1], dry_run=False)
    assert folded is not None and folded.bytes > 0
    assert [ids(dataset, ds) for ds in DAYS[1:]] == before and len(published_versions(dataset)) == 2


def test_the_largest_id_stays_known_when_its_value_was_evicted(lake: Path) -> None:
    dataset = dataset_with(evict_after_days=2)
    write(dataset, DAYS[0], ("user", "ann", 1, "added"), ("user", "bob", 2, "added"), ("user", "cid", 3, "added"))
    write(dataset, DAYS[1], ("user", "ann", 1, "evicted"), ("user", "cid", 3, "evicted"))
    assert fold_vocabulary(dataset, DAYS[1], dry_run=True) is not None and len(published_versions(dataset)) == 2
    fold_vocabulary(dataset, DAYS[1], dry_run=False)
    changes = read_changes(dataset, str(dataset.vocabulary_version(DAYS[1])), ["field", "id", "change"])
    assert ids(dataset, DAYS[1]) == {"bob": 2} and largest_ids(dataset, changes) == {"user": 3}
    assert changes.num_rows == 3, "ann is gone"


def test_a_vocabulary_without_bounds_is_left_alone(lake: Path) -> None:
    dataset = random_dataset()
    for ds in DAYS:
        write(dataset, ds)
    assert fold_vocabulary(dataset, DAYS[2], dry_run=False) is None and len(published_versions(dataset)) == 3
