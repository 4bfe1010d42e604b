"""Fields that bound their ids, evict values or hash, on a log whose values come and go, against slow Python."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from jobs import audit_tables, build_scenario_features, build_vocabularies
from jobs.hash_tables import hash_lake
from jobs.maintenance.vocabulary_base import fold_vocabulary
from lake.reader import read_table
from lake.vocabularies import published_versions, read_vocabulary
from msr_models.data.window import load_window
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from tests.support import feature_oracle as oracle
from tests.support.random_log import START, publish_day, publish_days, random_dataset, random_day
from tests.support.steps import run_step

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.usefixtures("spark")]

DAYS = [START + timedelta(days=n) for n in range(8)]
FEATURE_DAYS = DAYS[2:]
TABLES = ("vocabularies", "behaviour_sequences", "scenario_features")
BOUNDS = {"user": {"max_ids": 24, "evict_after_days": 2}, "item": {"evict_after_days": 3}, "tags": {"hash_buckets": 5}}


def bounded_dataset(bounds: dict[str, dict[str, int]] = BOUNDS) -> DatasetSpec:
    fields = [f.model_dump() | bounds.get(f.name, {}) for f in random_dataset().fields]
    return random_dataset(fields=fields)


def churning_log(dataset: DatasetSpec) -> oracle.Log:
    """Values come and go; on the last day but one, those of the first day are back."""
    log = publish_days(dataset, DAYS)
    day, age = DAYS[-2], DAYS[-2] - DAYS[0]
    log[day] = [row | {"ds": str(day), "event_ts": row["event_ts"] + age} for row in random_day(DAYS[0])]
    publish_day(log[day], dataset, day)
    return log


@pytest.fixture(scope="module")
def dataset() -> DatasetSpec:
    return bounded_dataset()


@pytest.fixture(scope="module")
def log(spark: SparkSession, module_lake: Path, dataset: DatasetSpec) -> oracle.Log:
    """Made newest day first."""
    log = churning_log(dataset)
    for ds in reversed(FEATURE_DAYS):
        run_step(build_scenario_features, dataset, ds)
    return log


@pytest.mark.parametrize("ds", FEATURE_DAYS)
def test_versions_are_those_of_slow_python(log: oracle.Log, dataset: DatasetSpec, ds: date) -> None:
    rows = read_vocabulary(dataset, str(dataset.vocabulary_version(ds))).to_pylist()
    ids, _ = oracle.vocabulary(dataset, log, ds)
    for name in ("user", "item", "city", "tags"):
        assert {row["value"]: row["id"] for row in rows if row["field"] == name} == ids[name]
    assert len(ids["user"]) <= 24 and not ids["tags"]


def test_the_log_evicts_fills_and_brings_values_back(log: oracle.Log, dataset: DatasetSpec) -> None:
    changes = read_table(dataset, "vocabularies").to_pandas()
    evicted, added = changes[changes.change == "evicted"], changes[changes.change == "added"]
    assert {"user", "item"} == set(evicted.field)
    assert not added.duplicated(["field", "id"]).any(), "an id names one value for ever"
    assert added.duplicated(["field", "value"]).any(), "a value that came back must be among them"
    sizes = [len(oracle.vocabulary(dataset, log, ds)[0]["user"]) for ds in FEATURE_DAYS]
    assert sizes[0] == 24, "the bound must bind"


@pytest.mark.parametrize("ds", FEATURE_DAYS)
def test_features_are_those_of_slow_python(log: oracle.Log, dataset: DatasetSpec, ds: date) -> None:
    rows = {row["instance_id"]: row for row in read_table(dataset, "scenario_features", days=[ds]).to_pylist()}
    encoded = [f.column for f in dataset.encoded_fields] + ["hist_end"]
    assert {n: {c: row[c] for c in encoded} for n, row in rows.items()} == oracle.features(dataset, log, ds)


def test_the_audit_knows_the_ids(log: oracle.Log, dataset: DatasetSpec) -> None:
    run_step(audit_tables, dataset, *FEATURE_DAYS)


def test_models_have_a_row_per_value_that_has_an_id(log: oracle.Log, dataset: DatasetSpec) -> None:
    window = load_window(dataset, FEATURE_DAYS)
    ids, _ = oracle.vocabulary(dataset, log, FEATURE_DAYS[-1])
    rows = dict(zip(window.layout.names, window.layout.num_rows, strict=True))
    assert (rows["user"], rows["item"], rows["tags"]) == (len(ids["user"]) + 1, len(ids["item"]) + 1, 6)
    assert max(ids["user"].values()) > rows["user"], "ids outgrow the rows"
    assert set(window.layout.ids_of(0).tolist()) == {0, *ids["user"].values()}


def test_folded_versions_read_as_before_and_earlier_days_are_told(
    log: oracle.Log, dataset: DatasetSpec, lake: Path
) -> None:
    churning_log(dataset)
    run_step(build_vocabularies, dataset, *FEATURE_DAYS[:-1])
    first = FEATURE_DAYS[3]
    before = content(dataset, first)
    folded = fold_vocabulary(dataset, first, dry_run=False)
    assert folded is not None and folded.bytes > 0 and fold_vocabulary(dataset, first, dry_run=False) is None
    assert min(published_versions(dataset)) == dataset.vocabulary_version(first)
    assert content(dataset, first) == before
    run_step(build_scenario_features, dataset, FEATURE_DAYS[-1])  # the version after it goes on from there
    ids, _ = oracle.vocabulary(dataset, log, FEATURE_DAYS[-1])
    found = content(dataset, FEATURE_DAYS[-1])
    assert {value: n for name, value, n in found if name == "user"} == ids["user"]
    with pytest.raises(TableError, match=rf"vocabulary of {FEATURE_DAYS[0]} was removed by maintenance"):
        run_step(build_vocabularies, dataset, FEATURE_DAYS[0])


def content(dataset: DatasetSpec, ds: date) -> set[tuple[str, str, int]]:
    rows = read_vocabulary(dataset, str(dataset.vocabulary_version(ds))).to_pylist()
    return {(row["field"], row["value"], row["id"]) for row in rows}


def test_days_in_order_give_the_same_tables(
    log: oracle.Log, dataset: DatasetSpec, module_lake: Path, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    churning_log(dataset)
    for ds in FEATURE_DAYS:
        run_step(build_scenario_features, dataset, ds)
    here = list(hash_lake(dataset, TABLES, []))
    monkeypatch.setenv("MSR_LAKE_ROOT", str(module_lake))
    assert here == list(hash_lake(dataset, TABLES, []))


def test_a_version_without_new_values_is_published(spark: SparkSession, lake: Path) -> None:
    dataset = random_dataset()
    for ds in DAYS[:4]:
        publish_day([row | {"ds": str(ds)} for row in random_day(DAYS[0])], dataset, ds)
    run_step(build_vocabularies, dataset, DAYS[3], DAYS[2])
    rows = read_table(dataset, "vocabularies", filters={"first_version": str(dataset.vocabulary_version(DAYS[3]))})
    assert rows["change"].to_pylist() == ["published"]
    first, second = (read_vocabulary(dataset, str(dataset.vocabulary_version(ds))) for ds in DAYS[2:4])
    assert first.num_rows > 0 and first.equals(second)


def test_two_lineages_in_one_table_do_not_meet(spark: SparkSession, lake: Path) -> None:
    dataset, other = random_dataset(), bounded_dataset({"user": {"max_ids": 3}})
    publish_days(dataset, DAYS[:4])
    run_step(build_vocabularies, dataset, DAYS[2])
    alone = read_vocabulary(dataset, str(dataset.vocabulary_version(DAYS[2])))
    run_step(build_vocabularies, other, *DAYS[2:4])
    run_step(build_vocabularies, dataset, *DAYS[2:4])
    assert len(published_versions(dataset)) == 4
    again = read_vocabulary(dataset, str(dataset.vocabulary_version(DAYS[2])))
    assert again.sort_by([("field", "ascending"), ("id", "ascending")]).equals(
        alone.sort_by([("field", "ascending"), ("id", "ascending")])
    )
    few = read_vocabulary(dataset, str(other.vocabulary_version(DAYS[3])))
    assert pc.sum(pc.equal(few["field"], "user")).as_py() == 3


def test_hashed_fields_alone_have_versions_without_rows(spark: SparkSession, lake: Path) -> None:
    fields = [{"name": n, "source": n, "hash_buckets": 7} for n in ("user", "item")]
    dataset = random_dataset(fields=fields, sequence={"max_length": 2, "lookback_days": 2})
    full = random_dataset()
    for ds in DAYS[:3]:
        rows = [
            {k: v for k, v in row.items() if not k.startswith("x_") or k in ("x_user", "x_item")}
            for row in random_day(ds)
        ]
        publish_day(rows, dataset, ds)
    run_step(build_scenario_features, dataset, DAYS[2])
    assert len(read_vocabulary(dataset, str(dataset.vocabulary_version(DAYS[2])))) == 0
    window = load_window(dataset, [DAYS[2]])
    assert window.layout.num_rows[:2] == (8, 8) and full.lineage != dataset.lineage
