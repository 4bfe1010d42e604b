"""Dense inputs: moments are fitted once, never on the future; values are those of slow Python; nothing else moves."""

from __future__ import annotations

import math
import statistics
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from jobs import build_scenario_features
from jobs.hash_tables import hash_lake
from jobs.transforms.dense import NO_MOMENTS, dense_moments, dense_value
from lake.reader import read_table
from lake.vocabularies import read_vocabulary
from msr_models.data.window import load_window
from schemas.dataset_spec import DatasetSpec
from tests.support.random_log import START, publish_day, random_dataset, random_day
from tests.support.steps import run_step

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.usefixtures("spark")]

DAYS = [START + timedelta(days=n) for n in range(4)]
FEATURE_DAYS = DAYS[2:]  # two days of fitting before them
TABLES = ("vocabularies", "behaviour_sequences", "scenario_features")
DENSE: dict[str, dict[str, Any]] = {"price": {"transform": "log1p"}, "hour": {"clip": 1.0}}


def dense_dataset(**dense: dict[str, Any]) -> DatasetSpec:
    fields = [f.model_dump(mode="json") for f in random_dataset().fields]
    return random_dataset(fields=[f | ({"dense": dense[f["name"]]} if f["name"] in dense else {}) for f in fields])


def rows_of(ds: date) -> list[dict[str, Any]]:
    """Prices of later days are far larger, and some are below 0: a fit that read the future would show."""
    rows = random_day(ds, rows=60)
    for n, row in enumerate(rows):
        if row["x_price"] is not None:
            row["x_price"] *= -3.0 if n % 5 == 0 else 10.0 ** (ds - START).days
    return rows


@pytest.fixture(scope="module")
def dataset() -> DatasetSpec:
    return dense_dataset(**DENSE)


@pytest.fixture(scope="module")
def log(spark: SparkSession, module_lake: Path, dataset: DatasetSpec) -> dict[date, list[dict[str, Any]]]:
    """Features of the newest day first."""
    log = {ds: rows_of(ds) for ds in DAYS}
    for ds, rows in log.items():
        publish_day(rows, dataset, ds)
    for ds in reversed(FEATURE_DAYS):
        run_step(build_scenario_features, dataset, ds)
    return log


def transformed(name: str, x: float) -> float:
    return math.copysign(math.log1p(abs(x)), x) if name == "price" else x


def moments(log: dict[date, list[dict[str, Any]]], name: str) -> tuple[float, float]:
    """Of the first two days, whatever day reads them."""
    known = [row[f"x_{name}"] for ds in DAYS[:2] for row in log[ds]]
    values = [transformed(name, x) for x in known if x is not None and math.isfinite(x)]
    return statistics.fmean(values), statistics.pstdev(values)


def test_moments_are_those_of_the_first_fit_in_every_version(
    log: dict[date, list[dict[str, Any]]], dataset: DatasetSpec
) -> None:
    for ds in FEATURE_DAYS:
        rows = read_vocabulary(dataset, str(dataset.vocabulary_version(ds))).to_pylist()
        for name in DENSE:
            stored = {row["id"]: row["value"] for row in rows if row["field"] == f"{name}:moments"}
            assert sorted(stored) == [1, 2]
            assert [float(stored[i]) for i in (1, 2)] == pytest.approx(moments(log, name), rel=1e-5)
            assert all(len(value.strip("-0.").replace(".", "")) <= 6 for value in stored.values()), stored


def test_values_are_those_of_slow_python(log: dict[date, list[dict[str, Any]]], dataset: DatasetSpec) -> None:
    bounds, missing = {"price": 5.0, "hour": 1.0}, 0
    for ds in FEATURE_DAYS:
        found = {r["instance_id"]: r for r in read_table(dataset, "scenario_features", days=[ds]).to_pylist()}
        for row in log[ds]:
            for name, clip in bounds.items():
                x, (mean, deviation) = row[f"x_{name}"], moments(log, name)
                missing += x is None or math.isnan(x)
                want = 0.0 if x is None or math.isnan(x) else (transformed(name, x) - mean) / deviation
                assert found[row["instance_id"]][f"d_{name}"] == pytest.approx(np.clip(want, -clip, clip), abs=1e-4)
    assert missing > 5
    window = load_window(dataset, FEATURE_DAYS)
    assert window.layout.dense_names == ("price", "hour") and window.dense_NZ is not None
    assert window.dense_NZ[:, 1].abs().max() == 1.0 and window.dense_NZ[:, 0].abs().max() > 1.5
    by_day = [read_table(dataset, "scenario_features", days=[ds]).sort_by("instance_id") for ds in FEATURE_DAYS]
    stored = np.concatenate([np.stack([t["d_price"], t["d_hour"]], axis=1) for t in by_day])
    assert np.array_equal(window.dense_NZ.numpy(), stored)


@pytest.mark.usefixtures("log")
def test_a_rerun_and_another_order_of_days_give_the_same_bytes(
    dataset: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(hash_lake(dataset, TABLES, []))
    run_step(build_scenario_features, dataset, *FEATURE_DAYS)
    assert list(hash_lake(dataset, TABLES, [])) == before
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path))
    for ds in DAYS:
        publish_day(rows_of(ds), dataset, ds)
    run_step(build_scenario_features, dataset, *FEATURE_DAYS)
    assert list(hash_lake(dataset, TABLES, [])) == before


@pytest.mark.usefixtures("log")
def test_ids_and_all_other_columns_are_those_without_the_key(
    dataset: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, ds = dense_dataset(), FEATURE_DAYS[0]
    dense_rows = read_table(dataset, "scenario_features", days=[ds]).sort_by("instance_id")
    monkeypatch.setenv("MSR_LAKE_ROOT", str(tmp_path))
    for day in DAYS[:3]:
        publish_day(rows_of(day), plain, day)
    run_step(build_scenario_features, plain, ds)
    rows = read_table(plain, "scenario_features", days=[ds]).sort_by("instance_id")
    assert set(dense_rows.column_names) - set(rows.column_names) == {"d_price", "d_hour"}
    same = [c for c in rows.column_names if c not in ("vocabulary_version", "spec_fingerprint")]
    assert dense_rows.select(same).equals(rows.select(same))


def test_fields_without_numbers_or_spread_have_moments_that_divide(spark: SparkSession) -> None:
    dataset = dense_dataset(**DENSE)
    schema = "x_price double, x_hour double"
    for rows, want in (
        ([(None, 4.0), (float("nan"), 4.0)], {"price": (0.0, 1.0), "hour": (4.0, 1.0)}),
        ([(float("inf"), 1e200), (1.0, -1e200)], {"price": (math.log(2), 1.0), "hour": (0.0, 1.0)}),
    ):
        found = dense_moments(spark.createDataFrame(rows, schema), dataset.dense_fields)
        assert found is not None
        stored = {(r["field"], r["id"]): float(r["value"]) for r in found.collect()}
        for name, (mean, deviation) in want.items():
            assert stored[f"{name}:moments", 1] == pytest.approx(mean, rel=1e-5)
            assert stored[f"{name}:moments", 2] == deviation


def test_a_number_that_is_scaled_already_is_taken_as_it_is(spark: SparkSession) -> None:
    (field,) = dense_dataset(hour={"normalise": "none", "clip": 2.0}).dense_fields
    frame = spark.createDataFrame([(0.25,), (-7.0,), (None,), (float("nan"),), (float("inf"),)], "x_hour double")
    assert dense_moments(frame, [field]) is None
    found = frame.select(dense_value(field, NO_MOMENTS).alias("d")).collect()
    assert [row["d"] for row in found] == [0.25, -2.0, 0.0, 0.0, 2.0]
