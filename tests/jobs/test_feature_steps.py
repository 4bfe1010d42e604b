"""build_vocabularies, build_behaviour_sequences, build_scenario_features against slow Python, in any order of days."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs import audit_tables, build_behaviour_sequences, build_scenario_features, build_vocabularies
from jobs.hash_tables import hash_lake
from lake.arrow_writer import overwrite_partition
from lake.reader import published_days, read_table
from lake.vocabularies import read_vocabulary
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TableError
from tests.support import feature_oracle as oracle
from tests.support.random_log import START, publish_day, publish_days, random_dataset, random_day
from tests.support.steps import run_step

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.usefixtures("spark")]

DAYS = [START + timedelta(days=n) for n in range(4)]
FEATURE_DAYS = DAYS[2:]
TABLES = ("vocabularies", "behaviour_sequences", "scenario_features")


@pytest.fixture(scope="module")
def dataset() -> DatasetSpec:
    return random_dataset()


@pytest.fixture(scope="module")
def log(spark: SparkSession, module_lake: Path, dataset: DatasetSpec) -> oracle.Log:
    """The log of a lake whose features were made newest day first: each step had to build its missing inputs."""
    log = publish_days(dataset, DAYS)
    for ds in reversed(FEATURE_DAYS):
        run_step(build_scenario_features, dataset, ds)
    return log


@pytest.mark.parametrize("ds", FEATURE_DAYS)
def test_vocabularies_are_those_of_days_in_order(log: oracle.Log, dataset: DatasetSpec, ds: date) -> None:
    version = dataset.vocabulary_version(ds)
    assert version is not None
    rows = read_vocabulary(dataset, version).to_pylist()
    ids, edges = oracle.vocabulary(dataset, log, ds)
    for field in dataset.fields:
        actual = {row["value"]: row["id"] for row in rows if row["field"] == field.name}
        if field.kind == "numeric":
            expected = {e: n for n, e in enumerate([float("-inf"), *edges[field.name]], start=1)}
            assert {float(value): n for value, n in actual.items()} == pytest.approx(expected)
        else:
            assert actual == ids[field.name]
            assert set(actual.values()) == set(range(1, len(actual) + 1))
    introduced = {row["first_version"] for row in rows}
    assert introduced == {dataset.vocabulary_version(d) for d in FEATURE_DAYS if d <= ds}, "each day brings new values"


def test_a_data_set_that_keeps_no_behaviours_has_users_without_any(spark: SparkSession, lake: Path) -> None:
    dataset = random_dataset()
    dataset = dataset.model_copy(update={"sequence": dataset.sequence.model_copy(update={"max_length": 0})})
    log = publish_days(dataset, DAYS)
    run_step(build_scenario_features, dataset, FEATURE_DAYS[-1])
    rows = read_table(dataset, "behaviour_sequences", days=[FEATURE_DAYS[-1]]).to_pylist()
    assert {row["user_id"] for row in rows} == {row["user_id"] for row in log[FEATURE_DAYS[-1]]}
    assert all(value == [] for row in rows for name, value in row.items() if name.startswith("hist_"))
    features = read_table(dataset, "scenario_features", columns=["hist_end"], days=[FEATURE_DAYS[-1]])
    assert set(features["hist_end"].to_pylist()) == {0} and len(features) == len(log[FEATURE_DAYS[-1]])
    run_step(audit_tables, dataset, FEATURE_DAYS[-1])


@pytest.mark.parametrize("ds", FEATURE_DAYS)
def test_sequences_are_those_of_slow_python(log: oracle.Log, dataset: DatasetSpec, ds: date) -> None:
    rows = read_table(dataset, "behaviour_sequences", days=[ds]).to_pylist()
    columns = {"ts": "hist_event_ts", "item": "hist_item_ids", "scenario": "hist_scenario_ids", "city": "hist_f_city"}
    actual = {
        row["user_id"]: [
            dict(zip(columns, behaviour, strict=True))
            for behaviour in zip(*[row[column] for column in columns.values()], strict=True)
        ]
        for row in rows
    }
    expected = oracle.sequences(dataset, log, ds)
    assert actual == expected
    assert any(len(behaviours) == 0 for behaviours in expected.values()), "a user without behaviours must be among them"
    assert any(len(behaviours) > dataset.sequence.max_length for behaviours in expected.values())
    assert any(behaviour["item"] == 0 for behaviours in expected.values() for behaviour in behaviours)


@pytest.mark.parametrize("ds", FEATURE_DAYS)
def test_features_are_those_of_slow_python(log: oracle.Log, dataset: DatasetSpec, ds: date) -> None:
    rows = {row["instance_id"]: row for row in read_table(dataset, "scenario_features", days=[ds]).to_pylist()}
    expected = oracle.features(dataset, log, ds)
    encoded = [f.column for f in dataset.encoded_fields] + ["hist_end"]
    assert {n: {c: row[c] for c in encoded} for n, row in rows.items()} == expected
    for column in encoded:
        assert len({str(row[column]) for row in expected.values()}) > 1, f"{column} says nothing on {ds}"
    for impression in log[ds]:
        row = rows[impression["instance_id"]]
        assert all(row[c] == impression[c] for c in ("ds", "scenario_id", "event_ts", "label", "value"))
        assert row["vocabulary_version"] == dataset.vocabulary_version(ds)


def test_user_key_names_the_row_of_the_sequences(log: oracle.Log, dataset: DatasetSpec) -> None:
    ds = FEATURE_DAYS[-1]
    sequences = read_table(dataset, "behaviour_sequences", days=[ds]).to_pylist()
    users = {row["user_key"]: row["user_id"] for row in sequences}
    features = read_table(dataset, "scenario_features", days=[ds], columns=["instance_id", "user_key"]).to_pylist()
    expected = {row["instance_id"]: row["user_id"] for row in log[ds]}
    assert {row["instance_id"]: users[row["user_key"]] for row in features} == expected


def test_a_range_again_changes_nothing(log: oracle.Log, dataset: DatasetSpec, caplog: pytest.LogCaptureFixture) -> None:
    before = list(hash_lake(dataset, TABLES, []))
    for module in (build_vocabularies, build_behaviour_sequences, build_scenario_features):
        run_step(module, dataset, *DAYS[1:3])
    assert list(hash_lake(dataset, TABLES, [])) == before
    assert all(text in caplog.text for text in ("stays as it is", "nothing to do", "user null 0.00% unknown"))
    assert published_days(dataset, "scenario_features") == set(FEATURE_DAYS)


def test_a_published_vocabulary_stays_when_its_days_change(spark: SparkSession, lake: Path) -> None:
    dataset = random_dataset()
    publish_days(dataset, DAYS[:2])
    run_step(build_vocabularies, dataset, *DAYS[2:3])
    before = list(hash_lake(dataset, ["vocabularies"], []))
    publish_day(random_day(DAYS[0], seed=9), dataset, DAYS[0])
    run_step(build_vocabularies, dataset, *DAYS[2:3])
    assert list(hash_lake(dataset, ["vocabularies"], [])) == before


def test_sequences_of_other_impressions_are_refused(spark: SparkSession, lake: Path) -> None:
    dataset = random_dataset(statistics=None)
    ds = DAYS[2]
    publish_days(dataset, DAYS[:3])
    run_step(build_behaviour_sequences, dataset, ds)
    publish_day([*random_day(ds), random_day(ds, seed=1)[0] | {"user_id": "late"}], dataset, ds)
    command = rf"jobs\.build_behaviour_sequences --dataset random_log --ds {ds}"
    with pytest.raises(TableError, match=f"1 impressions of {ds} .*{command}"):
        run_step(build_scenario_features, dataset, ds)
    assert published_days(dataset, "scenario_features") == set()
    rows = read_table(dataset, "behaviour_sequences", days=[ds])
    position = rows.schema.get_field_index("vocabulary_version")
    stale = rows.set_column(position, "vocabulary_version", [["other"] * len(rows)])
    overwrite_partition(stale, dataset, "behaviour_sequences", {"ds": str(ds)})
    run_step(build_scenario_features, dataset, ds)  # of another vocabulary: made again, now with the late user
    assert len(read_table(dataset, "scenario_features", days=[ds])) == len(random_day(ds)) + 1
