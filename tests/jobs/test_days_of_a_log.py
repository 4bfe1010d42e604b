"""Which day a row of a log belongs to: the data set's zone, rows that come late, and one file for many days."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs.adapters import read_days, read_raw
from jobs.building.impressions import ingest_days
from jobs.hash_tables import hash_lake
from jobs.transforms import canonical
from lake.reader import read_table
from schemas.dataset_spec import DatasetSpec
from tests.support.own_log import HEADER, own_dataset, source, spec, write_csv

pytestmark = pytest.mark.spark


def row(time: str, user: str = "ann") -> str:
    return f"{time},{user},book,web,1,2.5,paper,a|b"


def in_zone(folder: Path, zone: str, **changes: Any) -> DatasetSpec:
    columns = spec()["columns"] | {"event_time": {"column": "at", "time_zone": zone}}
    days = {"start": "2026-03-01", "end": "2026-11-30", "time_zone": zone}
    return own_dataset(folder, columns=columns, days=days, **changes)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Asia/Shanghai", "2026-03-02", 24),
        ("America/Los_Angeles", "2026-03-08", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("UTC", "2026-03-02", 24),
    ],
)
def test_a_day_is_a_day_of_the_zone(spark: SparkSession, tmp_path: Path, zone: str, day: str, hours: int) -> None:
    dataset, ds = in_zone(tmp_path, zone), date.fromisoformat(day)
    begin = dataset.days.midnight(ds).astimezone(UTC)
    end = dataset.days.midnight(ds + timedelta(days=1)).astimezone(UTC)
    assert (end - begin).total_seconds() == hours * 3600
    inside = [begin + timedelta(hours=n) for n in range(hours)] + [end - timedelta(microseconds=1)]
    outside = [begin - timedelta(microseconds=1), end]
    write_csv(tmp_path, [row(time.isoformat()) for time in [*inside, *outside]], f"{day}.csv")
    classified = canonical.classify(read_raw(spark, dataset, ds), dataset, ds).collect()
    assert Counter(r["_reason"] for r in classified) == {None: len(inside), "time_outside_day": 2}
    assert all(zone in r["_detail"] for r in classified if r["_reason"])


def test_local_times_make_whole_local_days(spark: SparkSession, tmp_path: Path) -> None:
    dataset = in_zone(tmp_path, "Asia/Shanghai")
    write_csv(tmp_path, [row(f"2026-03-02 {hour:02d}:30:00") for hour in range(24)], "2026-03-02.csv")
    ds = date(2026, 3, 2)
    classified = canonical.classify(read_raw(spark, dataset, ds), dataset, ds).collect()
    assert {r["_reason"] for r in classified} == {None}
    assert min(r["event_ts"] for r in classified) == datetime(2026, 3, 1, 16, 30)


DAYS = [date(2026, 3, day) for day in range(1, 5)]
FILES = {
    1: [row("2026-03-01T10:00:00", "d1"), row("2026-02-28T10:00:00", "before the first day")],
    2: [row("2026-03-02T10:00:00", "d2"), row("2026-03-01T11:00:00", "1 late"), row("2026-03-05T10:00:00", "future")],
    3: [row("2026-03-03T10:00:00", "d3"), row("2026-03-01T12:00:00", "2 late"), row("2026-03-02T12:00:00", "1 late")],
    4: [row("2026-03-04T10:00:00", "d4"), row("2026-03-01T13:00:00", "3 late"), row("never", "no time")],
}
PUBLISHED = {1: {"d1", "1 late", "2 late"}, 2: {"d2", "1 late"}, 3: {"d3"}, 4: {"d4"}}
REFUSED = {1: ["time_outside_day"], 2: ["time_outside_day"], 3: [], 4: ["bad_time", "time_outside_day"]}


def late_dataset(folder: Path, name: str = "own") -> DatasetSpec:
    return own_dataset(folder, name=name, days={"start": "2026-03-01", "end": "2026-03-04", "late_days": 2})


def tables(dataset: DatasetSpec) -> list[tuple[str, str]]:
    lines = hash_lake(dataset, ["impressions", "quarantine"], [])
    return sorted((str(line).replace(dataset.name, "own"), "") for line in lines)


def test_late_rows_reach_their_day_once_in_any_order(spark: SparkSession, lake: Path, tmp_path: Path) -> None:
    for day, rows in FILES.items():
        write_csv(tmp_path, rows, f"2026-03-0{day}.csv")
    first = late_dataset(tmp_path)
    ingest_days(spark, first, DAYS)
    for ds in DAYS:
        users = [r["user_id"] for r in read_table(first, "impressions", days=[ds]).to_pylist()]
        assert sorted(users) == sorted(PUBLISHED[ds.day])
        reasons = sorted(r["reason"] for r in read_table(first, "quarantine", days=[ds]).to_pylist())
        assert reasons == REFUSED[ds.day]
    assert sum(map(len, PUBLISHED.values())) + sum(map(len, REFUSED.values())) == sum(map(len, FILES.values()))
    expected = tables(first)
    for number, order in enumerate(list(permutations(DAYS))[5::9]):
        other = late_dataset(tmp_path, f"order{number}")
        for ds in order:
            ingest_days(spark, other, [ds])
        assert tables(other) == expected


def test_a_day_is_made_again_when_a_later_file_comes(
    spark: SparkSession, lake: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = late_dataset(tmp_path)
    for day in DAYS[:3]:
        write_csv(tmp_path, FILES[day.day], f"{day}.csv")
        ingest_days(spark, dataset, [day])
        users = {r["user_id"] for r in read_table(dataset, "impressions", days=[DAYS[0]]).to_pylist()}
        assert users == {"d1", "1 late", "2 late"} - {f"{n} late" for n in range(day.day, 3)}
    assert "2026-03-01: making it again with the rows that came late" in caplog.text


def test_one_file_for_all_days_is_read_once_and_its_other_rows_are_counted(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from jobs import adapters

    days = {"start": "2026-03-01", "end": "2026-03-03"}
    dataset = own_dataset(tmp_path, source=source("csv", "log/all.csv"), days=days)
    times = [f"2026-03-0{day}T10:00:00" for day in range(1, 6)]
    write_csv(tmp_path, [*map(row, times), row("2026-02-01T10:00:00"), row("never")], "all.csv")
    with counted(adapters.ADAPTERS, monkeypatch) as reads:
        rows = {ds: frame.count() for ds, frame in read_days(spark, dataset, [date(2026, 3, 2), date(2026, 3, 3)])}
    assert rows == {date(2026, 3, 2): 1, date(2026, 3, 3): 1} and reads == [date(2026, 3, 2)]
    assert "5 rows of" in caplog.text and "outside the days asked for (2026-03-02 .. 2026-03-03)" in caplog.text
    assert "3 rows of" in caplog.text and "outside the data set's days (2026-03-01 .. 2026-03-03)" in caplog.text


def test_one_file_for_all_days_is_ingested_like_files_by_day(spark: SparkSession, lake: Path, tmp_path: Path) -> None:
    """Two days at once and one by itself; no earlier day is made again, since nothing comes late to one file."""
    days = {"start": "2026-03-01", "end": "2026-03-03"}
    one = own_dataset(tmp_path, name="one", source=source("csv", "log/all.csv"), days=days)
    times = {day: f"2026-03-0{day}T10:00:00" for day in (1, 2, 3)}
    write_csv(tmp_path, [row(time) for time in times.values()], "all.csv")
    ingest_days(spark, one, [date(2026, 3, 1), date(2026, 3, 2)])
    ingest_days(spark, one, [date(2026, 3, 3)])
    by_day = own_dataset(tmp_path, days=days)
    for day, time in times.items():
        write_csv(tmp_path, [row(time)], f"2026-03-0{day}.csv")
    ingest_days(spark, by_day, [date(2026, 3, day) for day in times])
    users = [
        [(r["ds"], r["user_id"]) for r in read_table(d, "impressions").sort_by("ds").to_pylist()] for d in (one, by_day)
    ]
    assert users[0] == users[1] == [(f"2026-03-0{day}", "ann") for day in times]


@contextmanager
def counted(adapters: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[date]]:
    """The days for which the adapter `files` is called."""
    reads: list[date] = []
    read = adapters["files"]

    def noting(spark: SparkSession, dataset: DatasetSpec, ds: date) -> Any:
        reads.append(ds)
        return read(spark, dataset, ds)

    monkeypatch.setitem(adapters, "files", noting)
    yield reads


def test_headers_of_days_may_differ_where_rows_come_late(spark: SparkSession, lake: Path, tmp_path: Path) -> None:
    dataset = late_dataset(tmp_path)
    write_csv(tmp_path, FILES[1], "2026-03-01.csv")
    swapped = HEADER.replace("who,what", "what,who")
    late = row("2026-03-01T11:00:00", "1 late").replace("1 late,book", "book,1 late")
    write_csv(tmp_path, [late], "2026-03-02.csv", header=swapped)
    assert {r["who"] for r in read_raw(spark, dataset, DAYS[0]).collect()} == {"d1", "1 late", "before the first day"}
