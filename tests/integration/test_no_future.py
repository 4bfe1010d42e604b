"""A signal that is only in the future must not move the tables of a day, nor what an impression sees of its own day."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs import build_behaviour_sequences, build_scenario_features, build_vocabularies
from jobs.hash_tables import hash_lake
from lake.reader import read_table
from schemas.dataset_spec import DatasetSpec
from tests.support.random_log import START, Rows, publish_day, publish_days, random_dataset, random_day
from tests.support.steps import run_step

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.usefixtures("spark")]

DAYS = [START + timedelta(days=n) for n in range(5)]
DAY = DAYS[3]
FEATURE_TABLES = ("vocabularies", "behaviour_sequences", "scenario_features")
HISTORY = ("hist_event_ts", "hist_item_ids", "hist_scenario_ids", "hist_f_city")


@pytest.fixture(scope="module")
def dataset(module_lake: Path) -> DatasetSpec:
    """A lake with the features of DAY; the day after it is there already, as in a backfill."""
    dataset = random_dataset()
    publish_days(dataset, DAYS)
    _build(dataset, DAY)
    return dataset


def test_later_days_move_nothing(dataset: DatasetSpec) -> None:
    before = list(hash_lake(dataset, FEATURE_TABLES, []))
    publish_day(_planted(DAYS[4]), dataset, DAYS[4])
    _build(dataset, DAY)
    assert list(hash_lake(dataset, FEATURE_TABLES, [])) == before
    _build(dataset, DAYS[4])
    changed = [part for part in hash_lake(dataset, FEATURE_TABLES, []) if part not in before]
    assert changed, "the planted day must show in its own tables, or this test sees nothing"


def test_later_impressions_of_the_day_are_not_seen(dataset: DatasetSpec) -> None:
    before = _seen(dataset)
    rows = random_day(DAY)
    noon = sorted(row["event_ts"] for row in rows)[len(rows) // 2]
    early = {row["instance_id"] for row in rows if row["event_ts"] <= noon}
    # From noon on (at noon too: the same instant is not seen) labels are turned over, and each user comes once more.
    late = [row | ({"label": 1 - row["label"]} if row["event_ts"] >= noon else {}) for row in rows]
    end = max(row["event_ts"] for row in rows)
    more = [row | {"instance_id": 2**61 + n, "event_ts": end, "label": 1} for n, row in enumerate(rows)]
    publish_day([*late, *more], dataset, DAY)
    _build(dataset, DAY)
    after = _seen(dataset)
    assert {n: after[n] for n in early} == {n: before[n] for n in early}
    assert {n: after[n] for n in before} != before, "later impressions must see the change, or this test sees nothing"


def _build(dataset: DatasetSpec, ds: date) -> None:
    for module in (build_vocabularies, build_behaviour_sequences, build_scenario_features):
        run_step(module, dataset, ds)


def _planted(ds: date) -> Rows:
    """The day with its labels turned over, new values, and ten times the weight on one user and item."""
    rows = [row | {"label": 1 - row["label"]} for row in random_day(ds)]
    new: dict[str, Any] = {"user_id": "u3", "item_id": "i3", "x_user": "u3", "x_item": "i3"}
    new |= {"x_city": "new", "x_tags": ["new"]}
    extra = random_day(ds, rows=1500, seed=5)
    return rows + [row | new | {"label": 1, "x_price": 1e6, "instance_id": 2**61 + n} for n, row in enumerate(extra)]


def _seen(dataset: DatasetSpec) -> dict[int, tuple[Any, ...]]:
    """instance_id -> the impression's ids and the behaviours that it sees, without its own label."""
    sequences = read_table(dataset, "behaviour_sequences", days=[DAY]).to_pylist()
    histories = {row["user_key"]: row for row in sequences}
    ids = [field.column for field in dataset.encoded_fields]
    seen = {}
    for row in read_table(dataset, "scenario_features", days=[DAY]).to_pylist():
        end = row["hist_end"]
        window = slice(max(0, end - dataset.sequence.max_length), end)
        seen[row["instance_id"]] = (
            [row[column] for column in ids],
            [histories[row["user_key"]][column][window] for column in HISTORY],
        )
    return seen
