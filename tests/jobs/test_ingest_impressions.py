"""A day from log to audited tables: row counts, reruns, audits that fail, empty days, a writer that dies midway."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import ingest_impressions
from jobs.adapters import read_raw
from jobs.auditing.expectations import run_expectations
from jobs.building import impressions as ingest
from jobs.building.impressions import ensure_ingested, ingest_day
from jobs.transforms import canonical
from lake.reader import read_table
from lake.spark_writer import publish
from schemas.dataset_spec import DatasetSpec
from schemas.errors import AuditFailedError, SourceError, TableError
from schemas.table_spec import Expectation
from schemas.tables import get_table
from tests.support.own_log import DAY, GOOD, HEADER, own_dataset, source, spec, write_csv
from tests.support.steps import run_step

pytestmark = [pytest.mark.spark, pytest.mark.slow]
DS = date.fromisoformat(DAY)
ROWS = 2000
OWN = DatasetSpec.model_validate(spec())
MIXED = [
    GOOD,
    GOOD,
    GOOD.replace("ann", "bob").replace(",1,", ",0,"),
    GOOD.replace("ann,", ","),
    GOOD.replace("book", "pen").replace("web", "tv"),
    GOOD.replace("book", "pen").replace("web", "app"),
    "not a record",
]


def contents(table: str) -> list[dict[str, Any]]:
    return sorted(read_table(OWN, table).to_pylist(), key=str)


def audit_row(ds: str = DAY) -> dict[str, Any]:
    (row,) = [row for row in contents("audits") if row["ds"] == ds]
    return row


def test_every_row_is_published_or_quarantined_and_a_rerun_changes_nothing(
    spark: SparkSession, lake: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = own_dataset(tmp_path)
    write_csv(tmp_path, MIXED)
    ingest_day(spark, dataset, DS)
    audit = audit_row()
    assert audit["status"] == "published"
    assert (audit["rows_in"], audit["rows_published"], audit["rows_quarantined"]) == (7, 3, 4)
    assert json.loads(audit["rows_per_scenario"]) == {"web": 2, "app": 1, "mail": 0}
    reasons = {"duplicate": 1, "null_user": 1, "unknown_scenario": 1, "unreadable_record": 1}
    assert json.loads(audit["quarantine_reasons"]) == reasons
    assert json.loads(audit["warnings"]) == ["scenario mail has no rows"]
    warnings = [r.message for r in caplog.records if r.levelname == "WARNING" and r.name.startswith("jobs.")]
    assert warnings == [f"own {DAY}: scenario mail has no rows"]
    page = (lake / "report" / "own" / "data_docs" / f"{DAY}.html").read_text(encoding="utf-8")
    assert f"own {DAY}" in page and "values must be unique" in page
    impressions, quarantine = contents("impressions"), contents("quarantine")
    assert len(impressions) == 3 and sorted(row["reason"] for row in quarantine) == sorted(reasons)
    assert all(isinstance(json.loads(row["raw_record"]), dict) for row in quarantine)
    caplog.clear()
    ensure_ingested(spark, dataset, [DS])
    assert "rows in" not in caplog.text, "a published day is not read again"
    ingest_day(spark, dataset, DS)
    assert (impressions, quarantine, audit) == (contents("impressions"), contents("quarantine"), audit_row())


def test_columns_that_a_log_gains_or_loses_are_told(
    spark: SparkSession, lake: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    next_day = date(2026, 3, 3)
    dataset = own_dataset(tmp_path, source=source("csv", "log/{ds}.csv"))
    write_csv(tmp_path, [f"{GOOD},x"], f"{DAY}.csv", header=f"{HEADER},campaign")
    write_csv(tmp_path, [f"{GOOD.replace(DAY, str(next_day))},x"], f"{next_day}.csv", header=f"{HEADER},advert")
    ingest_day(spark, dataset, DS)
    assert "the log has columns" not in caplog.text
    ingest_day(spark, dataset, next_day)
    assert f"own {next_day}: the log has columns ['advert'] that no earlier day had" in caplog.text
    assert f"own {next_day}: the log lacks columns ['campaign'] that the one earlier day had" in caplog.text


def test_a_writer_that_dies_midway_is_repaired_by_the_next(
    spark: SparkSession, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = own_dataset(tmp_path)
    write_csv(tmp_path, MIXED)

    class Killed(BaseException):
        """Not an Exception, as the end of a process is none."""

    def dies_before_impressions(frame: Any, dataset: Any, table: str, partition: Any) -> int:
        if table == "impressions":
            raise Killed
        return publish(frame, dataset, table, partition)

    def dies_before_the_audit(*_: Any) -> None:
        raise Killed

    for name, dies in (("publish", dies_before_impressions), ("record_audit", dies_before_the_audit)):
        with monkeypatch.context() as broken:
            broken.setattr(ingest, name, dies)
            with pytest.raises(Killed):
                ensure_ingested(spark, dataset, [DS])
    ensure_ingested(spark, dataset, [DS])
    assert audit_row()["rows_published"] == len(contents("impressions")) == 3
    assert audit_row()["rows_quarantined"] == len(contents("quarantine")) == 4


def test_a_failed_audit_publishes_nothing_but_refused_rows(spark: SparkSession, lake: Path, tmp_path: Path) -> None:
    dataset = own_dataset(tmp_path)
    write_csv(tmp_path, [GOOD.replace("web", "tv"), GOOD.replace("ann,", ",")])
    with pytest.raises(AuditFailedError, match=r"nothing published, its .*RowCount.*found 0.*'unknown_scenario': 1"):
        ingest_day(spark, dataset, DS)
    audit = audit_row()
    assert (audit["status"], audit["rows_in"], audit["rows_published"], audit["rows_quarantined"]) == (
        "failed",
        2,
        0,
        2,
    )
    assert "ExpectTableRowCountToBeBetween" in audit["failures"]
    with pytest.raises(TableError, match=r"does not exist|has no"):
        contents("impressions")
    assert sorted(row["reason"] for row in contents("quarantine")) == ["null_user", "unknown_scenario"]
    write_csv(tmp_path, [GOOD])
    ensure_ingested(spark, dataset, [DS])
    assert audit_row()["status"] == "published" and contents("quarantine") == []


def test_a_day_without_rows_is_refused_unless_it_is_allowed(spark: SparkSession, lake: Path, tmp_path: Path) -> None:
    write_csv(tmp_path, [])
    with pytest.raises(SourceError, match=rf"has no rows for {DAY}; deliver the day, or set days.allow_empty"):
        ingest_day(spark, own_dataset(tmp_path), DS)
    allowed = own_dataset(tmp_path, days={"start": "2026-03-01", "allow_empty": True})
    ingest_day(spark, allowed, DS)
    assert (audit_row()["status"], audit_row()["rows_in"]) == ("published", 0)
    assert contents("impressions") == [] and json.loads(audit_row()["warnings"]) == ["the day has no rows"]


@pytest.mark.parametrize("ds", [date(2026, 2, 28), date(2026, 4, 1)])
def test_a_day_outside_the_data_set_is_refused(tmp_path: Path, ds: date) -> None:
    with pytest.raises(SourceError, match=rf"{ds} is no day of own, which has 2026-03-01 .. 2026-03-31"):
        run_step(ingest_impressions, own_dataset(tmp_path), ds)


def test_the_generated_log_keeps_its_truth_beside_it(
    spark: SparkSession, lake: Path, generated_dataset: DatasetSpec
) -> None:
    ds = generated_dataset.days.start
    ingest_day(spark, generated_dataset, ds)
    truth = read_table(generated_dataset, "generated_truth")
    impressions = read_table(generated_dataset, "impressions")
    assert set(truth["instance_id"].to_pylist()) == set(impressions["instance_id"].to_pylist())
    assert truth.num_rows == impressions.num_rows < ROWS
    clicks = {row["instance_id"]: row["label"] for row in impressions.to_pylist()}
    likely = [clicks[row["instance_id"]] for row in truth.to_pylist() if row["click_probability"] > 0.7]
    assert len(likely) > 20 and sum(likely) > 0.6 * len(likely), "each truth stands beside its own impression"


@pytest.fixture(scope="module")
def generated_dataset() -> DatasetSpec:
    from schemas.load_dataset import load_dataset

    dataset = load_dataset("generated")
    assert dataset.source.generator is not None
    small = dataset.source.generator.model_copy(update={"rows_per_day": ROWS, "broken_rows": 0.01})
    return dataset.model_copy(update={"source": dataset.source.model_copy(update={"generator": small})})


def test_expectations_split_by_severity_and_name_what_was_found(spark: SparkSession, tmp_path: Path) -> None:
    dataset = own_dataset(tmp_path)
    write_csv(tmp_path, [GOOD, GOOD.replace("T10", "T11"), GOOD.replace("T10", "T12")])
    classified = canonical.classify(read_raw(spark, dataset, DS), dataset, DS)
    colliding = canonical.impressions(classified, dataset).withColumn("instance_id", F.lit(1).cast("long"))
    spec = get_table("impressions").for_dataset(dataset)
    result = run_expectations(colliding.withColumn("user_id", F.nullif("item_id", F.lit("book"))), spec)
    assert len(result.failures) == 2 and len(result.warnings) == 1
    assert "Unique(column='instance_id'): 3 of 3 rows" in result.failures[0]
    assert "NotBeNull(column='user_id'): 3 of 3 rows" in result.failures[1]
    assert "MeanToBeBetween" in result.warnings[0] and "found 1.0" in result.warnings[0]
    broken = Expectation(type="ExpectColumnValuesToNotBeNull", kwargs={"column": "nowhere"})
    with pytest.raises(TableError, match=r"ExpectColumnValuesToNotBeNull|expect_column_values_to_not_be_null"):
        run_expectations(colliding, spec.model_copy(update={"expectations": (broken,)}))
    unknown = Expectation(type="ExpectMiracles", kwargs={})
    with pytest.raises(TableError, match=r"ExpectMiracles is not in Great Expectations"):
        run_expectations(colliding, spec.model_copy(update={"expectations": (unknown,)}))
