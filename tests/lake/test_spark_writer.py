"""The writer of Spark frames: specs enforced, one partition replaced, tables created safely under parallel runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lake import spark_writer
from lake.reader import open_table, published_days, read_table
from lake.spark_writer import open_frame, publish, read_days, spark_schema
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.field_spec import BinningSpec, FieldSpec
from schemas.load_dataset import load_dataset
from schemas.tables import get_table

pytestmark = [pytest.mark.spark, pytest.mark.slow]
TRUTH = "generated_truth"


@pytest.fixture(scope="module")
def dataset() -> DatasetSpec:
    return load_dataset("generated")


def truth(spark: SparkSession, ds: str, ids: list[int], probability: float = 0.5) -> DataFrame:
    rows = [(ds, instance_id, probability, True) for instance_id in ids]
    return spark.createDataFrame(rows, spark_schema(get_table(TRUTH)))


def test_a_day_is_replaced_and_others_stay(spark: SparkSession, lake: Path, dataset: DatasetSpec) -> None:
    assert publish(truth(spark, "2026-01-01", [1, 2]), dataset, TRUTH, {"ds": "2026-01-01"}) == 2
    assert publish(truth(spark, "2026-01-02", [3]), dataset, TRUTH, {"ds": "2026-01-02"}) == 1
    assert publish(truth(spark, "2026-01-01", [4]), dataset, TRUTH, {"ds": "2026-01-01"}) == 1
    both = read_days(spark, dataset, TRUTH, [date(2026, 1, 1), date(2026, 1, 2)], ["ds", "instance_id"])
    assert sorted(map(tuple, both.collect())) == [("2026-01-01", 4), ("2026-01-02", 3)]
    assert read_days(spark, dataset, TRUTH, []).count() == 0
    assert publish(truth(spark, "2026-01-01", []), dataset, TRUTH, {"ds": "2026-01-01"}) == 0
    assert published_days(dataset, TRUTH) == {date(2026, 1, 2)}


@pytest.mark.parametrize("name", ["a lake", "50% off", "a#b+c?d", "größe"])
def test_odd_characters_in_the_lakes_path_mean_themselves(
    spark: SparkSession, tmp_path: Path, dataset: DatasetSpec, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path / name))
    for ids in ([1, 2], [3]):
        publish(truth(spark, "2026-01-01", ids), dataset, TRUTH, {"ds": "2026-01-01"})
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert read_days(spark, dataset, TRUTH, [date(2026, 1, 1)], ["instance_id"]).collect() == [(3,)]
    assert read_table(dataset, TRUTH)["instance_id"].to_pylist() == [3]


def test_a_table_has_constraints_and_no_feature_that_arrow_lacks(
    spark: SparkSession, lake: Path, dataset: DatasetSpec
) -> None:
    table = "vocabularies"
    good = spark.createDataFrame([("v1", "user", "u", 1, "added")], spark_schema(get_table(table)))
    publish(good, dataset, table, {"first_version": "v1"})
    opened = open_table(dataset, table)
    assert opened.metadata().configuration["delta.constraints.id_is_positive"] == "id >= 1 OR change = 'published'"
    assert opened.protocol().reader_features is None
    assert opened.to_pyarrow_table().column_names == get_table(table).column_names
    bad = good.withColumn("id", F.lit(0))
    with pytest.raises(Exception, match="id_is_positive"):
        publish(bad, dataset, table, {"first_version": "v1"})
    assert open_table(dataset, table).to_pyarrow_table()["id"].to_pylist() == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop("is_shareable"), r"lack columns \['is_shareable'\].*they have"),
        (lambda f: f.withColumn("extra", F.lit(1)), r"unknown columns \['extra'\]"),
        (lambda f: f.withColumn("click_probability", F.lit("x")), "click_probability is string, not double"),
        (lambda f: f.withColumn("click_probability", F.expr("IF(instance_id = 1, NULL, 0.5D)")), "1 of 2 rows are"),
        (lambda f: f.withColumn("ds", F.lit("2026-01-09")), "2 rows have a ds other than '2026-01-01'"),
        (lambda f: f.withColumn("instance_id", F.lit(5).cast("long")), "1 of 2 rows repeat a key"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused(
    spark: SparkSession, lake: Path, dataset: DatasetSpec, change: Callable[[DataFrame], DataFrame], message: str
) -> None:
    frame = change(truth(spark, "2026-01-01", [1, 2]))
    with pytest.raises(TableError, match=message):
        publish(frame, dataset, TRUTH, {"ds": "2026-01-01"})
    with pytest.raises(TableError, match="does not exist"):
        read_days(spark, dataset, TRUTH, [date(2026, 1, 1)])


def test_a_partition_that_the_table_does_not_have_is_refused(
    spark: SparkSession, lake: Path, dataset: DatasetSpec
) -> None:
    with pytest.raises(TableError, match="not by"):
        publish(truth(spark, "2026-01-01", [1]), dataset, TRUTH, {"scenario_id": "1"})


def test_integer_partitions_are_replaced_one_by_one(spark: SparkSession, lake: Path, dataset: DatasetSpec) -> None:
    table = "scenario_features"
    schema = spark_schema(get_table(table).for_dataset(dataset))
    zeros = {"int": F.lit(0), "bigint": F.lit(0), "double": F.lit(0.0), "string": F.lit("v"), "array<int>": F.array()}
    zeros["timestamp"] = F.lit(datetime(2026, 1, 3, tzinfo=UTC))
    row = [zeros[f.dataType.simpleString()].cast(f.dataType).alias(f.name) for f in schema]

    def rows(scenario_id: int, instance_id: int) -> DataFrame:
        key = {"ds": F.lit("2026-01-03"), "scenario_id": F.lit(scenario_id)}
        return spark.range(1).select(*row).withColumns(key | {"instance_id": F.lit(instance_id).cast("long")})

    for scenario_id, instance_id in [(0, 10), (1, 11), (1, 12)]:
        publish(rows(scenario_id, instance_id), dataset, table, {"ds": "2026-01-03", "scenario_id": str(scenario_id)})
    found = read_days(spark, dataset, table, [date(2026, 1, 3)], ["scenario_id", "instance_id"])
    assert sorted(map(tuple, found.collect())) == [(0, 10), (1, 12)]
    publish(rows(2, 13), dataset, table, {"ds": "2026-01-03"})
    assert [tuple(r) for r in read_days(spark, dataset, table, [date(2026, 1, 3)], ["instance_id"]).collect()] == [
        (13,)
    ]


@pytest.mark.parametrize("is_locked", [True, False], ids=["one machine", "machines that share a lake"])
def test_parallel_writers_of_a_table_that_does_not_exist_yet(
    spark: SparkSession, lake: Path, dataset: DatasetSpec, monkeypatch: pytest.MonkeyPatch, is_locked: bool
) -> None:
    if not is_locked:  # a URI counts as a remote store: only Delta's commits and the retries separate the writers
        monkeypatch.setenv("MSR_LAKE_ROOT", lake.as_uri())
    days = [date(2026, 1, d) for d in (1, 2, 3)]
    jobs = [(day, n) for day in days for n in range(2)]  # two writers of each day, all at once

    def write(job: tuple[date, int]) -> int:
        day = str(job[0])
        return publish(truth(spark, day, [1, 2, 3]), dataset, TRUTH, {"ds": day})

    with ThreadPoolExecutor(len(jobs)) as pool:
        assert list(pool.map(write, jobs)) == [3] * len(jobs)
    assert read_days(spark, dataset, TRUTH, days).count() == 9


def test_a_table_that_the_engine_does_not_see_yet_is_looked_for_again(
    spark: SparkSession, lake: Path, dataset: DatasetSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine has just created it: before, the writer ended in an AssertionError."""
    load, unseen = spark_writer._load, iter([None, None, None])
    monkeypatch.setattr(spark_writer, "_load", lambda engine, uri: next(unseen, load(engine, uri)))
    assert publish(truth(spark, "2026-01-01", [1]), dataset, TRUTH, {"ds": "2026-01-01"}) == 1
    assert next(unseen, "used up") == "used up"


def test_the_folder_of_a_killed_creator_is_cleared(spark: SparkSession, lake: Path, dataset: DatasetSpec) -> None:
    log = lake / dataset.name / TRUTH / "_delta_log"
    (log / "_staged_commits").mkdir(parents=True)
    (log / ".00000000000000000000.json.0000.tmp").write_text("{}")
    assert publish(truth(spark, "2026-01-01", [1]), dataset, TRUTH, {"ds": "2026-01-01"}) == 1


def test_fields_come_and_go_and_a_retyped_one_is_refused(spark: SparkSession, lake: Path, dataset: DatasetSpec) -> None:
    table = "impressions"
    spec = get_table(table).for_dataset(dataset)
    empty = spark.createDataFrame([], spark_schema(spec))
    publish(empty, dataset, table, {"ds": "2026-01-01"})
    fewer = dataset.model_copy(update={"fields": dataset.fields[:2]})
    new = dataset.fields[0].model_copy(update={"name": "new"})
    more = dataset.model_copy(update={"fields": (*dataset.fields, new)})
    for changed in (fewer, more):
        rows = spark.createDataFrame([], spark_schema(get_table(table).for_dataset(changed)))
        publish(rows, changed, table, {"ds": "2026-01-01"})
    assert "x_new" in open_frame(spark, dataset, table).columns
    number = FieldSpec(name="new", source="new", kind="numeric", binning=BinningSpec(edges=(1.0,)))
    retyped = dataset.model_copy(update={"fields": (*dataset.fields, number)})
    rows = spark.createDataFrame([], spark_schema(get_table(table).for_dataset(retyped)))
    with pytest.raises(TableError, match=r"was created with other columns \(x_new\)"):
        publish(rows, retyped, table, {"ds": "2026-01-01"})
