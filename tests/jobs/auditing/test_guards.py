"""Guards stop a day before it is published: the share of refused rows, and the data set's own expectations."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs import ingest_impressions
from jobs.building.impressions import ingest_day
from lake.reader import read_table
from schemas.audit_spec import AuditSpec
from schemas.dataset_spec import DatasetSpec
from schemas.errors import AuditFailedError, DatasetSpecError
from tests.support.own_log import DAY, GOOD, own_dataset, spec, write_csv
from tests.support.steps import run_step

DS = date.fromisoformat(DAY)
OWN = DatasetSpec.model_validate(spec())
NEXT = "2026-03-03"


def lines(rows: int, day: str = DAY) -> list[str]:
    return [f"{day}T10:00:{n:02},u{n % 7},book{n},web,{n % 2},2.5,paper,a|b" for n in range(rows)]


def stored(table: str) -> list[dict[str, Any]]:
    return sorted(read_table(OWN, table).to_pylist(), key=str)


@pytest.mark.spark
@pytest.mark.slow
def test_a_day_with_too_many_refused_rows_keeps_what_was_published_before(
    spark: SparkSession, lake: Path, tmp_path: Path
) -> None:
    dataset = own_dataset(tmp_path, audit={"max_refused_share": 0.05})
    write_csv(tmp_path, [*lines(19), GOOD.replace("web", "tv")])
    ingest_day(spark, dataset, DS)
    published = stored("impressions")
    page = lake / "report" / "own" / "data_docs" / f"{DAY}.html"
    assert (
        page.exists()
        and len(published) == 19
        and [row["reason"] for row in stored("quarantine")] == ["unknown_scenario"]
    )

    write_csv(tmp_path, [*lines(10), *(line.replace("web", "Web") for line in lines(20)[10:])])
    message = (
        r"nothing published \(impressions of an earlier ingest of the day stay\).*10 of 20 rows were refused \(50\.0%\)"
        r".*case or spelling of the scenarios: where has .Web \(scenario\.values has 'web'\). \(10 rows\)"
        r", scenario\.values has 'web', 'app', 'mail'"
        r".*python -m jobs\.quarantine --dataset own --ds 2026-03-02"
    )
    with pytest.raises(AuditFailedError, match=message):
        ingest_day(spark, dataset, DS)
    assert stored("impressions") == published and len(stored("quarantine")) == 10
    assert not page.exists(), "it would show the earlier ingest as this one's"
    (audit,) = stored("audits")
    assert (audit["status"], audit["rows_in"], audit["rows_published"]) == ("failed", 20, 0)
    assert json.loads(audit["quarantine_reasons"]) == {"unknown_scenario": 10} and audit["rows_quarantined"] == 10

    ingest_day(spark, dataset.model_copy(update={"audit": AuditSpec(max_refused_share=0.5)}), DS)
    (audit,) = stored("audits")
    assert (audit["status"], audit["rows_published"], audit["rows_quarantined"]) == ("published", 10, 10)


@pytest.mark.spark
@pytest.mark.slow
def test_a_yamls_expectations_stop_or_warn_and_a_changed_day_is_told(
    spark: SparkSession, lake: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    between = {"type": "ExpectColumnValuesToBeBetween", "kwargs": {"column": "x_paid", "max_value": 2}}
    warned = own_dataset(tmp_path, audit={"expectations": [between | {"severity": "warn"}]})
    write_csv(tmp_path, lines(40))
    ingest_day(spark, warned, DS)
    (audit,) = stored("audits")
    assert "BetweenToBe" not in audit["failures"]
    assert any("BeBetween(column='x_paid', max_value=2): 40 of 40" in text for text in json.loads(audit["warnings"]))
    figures = json.loads(audit["profile"])
    assert (figures["rows"], figures["label_mean"], figures["distinct"]["x_user"]) == (40, 0.5, 7)
    assert figures["null_share"] == {"value": 0, "x_user": 0, "x_item": 0, "x_kind": 0, "x_paid": 0, "x_tags": 0}

    caplog.clear()
    write_csv(tmp_path, [line.replace("paper", "") for line in lines(10, NEXT)], f"{NEXT}.csv")
    ingest_day(spark, warned, date.fromisoformat(NEXT))
    said = [r.message for r in caplog.records if r.levelname == "WARNING" and "earlier day" in r.message]
    assert [re.sub(r"\d+ distinct", "n distinct", line.partition(": ")[2]) for line in said] == [
        "10 rows are 0.25 times 40 (the one earlier day)",
        "x_kind: 100.0% of the rows have no value, not about 0.0% (the one earlier day)",
        "x_item: about n distinct values, not about 38 (the one earlier day)",
        "x_kind: about n distinct values, not about 1 (the one earlier day)",
    ]
    warnings = next(a["warnings"] for a in stored("audits") if a["ds"] == NEXT)
    assert "earlier day" not in warnings, "it depends on the days that are there: a rerun would store other rows"

    stopped = own_dataset(tmp_path, audit={"expectations": [between]})
    with pytest.raises(AuditFailedError, match=r"BeBetween\(column='x_paid', max_value=2\): 40 of 40 rows do not fit"):
        ingest_day(spark, stopped, DS)


MISTAKES = [
    ({"type": "ExpectMiracles"}, r"audit\.expectations\.0 of the YAML: ExpectMiracles is not in Great Expectations; "),
    (
        {"type": "ExpectColumnValuesToBeBetwen", "kwargs": {"column": "x_paid"}},
        r"did you mean 'ExpectColumnValuesToBeBetween'\?",
    ),
    (
        {"type": "ExpectColumnValuesToBeBetween", "kwargs": {"column": "x_paid", "min_val": 1}},
        r"ExpectColumnValuesToBeBetween has wrong kwargs: min_val: extra fields not permitted",
    ),
    ({"type": "ExpectColumnValuesToNotBeNull", "kwargs": {"column": "paid"}}, r"names 'paid'; impressions has ds, "),
]


@pytest.mark.parametrize(("expectation", "message"), MISTAKES)
def test_a_wrong_expectation_is_told_before_the_log_is_read(
    tmp_path: Path, lake: Path, expectation: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatasetSpecError, match=message):
        run_step(ingest_impressions, own_dataset(tmp_path, audit={"expectations": [expectation]}), DS)
    assert not lake.exists()


@pytest.mark.parametrize(
    ("audit", "message"),
    [
        ({"max_refused_share": 1.5}, r"audit\.max_refused_share: 1\.5: "),
        ({"max_refused": 0.1}, r"audit\.max_refused: unknown key .*did you mean 'max_refused_share'\?"),
        ({"expectations": [{"type": "unique"}]}, r"audit\.expectations\.0\.type: 'unique': "),
        (
            {"expectations": [{"type": "ExpectX", "kwargs": {"severity": "warn"}}]},
            r"severity cannot be set here; give severity beside kwargs",
        ),
    ],
)
def test_a_mistake_in_the_block_is_named(tmp_path: Path, audit: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetSpecError, match=message):
        own_dataset(tmp_path, audit=audit)
