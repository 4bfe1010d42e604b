"""The comparison that the benchmark's DuckDB numbers stand on: it finds a row, an id or a list that differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.bench_features import check_equal
from schemas.dataset_spec import DatasetSpec
from tests.support.random_log import START, Rows, publish_day, random_dataset, random_day, to_arrow

DAY = START


def rows_of_day() -> Rows:
    """Without prices: NaN equals nothing, and no table that is compared has one."""
    return [row | {"x_price": None} for row in random_day(DAY)]


@pytest.fixture
def dataset(lake: Path) -> DatasetSpec:
    return random_dataset()


def test_rows_in_another_order_are_equal(dataset: DatasetSpec) -> None:
    publish_day(rows_of_day(), dataset, DAY)
    other = to_arrow(rows_of_day()[::-1], dataset)
    assert check_equal("impressions", dataset, DAY, other, "instance_id") == 150


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("label", lambda rows: rows[3].update(label=1 - rows[3]["label"])),
        ("x_tags", lambda rows: rows[3].update(x_tags=["t1", "t2", "t3", "t4", "t5", "t6"])),
        ("instance_id", lambda rows: rows.pop()),
    ],
)
def test_what_differs_is_named(dataset: DatasetSpec, column: str, change: Callable[[Rows], object]) -> None:
    publish_day(rows_of_day(), dataset, DAY)
    rows = rows_of_day()
    change(rows)
    with pytest.raises(RuntimeError, match=rf"impressions of {DAY}: Spark and DuckDB differ in .*'{column}'"):
        check_equal("impressions", dataset, DAY, to_arrow(rows, dataset), "instance_id")
