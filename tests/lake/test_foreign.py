"""Tables that another engine changed are refused in one line with the remedy, and read rightly after it."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from jobs import maintain_tables
from lake.arrow_writer import overwrite_partition
from lake.locations import table_uri
from lake.reader import count_rows, published_days, read_table
from lake.spark_writer import open_frame, publish, spark_schema
from schemas.errors import TableError
from schemas.load_dataset import load_dataset
from schemas.tables import get_table
from tests.support.steps import run_step

pytestmark = [pytest.mark.spark, pytest.mark.slow]
GENERATED = load_dataset("generated")
TRUTH, DAY = "generated_truth", "2026-01-03"
DS = date.fromisoformat(DAY)


def rows(ids: range) -> pa.Table:
    n = len(ids)
    columns = {"ds": [DAY] * n, "instance_id": list(ids), "click_probability": [0.5] * n, "is_shareable": [True] * n}
    return pa.table(columns)


def write() -> str:
    overwrite_partition(rows(range(100)), GENERATED, TRUTH, {"ds": DAY})
    return table_uri(GENERATED, TRUTH)


def refused(spark: SparkSession, message: str) -> None:
    """Every way in says the same."""
    frame = spark.createDataFrame([(DAY, 1, 0.5, True)], spark_schema(get_table(TRUTH)))
    for way_in in (
        lambda: read_table(GENERATED, TRUTH),
        lambda: count_rows(GENERATED, TRUTH, [DS]),
        lambda: published_days(GENERATED, TRUTH),
        lambda: open_frame(spark, GENERATED, TRUTH),
        lambda: publish(frame, GENERATED, TRUTH, {"ds": DAY}),
        lambda: overwrite_partition(rows(range(3)), GENERATED, TRUTH, {"ds": DAY}),
        lambda: run_step(maintain_tables, GENERATED),
    ):
        with pytest.raises(TableError, match=message):
            way_in()


def test_deletion_vectors_are_refused_until_they_are_dropped(spark: SparkSession, lake: Path) -> None:
    uri = write()
    spark.sql(f"ALTER TABLE delta.`{uri}` SET TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')").collect()
    spark.sql(f"DELETE FROM delta.`{uri}` WHERE instance_id < 10").collect()
    remedy = f"ALTER TABLE delta.`{uri}` DROP FEATURE deletionVectors"
    refused(spark, f"{TRUTH}: another engine switched on deletionVectors, .* run `{remedy}` in Spark")

    spark.sql(remedy).collect()
    assert read_table(GENERATED, TRUTH).num_rows == open_frame(spark, GENERATED, TRUTH).count() == 90
    assert count_rows(GENERATED, TRUTH, [DS]) == {DS: 90}
    # What Delta leaves behind for the versions that still have them
    left = r"switched on checkpointProtection, .*DROP FEATURE checkpointProtection TRUNCATE HISTORY` in Spark"
    with pytest.raises(TableError, match=left):
        overwrite_partition(rows(range(3)), GENERATED, TRUTH, {"ds": DAY})
    with pytest.raises(TableError, match=left):
        run_step(maintain_tables, GENERATED, options=maintain_tables.MaintainOptions(retention_hours=0))


def test_mapped_columns_are_refused_and_not_read_as_nulls(spark: SparkSession, lake: Path) -> None:
    uri = write()
    versions = "'delta.minReaderVersion' = '2', 'delta.minWriterVersion' = '5'"
    spark.sql(
        f"ALTER TABLE delta.`{uri}` SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name', {versions})"
    ).collect()
    spark.sql(f"ALTER TABLE delta.`{uri}` RENAME COLUMN is_shareable TO other").collect()
    spark.sql(f"ALTER TABLE delta.`{uri}` RENAME COLUMN other TO is_shareable").collect()
    remedy = f"ALTER TABLE delta.`{uri}` DROP FEATURE columnMapping"
    refused(spark, f"another engine switched on columnMapping, .* run `{remedy}` in Spark")
    spark.sql(remedy).collect()
    assert set(read_table(GENERATED, TRUTH)["is_shareable"].to_pylist()) == {True}


def test_a_feature_that_no_engine_here_knows_is_named(spark: SparkSession, lake: Path) -> None:
    log = Path(write(), "_delta_log")
    features = {"readerFeatures": ["fromTheFuture"], "writerFeatures": ["fromTheFuture"]}
    protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}}
    (log / f"{len(list(log.glob('*.json'))):020}.json").write_text(json.dumps(protocol) + "\n", encoding="utf-8")
    refused(spark, "another engine switched on fromTheFuture, .* DROP FEATURE fromTheFuture` in Spark, or rebuild")


def test_a_feature_that_only_writers_lack_stops_writers_alone(spark: SparkSession, lake: Path) -> None:
    uri = write()
    spark.sql(f"ALTER TABLE delta.`{uri}` SET TBLPROPERTIES ('delta.enableInCommitTimestamps' = 'true')").collect()
    assert read_table(GENERATED, TRUTH).num_rows == 100
    with pytest.raises(TableError, match=r"inCommitTimestamp, with which this step cannot write; run `ALTER TABLE "):
        overwrite_partition(rows(range(3)), GENERATED, TRUTH, {"ds": DAY})
    spark.sql(f"ALTER TABLE delta.`{uri}` DROP FEATURE inCommitTimestamp").collect()
    overwrite_partition(rows(range(3)), GENERATED, TRUTH, {"ds": DAY})
    assert read_table(GENERATED, TRUTH).num_rows == 3
