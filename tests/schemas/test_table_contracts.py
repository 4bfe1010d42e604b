"""Contract of every table and data set: specs that both engines and Great Expectations accept."""

from __future__ import annotations

from pathlib import Path

import great_expectations as gx
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from lake.spark_writer import spark_schema
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from schemas.load_dataset import known_datasets, load_dataset
from schemas.table_spec import TableSpec
from schemas.tables import get_table, table_names

DATASETS = [load_dataset(name) for name in known_datasets()]


@pytest.fixture(params=table_names())
def spec(request: pytest.FixtureRequest) -> TableSpec:
    return get_table(request.param)


def test_a_spec_is_complete(spec: TableSpec) -> None:
    assert spec.doc.strip() and all(column.doc.strip() for column in spec.columns)
    assert len(set(spec.column_names)) == len(spec.column_names)
    columns = {column.name: column for column in spec.columns}
    for name in (*spec.keys, *spec.partition_by):
        assert not columns[name].nullable and not columns[name].volatile, f"{name} names rows"
    assert len({constraint.name for constraint in spec.constraints}) == len(spec.constraints)
    assert set(spec.content_columns) == {c.name for c in spec.columns if not c.volatile}


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.name)
def test_field_columns_join_the_fixed_ones(spec: TableSpec, dataset: DatasetSpec) -> None:
    whole = spec.for_dataset(dataset)
    assert whole.column_names[: len(spec.columns)] == spec.column_names
    assert len(set(whole.column_names)) == len(whole.column_names)
    assert (len(whole.columns) > len(spec.columns)) == (spec.field_columns != "none")
    assert whole.for_dataset(dataset) == whole


def test_arrow_engine_accepts_the_table_and_its_constraints(spec: TableSpec, tmp_path: Path) -> None:
    whole = spec.for_dataset(DATASETS[0])
    table = DeltaTable.create(str(tmp_path), whole.arrow_schema(), partition_by=list(whole.partition_by))
    for constraint in whole.constraints:
        table.alter.add_constraint({constraint.name: constraint.sql})
    assert len(DeltaTable(str(tmp_path)).metadata().configuration) == len(whole.constraints)


@pytest.mark.spark
def test_spark_accepts_the_constraints(spark: SparkSession, spec: TableSpec) -> None:
    empty = spark.createDataFrame([], spark_schema(spec.for_dataset(DATASETS[0])))
    for constraint in spec.constraints:
        assert empty.where(constraint.sql).schema == empty.schema


def test_great_expectations_knows_the_expectations(spec: TableSpec) -> None:
    for expectation in spec.expectations:
        built = getattr(gx.expectations, expectation.type)(**expectation.kwargs)
        assert getattr(built, "column", spec.column_names[0]) in spec.column_names


def test_an_unknown_table_is_named() -> None:
    with pytest.raises(TableError, match="'impresions' is not specified; known tables: audits"):
        get_table("impresions")


def test_a_key_that_is_no_column_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\['nowhere'\] are not among its columns"):
        TableSpec(name="t", doc="d", columns=(), keys=("nowhere",), partition_by=(), written_by="x")
