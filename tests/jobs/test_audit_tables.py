"""The cross-table audit of a day: sound tables pass, each planted fault is named and ends with AuditFailedError."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from jobs import audit_tables, build_scenario_features
from lake.arrow_writer import overwrite_partition
from lake.reader import read_table
from schemas.dataset_spec import DatasetSpec
from schemas.errors import AuditFailedError
from schemas.tables import get_table
from tests.support.random_log import START, publish_days, random_dataset
from tests.support.steps import run_step

pytestmark = [pytest.mark.spark, pytest.mark.slow]
DAY = START + timedelta(days=2)
FEATURES, SEQUENCES = "scenario_features", "behaviour_sequences"


@pytest.fixture(scope="module")
def dataset(spark: SparkSession, module_lake: Path) -> DatasetSpec:
    """A lake with one day of features, made by the real steps."""
    dataset = random_dataset()
    publish_days(dataset, [START, START + timedelta(days=1), DAY])
    run_step(build_scenario_features, dataset, DAY)
    return dataset


def rows_of(dataset: DatasetSpec, table: str) -> list[dict[str, Any]]:
    return read_table(dataset, table, days=[DAY]).to_pylist()


def rewrite(dataset: DatasetSpec, table: str, rows: list[dict[str, Any]]) -> None:
    schema = get_table(table).for_dataset(dataset).arrow_schema()
    overwrite_partition(pa.Table.from_pylist(rows, schema), dataset, table, {"ds": str(DAY)})


def audits(dataset: DatasetSpec) -> dict[str, dict[str, Any]]:
    return {row["table_name"]: row for row in rows_of(dataset, "audits")}


def test_tables_of_the_steps_pass_and_are_recorded(dataset: DatasetSpec) -> None:
    run_step(audit_tables, dataset, DAY)
    impressions = rows_of(dataset, "impressions")
    features, sequences = audits(dataset)[FEATURES], audits(dataset)[SEQUENCES]
    assert (features["status"], features["rows_in"]) == ("published", len(impressions))
    assert features["rows_published"] == sum(json.loads(features["rows_per_scenario"]).values()) == len(impressions)
    users = {row["user_id"] for row in impressions}
    assert (sequences["status"], sequences["rows_published"]) == ("published", len(users))


def test_each_fault_of_the_features_is_named(dataset: DatasetSpec) -> None:
    sound = rows_of(dataset, FEATURES)
    rows = [dict(row) for row in sound]
    length = {row["user_key"]: len(row["hist_event_ts"]) for row in rows_of(dataset, SEQUENCES)}
    later = [row for row in rows if row["hist_end"] < length[row["user_key"]]]
    seen = [row for row in rows if row["hist_end"] > 0 and row not in later]
    assert len(later) >= 1 and len(seen) >= 6, "the planted faults need rows of both kinds"
    later[0]["hist_end"] += 1  # sees a behaviour of its own moment or after
    seen[0]["hist_end"] -= 1  # misses one
    seen[1]["hist_end"] = 99
    seen[2]["user_key"] += 1  # a user whom nobody knows
    seen[3]["f_item"] = 10_000
    seen[4]["f_tags"] = [1, 10_000]
    seen[5]["vocabulary_version"] = "of-another-day"
    seen[0]["label"] = 1 - seen[0]["label"]  # not the impression's
    rows.remove(next(row for row in rows if row not in later[:1] and row not in seen[:6]))
    rewrite(dataset, FEATURES, rows)
    with pytest.raises(AuditFailedError, match=FEATURES) as error:
        run_step(audit_tables, dataset, DAY)
    for text in (
        "1 rows that see a behaviour not before the impression",
        "1 rows that miss a behaviour before the impression",
        "1 rows whose hist_end is beyond the user's behaviours",
        "1 rows whose user has no behaviour_sequences row",
        "1 rows with an id of item outside 0..",
        "1 rows with an id of tags outside 0..",
        "1 rows of another vocabulary version",
        "2 impressions without features",
        "1 features without an impression",
    ):
        assert text in str(error.value), text
    audit = audits(dataset)
    assert audit[FEATURES]["status"] == "failed" and audit[SEQUENCES]["status"] == "published"
    rewrite(dataset, FEATURES, sound)
    run_step(audit_tables, dataset, DAY)
    assert audits(dataset)[FEATURES]["status"] == "published", "a repaired day passes again"


def test_each_fault_of_the_sequences_is_named(dataset: DatasetSpec) -> None:
    sound = rows_of(dataset, SEQUENCES)
    rows = [dict(row) for row in sound]
    long = [row for row in rows if len(set(row["hist_event_ts"])) >= 2]
    assert len(long) >= 6, "the planted faults need long rows"
    long[0]["hist_event_ts"] = long[0]["hist_event_ts"][::-1]
    long[1]["hist_event_ts"] = [long[1]["hist_event_ts"][0] - 30 * 86_400_000_000, *long[1]["hist_event_ts"][1:]]
    long[2]["hist_item_ids"] = long[2]["hist_item_ids"][1:]
    long[3]["hist_item_ids"] = [10_000, *long[3]["hist_item_ids"][1:]]
    long[4]["hist_scenario_ids"] = [7, *long[4]["hist_scenario_ids"][1:]]
    long[5]["hist_f_city"] = [-1, *long[5]["hist_f_city"][1:]]
    rows.remove(next(row for row in rows if row not in long[:6]))
    rewrite(dataset, SEQUENCES, rows)
    try:
        with pytest.raises(AuditFailedError, match=SEQUENCES) as error:
            run_step(audit_tables, dataset, DAY)
    finally:
        rewrite(dataset, SEQUENCES, sound)
    for text in (
        "1 rows whose times do not ascend",
        "1 rows with a time outside the lookback",
        "1 rows whose lists differ in length",
        "1 rows with an item id outside the vocabulary",
        "1 rows with a scenario outside 0..2",
        "1 rows with an id of city outside the vocabulary",
        f"{len(sound) - 1} rows for {len(sound)} users of the day",
    ):
        assert text in str(error.value), text
    assert audits(dataset)[SEQUENCES]["status"] == "failed"
