"""The writer of steps without Spark: the spec is enforced and a partition is replaced as a whole."""

from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake.exceptions import DeltaError

from lake.arrow_writer import overwrite_partition
from lake.reader import open_table, published_days, read_table
from schemas.errors import TableError
from schemas.load_dataset import load_dataset

MASKS = "shared_instance_masks"

GENERATED = load_dataset("generated")


@pytest.fixture(autouse=True)
def _lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path))


def masks(ds: str, count: int, rank: float = 0.5) -> pa.Table:
    return pa.table(
        {
            "shared_set_id": ["s"] * count,
            "ds": [ds] * count,
            "instance_id": list(range(count)),
            "scenario_id": pa.array([0] * count, pa.int32()),
            "shared_score": [0.5] * count,
            "rank_pct": [rank] * count,
            "rank_pct_scenario": [rank] * count,
            "is_shared": [True] * count,
            "features_files": ["files"] * count,
        }
    )


def write(ds: str, count: int) -> int:
    return overwrite_partition(masks(ds, count), GENERATED, MASKS, {"shared_set_id": "s", "ds": ds})


def test_a_rewrite_replaces_its_day_and_no_other() -> None:
    write("2026-01-01", 3)
    write("2026-01-02", 4)
    assert write("2026-01-01", 2) == 2
    rows = read_table(GENERATED, MASKS)
    assert sorted(rows["ds"].to_pylist()) == ["2026-01-01"] * 2 + ["2026-01-02"] * 4
    assert published_days(GENERATED, MASKS) == {date(2026, 1, 1), date(2026, 1, 2)}


def test_concurrent_processes_lose_nothing() -> None:
    days = [f"2026-01-{n:02d}" for n in range(1, 5)]
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        written = list(pool.map(write, days, range(1, 5)))
    assert written == [1, 2, 3, 4]
    assert read_table(GENERATED, MASKS).num_rows == 10
    assert "delta.constraints.rank_is_inside" in open_table(GENERATED, MASKS).metadata().configuration


def test_check_constraints_hold_in_the_table() -> None:
    with pytest.raises(DeltaError, match="rank_pct"):
        overwrite_partition(
            masks("2026-01-01", 2, rank=1.5),
            GENERATED,
            MASKS,
            {"shared_set_id": "s", "ds": "2026-01-01"},
        )
    assert read_table(GENERATED, MASKS).num_rows == 0


@pytest.mark.parametrize(
    ("rows", "where", "message"),
    [
        (masks("2026-01-01", 1).drop_columns(["is_shared"]), {"ds": "2026-01-01"}, r"lack columns \['is_shared'\]"),
        (masks("2026-01-02", 3), {"ds": "2026-01-01"}, "3 rows have a ds other than '2026-01-01'"),
        (masks("2026-01-01", 1), {"day": "2026-01-01"}, r"not by \['day'\]"),
        (masks("2026-01-01", 1), {}, "not by nothing"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows: pa.Table, where: dict[str, str], message: str) -> None:
    with pytest.raises(TableError, match=message):
        overwrite_partition(rows, GENERATED, MASKS, where)


def test_nulls_are_counted_in_the_error() -> None:
    rows = masks("2026-01-01", 3).set_column(6, "rank_pct_scenario", pa.array([None, 0.5, None], pa.float64()))
    with pytest.raises(TableError, match="rank_pct_scenario must not be null, but 2 rows are"):
        overwrite_partition(rows, GENERATED, MASKS, {"ds": "2026-01-01"})
