"""Every way in which a row can break the contract of impressions, and the forms of times, labels and scenarios."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.transforms import canonical
from jobs.transforms.event_time import event_time
from jobs.transforms.raw_columns import REFUSED_DETAIL, REFUSED_REASON, SOURCE
from schemas.blocks import EventTimeSpec
from schemas.dataset_spec import DatasetSpec
from schemas.errors import DatasetSpecError
from tests.support.own_log import DAY, spec

pytestmark = pytest.mark.spark
COLUMNS = ["at", "who", "what", "where", "liked", "paid", "kind", "tags"]
INSTANCE_ID_OF_GOOD = 7344620437121899133
Raw = dict[str, Any]
GOOD: Raw = {
    "at": f"{DAY}T10:00:00",
    "who": "ann",
    "what": "book",
    "where": "web",
    "liked": "1",
    "paid": "2.5",
}


def raw_frame(spark: SparkSession, rows: list[Raw]) -> DataFrame:
    """Rows of text; `_source` counts them."""
    names = [*COLUMNS, SOURCE, REFUSED_REASON, REFUSED_DETAIL]
    schema = ", ".join(f"`{name}` string" for name in names)
    values = [{SOURCE: f"file{n}"} | row for n, row in enumerate(rows)]
    return spark.createDataFrame([tuple(row.get(name) for name in names) for row in values], schema)


def classified_rows(spark: SparkSession, rows: list[Raw], dataset: DatasetSpec) -> list[Any]:
    frame = canonical.classify(raw_frame(spark, rows), dataset, date.fromisoformat(DAY))
    return sorted(frame.collect(), key=lambda row: int(row[SOURCE].removeprefix("file")))


def dataset_of(**changes: Any) -> DatasetSpec:
    return DatasetSpec.model_validate(spec(**changes))


BAD: dict[str, Raw] = {
    "bad_time at=yesterday": {"at": "yesterday"},
    "bad_time at=10:00": {"at": "10:00"},
    "bad_time at=null": {"at": None},
    "bad_time at=2026-02-30": {"at": "2026-02-30"},
    "bad_time at=1772445600 (looks like epoch_s: see columns.event_time.format)": {"at": "1772445600"},
    "bad_time at=1772445600123 (looks like epoch_ms: see columns.event_time.format)": {"at": "1772445600123"},
    "time_outside_day at=2026-03-01T23:59:59.999 is on 2026-03-01 in UTC (days.time_zone)": {
        "at": "2026-03-01T23:59:59.999"
    },
    "time_outside_day at=2026-03-03T00:00:00 is on 2026-03-03 in UTC (days.time_zone)": {"at": "2026-03-03T00:00:00"},
    "null_user who=null": {"who": None},
    "null_user who=  ": {"who": "  "},
    "null_user who=\u00a0\ufeff": {"who": "\u00a0\ufeff"},
    "null_item what=null": {"what": None},
    "unknown_scenario where=tv": {"where": "tv"},
    "unknown_scenario where=null": {"where": None},
    "unknown_scenario where=Web (scenario.values has 'web')": {"where": "Web"},
    "bad_label liked=2": {"liked": "2"},
    "bad_label liked=0.5": {"liked": "0.5"},
    "bad_label liked=maybe": {"liked": "maybe"},
    "bad_label liked=null": {"liked": None},
    "bad_label liked=NaN": {"liked": "NaN"},
    "bad_number paid=2,5 (a decimal comma? write a point)": {"paid": "2,5"},
    "bad_number paid=1.002,5 (a decimal comma? write a point)": {"paid": "1.002,5"},
    "bad_number paid=inf": {"paid": "inf"},
    "unreadable_record the line": {REFUSED_REASON: "unreadable_record", REFUSED_DETAIL: "the line"},
}
FINE: list[Raw] = [
    {"paid": None},
    {"paid": "", "liked": "0"},
    {"paid": "nan", "what": "pen"},
    {"liked": "1.0", "where": " app "},
    {"liked": "true", "kind": "", "tags": "a0|| b1 |"},
    {"at": f"{DAY}T00:00:00"},
    {"at": f"{DAY} 23:59:59.999999"},
    {"at": "2026-03-03T00:30:00+01:00"},
    {"at": f"{DAY} 10:00:00,250", "liked": "N"},
    {"liked": "Y"},
    {"liked": "FALSE"},
    {"liked": "yes", "where": "\u00a0web\u202f"},
]


def test_each_broken_row_is_refused_with_its_reason_and_value(spark: SparkSession) -> None:
    distinct = [{**GOOD, "what": f"item{n}"} | change for n, change in enumerate(BAD.values())]
    rows = classified_rows(spark, distinct, dataset_of())
    assert [f"{row[canonical.REASON]} {row[canonical.DETAIL]}" for row in rows] == list(BAD)
    assert '"what":"item0"' in rows[0][canonical.RAW_RECORD] and '"kind":null' in rows[0][canonical.RAW_RECORD]


def test_weights_are_finite_numbers_from_0_on_and_others_refuse_the_row(spark: SparkSession) -> None:
    dataset = dataset_of(columns=spec()["columns"] | {"value": None, "weight": "paid"})
    good = {"2.5": 2.5, " 0 ": 0.0, "1e3": 1000.0, "-0.0": 0.0}
    bad = [None, "", "-1", "NaN", "inf", "1e39", "many", "2,5"]
    rows = [{**GOOD, "what": f"item{n}", "paid": text} for n, text in enumerate([*good, *bad])]
    found = classified_rows(spark, rows, dataset)
    assert [row["weight"] for row in found[: len(good)]] == list(good.values())
    assert [row[canonical.REASON] for row in found] == [None] * len(good) + ["bad_weight"] * len(bad)
    assert found[-1][canonical.DETAIL] == "paid=2,5 (a decimal comma? write a point)"
    assert found[len(good)][canonical.DETAIL] == "paid=null"


def test_without_weights_the_column_is_null(spark: SparkSession) -> None:
    assert [row["weight"] for row in classified_rows(spark, [GOOD], dataset_of())] == [None]


def test_negatives_stand_for_those_that_the_log_lacks(spark: SparkSession) -> None:
    source = spec()["source"] | {"negative_sampling": {"web": 0.1, "app": 0.5}}
    changes = [{"liked": "0"}, {"liked": "0", "where": "app"}, {"liked": "0", "where": "mail"}, {"liked": "1"}]
    rows = [{**GOOD, "what": f"item{n}", **change} for n, change in enumerate([*changes, {"where": "tv"}])]
    found = classified_rows(spark, rows, dataset_of(source=source))
    assert [row["weight"] for row in found[:4]] == [10.0, 2.0, 1.0, 1.0]
    assert found[4][canonical.REASON] == "unknown_scenario"
    own = dataset_of(source=source, columns=spec()["columns"] | {"weight": "paid"})
    assert [row["weight"] for row in classified_rows(spark, rows[:4], own)] == [25.0, 5.0, 2.5, 2.5]


def test_rows_that_only_look_odd_are_accepted(spark: SparkSession) -> None:
    distinct = [{**GOOD, "who": f"user{n}"} | change for n, change in enumerate(FINE)]
    rows = classified_rows(spark, distinct, dataset_of())
    assert [row[canonical.REASON] for row in rows] == [None] * len(FINE)
    assert [row["value"] for row in rows[:3]] == [None, None, None]
    assert [row["label"] for row in rows] == [1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 0, 1]
    assert rows[3]["scenario_id"] == 1
    assert rows[4]["x_kind"] is None and rows[4]["x_tags"] == ["a0", "b1"]
    assert len({row["instance_id"] for row in rows}) == len(FINE)


def test_a_further_label_is_read_as_the_main_one_is(spark: SparkSession) -> None:
    further = {"paid": {"column": "paid", "threshold": 2}, "kept": {"column": "kind"}}
    changes: list[Raw] = [{"kind": "1"}, {"paid": "1.5", "kind": "no"}, {"paid": None, "kind": "1"}, {"kind": "7"}]
    dataset = dataset_of(columns=spec()["columns"] | {"value": None, "further_labels": further})
    rows = classified_rows(spark, [{**GOOD, "what": f"item{n}"} | change for n, change in enumerate(changes)], dataset)
    assert [(row["label_paid"], row["label_kept"]) for row in rows[:2]] == [(1, 1), (0, 0)]
    details = [row[canonical.REASON] and f"{row[canonical.REASON]} {row[canonical.DETAIL]}" for row in rows]
    assert details == [None, None, "bad_label paid=null", "bad_label kind=7"]
    assert canonical.impressions(
        canonical.classify(raw_frame(spark, [GOOD]), dataset, date.fromisoformat(DAY)), dataset
    ).columns[9:12] == ["weight", "label_paid", "label_kept"]


def test_of_duplicates_the_same_one_stays_whatever_the_order(spark: SparkSession) -> None:
    twins = [GOOD | {"liked": "0"}, GOOD | {"liked": "1"}, GOOD | {"liked": "0"}, GOOD | {"liked": "7"}]
    dataset = dataset_of()
    for rows in (twins, twins[::-1]):
        frame = canonical.classify(raw_frame(spark, rows), dataset, date.fromisoformat(DAY)).cache()
        assert [row["label"] for row in canonical.impressions(frame, dataset).collect()] == [0]
        refused = canonical.quarantine(frame).collect()
        assert sorted(row["reason"] for row in refused) == ["bad_label", "duplicate", "duplicate"]
        assert any('"user":"ann"' in row["detail"] for row in refused)


def test_a_natural_key_of_ones_own(spark: SparkSession) -> None:
    columns = spec()["columns"] | {"natural_key": ["who", "kind"]}
    rows = [GOOD | {"kind": "a"}, GOOD | {"kind": "b"}, GOOD | {"what": "pen", "kind": "a"}, GOOD | {"kind": None}]
    classified = classified_rows(spark, rows, dataset_of(columns=columns))
    assert [row[canonical.REASON] for row in classified].count("duplicate") == 1
    assert classified[1][canonical.REASON] is None and classified[3][canonical.REASON] is None
    assert len({row["instance_id"] for row in classified}) == 3


def test_the_instance_id_is_a_promise(spark: SparkSession) -> None:
    """It joins masks and features of months ago: this number may never change."""
    assert classified_rows(spark, [GOOD], dataset_of())[0]["instance_id"] == INSTANCE_ID_OF_GOOD


@pytest.mark.parametrize(
    ("text", "form", "time_zone", "expected"),
    [
        (f"{DAY}T01:30:00", "iso", "Europe/Berlin", datetime(2026, 3, 2, 0, 30, tzinfo=UTC)),
        (f"{DAY}T01:30:00+05:00", "iso", "Europe/Berlin", datetime(2026, 3, 1, 20, 30, tzinfo=UTC)),
        (f"{DAY}T01:30:00Z", "iso", "Europe/Berlin", datetime(2026, 3, 2, 1, 30, tzinfo=UTC)),
        (DAY, "iso", "America/New_York", datetime(2026, 3, 2, 5, 0, tzinfo=UTC)),
        ("978300760", "epoch_s", "UTC", datetime(2000, 12, 31, 22, 12, 40, tzinfo=UTC)),
        ("978300760.25", "epoch_s", "UTC", datetime(2000, 12, 31, 22, 12, 40, 250000, tzinfo=UTC)),
        ("978300760001", "epoch_ms", "UTC", datetime(2000, 12, 31, 22, 12, 40, 1000, tzinfo=UTC)),
        ("978300760001002", "epoch_us", "UTC", datetime(2000, 12, 31, 22, 12, 40, 1002, tzinfo=UTC)),
        ("978300760001002003", "epoch_ns", "UTC", datetime(2000, 12, 31, 22, 12, 40, 1002, tzinfo=UTC)),
        ("978300760001", "epoch_s", "UTC", None),  # milliseconds: the year 32971
        (f"{DAY} 01:30:00,250", "iso", "UTC", datetime(2026, 3, 2, 1, 30, 0, 250000, tzinfo=UTC)),
        ("1e40", "epoch_s", "UTC", None),
        ("02/03/2026 01:30", "dd/MM/yyyy HH:mm", "Europe/Berlin", datetime(2026, 3, 2, 0, 30, tzinfo=UTC)),
        ("02.03.2026 01:30 -0800", "dd.MM.yyyy HH:mm Z", "Europe/Berlin", datetime(2026, 3, 2, 9, 30, tzinfo=UTC)),
        ("2026-03-02", "dd/MM/yyyy HH:mm", "UTC", None),
    ],
)
def test_event_times_in_every_form(
    spark: SparkSession, text: str, form: str, time_zone: str, expected: datetime | None
) -> None:
    raw = spark.createDataFrame([(text,)], "at string")
    when = EventTimeSpec(column="at", format=form, time_zone=time_zone)
    micros = raw.select(F.unix_micros(event_time(raw, when)).alias("us")).collect()[0]["us"]
    assert micros == (None if expected is None else round(expected.timestamp() * 1_000_000))


def test_an_unknown_time_zone_is_named(spark: SparkSession) -> None:
    raw = spark.createDataFrame([("x",)], "at string")
    with pytest.raises(DatasetSpecError, match="'Europe/Berln' is not a time zone"):
        event_time(raw, EventTimeSpec(column="at", time_zone="Europe/Berln"))


def test_buckets_and_thresholds(spark: SparkSession) -> None:
    buckets = {"edges": [1.0, 10.0], "names": ["low", "middle", "high"]}
    columns = spec()["columns"] | {"label": {"column": "liked", "threshold": 4}}
    dataset = dataset_of(scenario={"column": "paid", "buckets": buckets}, columns=columns)
    paid = ["0.99", "1", "9.5", "10", "nan", None, "x"]
    liked = ["4", "3.9", "5", "-1", "4", "4", "4"]
    rows = [GOOD | {"what": f"i{n}", "paid": p, "liked": x} for n, (p, x) in enumerate(zip(paid, liked, strict=True))]
    classified = classified_rows(spark, rows, dataset)
    assert [row["scenario_id"] for row in classified] == [0, 1, 1, 2, None, None, None]
    assert [row["label"] for row in classified[:4]] == [1, 0, 1, 0]
    assert {row[canonical.REASON] for row in classified[4:]} == {"unknown_scenario"}
