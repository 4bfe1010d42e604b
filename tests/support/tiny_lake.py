"""A tiny lake of encoded tables, written with the pipeline's own writer, for tests of the torch side.

`write_tiny_lake(dataset, days)` writes vocabularies, scenario_features, behaviour_sequences; `write_masks` and
`write_shared_set` add a shared set. The label depends on item and scenario: half of the items have one taste in all
scenarios (even ids), the others an opposite one from scenario to scenario.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lake import reader as lake_reader
from lake.arrow_writer import overwrite_partition
from lake.locations import lake_root
from lake.provenance import made_of, record
from msr_models.sets.feature_files import TABLES, feature_files
from schemas.dataset_spec import DatasetSpec
from schemas.table_spec import FINGERPRINT

ENCODED_TABLES = ("vocabularies", "scenario_features", "behaviour_sequences", "provenance")
NUM_USERS, NUM_ITEMS, NUM_TAGS, NUM_PRICES = 40, 24, 6, 4
MAX_TAGS = 3
# Behaviours with an attribute
WITH_ATTRIBUTE: dict[str, Any] = {"item_field": "item", "attributes": ["user"], "max_length": 5, "lookback_days": 3}

# Settings of a search that takes a second.
SMALL_SEARCH: dict[str, Any] = {
    "window_days": 3,
    "warmup_epochs": 2,
    "epochs": 1,
    "batch_size": 64,
    "embedding_dim": 4,
    "hidden": [8],
    "selector_hidden": [8],
    "learning_rate": 0.01,
    "selector_learning_rate": 0.01,
}


def tiny_dataset(
    name: str = "tiny", scenarios: Sequence[str] = ("home", "feed", "ads"), **changes: object
) -> DatasetSpec:
    """A data set with a single-valued, a multi-valued and a numeric field; `changes` replaces top-level blocks.

    Trains no floor, unless the block `training` asks for one.
    """
    raw: dict[str, object] = {
        "name": name,
        "source": {"adapter": "generated"},
        "columns": {"event_time": {"column": "t"}, "user": "u", "item": "i", "label": {"column": "y"}},
        "scenario": {"column": "s", "values": list(scenarios)},
        "fields": [
            {"name": "user", "source": "u"},
            {"name": "item", "source": "i"},
            {"name": "tags", "source": "g", "kind": "multi_valued", "max_values": MAX_TAGS},
            {"name": "price", "source": "p", "kind": "numeric", "binning": {"quantiles": NUM_PRICES}},
        ],
        "sequence": {"item_field": "item", "max_length": 5, "lookback_days": 3},
        "vocabulary": {"fit_days": 1, "refresh_days": 1},
        "days": {"start": "2026-01-01"},
        "search": {
            "window_days": 3,
            "hidden": [16, 8],
            "selector_hidden": [16, 8],
            "embedding_dim": 4,
            "batch_size": 128,
        },
        "training": {
            "window_days": 3,
            "batch_size": 128,
            "max_epochs": 2,
            "learning_rate": 0.01,
            "ratios": [0.0, 0.5, 1.0],
            "models": [{"name": "shared_bottom", "options": {"embedding_dim": 4, "hidden": [16, 8]}}],
        },
    }
    merged: dict[str, Any] = raw | changes
    merged["training"] = {"floor": False, **merged["training"]}
    return DatasetSpec.model_validate(merged)


def write_tiny_lake(
    dataset: DatasetSpec, days: Sequence[date], *, rows_per_day: int = 400, seed: int = 0, backwards: bool = False
) -> None:
    """Write the encoded tables of `days`, which must have features. `backwards` turns the order of rows in files.

    Into an empty lake they are copied from one that this process has written before, where there is one.
    """
    target = Path(lake_root()) / dataset.name
    if any((target / table).exists() for table in ENCODED_TABLES):
        return _write_days(dataset, days, rows_per_day, seed, backwards)
    written = _written_lake(
        dataset.model_dump_json(exclude={"search", "training"}), tuple(days), rows_per_day, seed, backwards
    )
    shutil.copytree(written, target, dirs_exist_ok=True)


@cache
def _written_lake(dataset_json: str, days: tuple[date, ...], rows_per_day: int, seed: int, backwards: bool) -> Path:
    """The data set's folder in a lake of its own, removed when the process ends."""
    root = tempfile.TemporaryDirectory(prefix="tiny-lake-")
    atexit.register(root.cleanup)
    dataset = DatasetSpec.model_validate_json(dataset_json)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("MSR_LAKE_ROOT", root.name)
        _write_days(dataset, days, rows_per_day, seed, backwards)
    return Path(root.name) / dataset.name


def _write_days(dataset: DatasetSpec, days: Sequence[date], rows_per_day: int, seed: int, backwards: bool) -> None:
    for version in {dataset.vocabulary_version(d) for d in days}:
        assert version is not None, "days before the first vocabulary have no features"
        overwrite_partition(_vocabulary(version), dataset, "vocabularies", {"first_version": version})
    for ds in days:
        features, sequences = tiny_day(dataset, ds, rows_per_day, seed)
        if backwards:
            features, sequences = (t.take(np.arange(t.num_rows)[::-1].copy()) for t in (features, sequences))
        for rows, table in ((sequences, "behaviour_sequences"), (features, "scenario_features")):
            record(dataset, made_of(dataset, table, ds))
            overwrite_partition(rows, dataset, table, {"ds": str(ds)})


def with_fingerprint(rows: pa.Table, dataset: DatasetSpec, table: str, ds: date) -> pa.Table:
    """Rows of a day with the fingerprint of what the steps would make them of now."""
    found = made_of(dataset, table, ds).fingerprint
    return rows.append_column(FINGERPRINT.name, pa.repeat(pa.scalar(found), rows.num_rows))


def tiny_day(dataset: DatasetSpec, ds: date, rows: int, seed: int = 0) -> tuple[pa.Table, pa.Table]:
    """(scenario_features, behaviour_sequences) of one day: a function of seed and ds alone."""
    rng = np.random.default_rng([seed, ds.toordinal()])
    scenarios = dataset.num_scenarios
    shares = np.arange(scenarios, 0, -1) / np.arange(scenarios, 0, -1).sum()
    scenario = rng.choice(scenarios, rows, p=shares).astype(np.int32)
    user, item = rng.integers(1, NUM_USERS + 1, rows), rng.integers(0, NUM_ITEMS + 1, rows)
    sign = np.where(item % 2 == 0, 1, (-1) ** scenario)
    taste = np.where(np.arange(NUM_ITEMS + 1) % 4 < 2, 1.5, -1.5)[item] * sign
    label = (rng.random(rows) < 1 / (1 + np.exp(-taste))).astype(np.int32)
    users = np.unique(user)
    lengths = rng.integers(0, 9, NUM_USERS + 1)
    lengths[users[0]] = 0
    version = dataset.vocabulary_version(ds)
    midnight = datetime(ds.year, ds.month, ds.day, tzinfo=UTC)
    columns: dict[str, object] = {
        "ds": [str(ds)] * rows,
        "scenario_id": scenario,
        "instance_id": rng.permutation(rows).astype(np.int64) * 1_000_003 + ds.toordinal() - 2**40,
        "event_ts": pa.array([midnight + timedelta(seconds=int(s)) for s in np.sort(rng.integers(0, 86_400, rows))]),
        "user_key": user.astype(np.int64) * 7_919 - 100_000,
        "label": label,
        "value": pa.array([None] * rows, pa.float64()),
        "hist_end": rng.integers(0, lengths[user] + 1).astype(np.int32),
        "vocabulary_version": [version] * rows,
        "f_user": user.astype(np.int32),
        "f_item": item.astype(np.int32),
        "f_tags": [rng.integers(1, NUM_TAGS + 1, n).astype(np.int32) for n in rng.integers(0, MAX_TAGS + 1, rows)],
        "f_price": rng.integers(1, NUM_PRICES + 1, rows).astype(np.int32),
    }
    for j, column in enumerate(dataset.columns.label_columns.values()):  # half of the positives of even items
        drawn = np.random.default_rng([seed, ds.toordinal(), 2 + j]).random(rows)
        columns[column] = (label * (drawn < np.where(item % 2 == 0, 0.5, 0.05))).astype(np.int32)
    for field in dataset.encoded_fields:
        if field.is_statistic:
            columns[field.column] = rng.integers(0, 18, rows).astype(np.int32)
    for dense in dataset.dense_fields:
        columns[dense.dense_column] = rng.normal(size=rows).clip(-5, 5).astype(np.float32)
    lists = [rng.integers(1, NUM_ITEMS + 1, lengths[u]) for u in users]
    sequences: dict[str, object] = {
        "ds": [str(ds)] * len(users),
        "user_key": users.astype(np.int64) * 7_919 - 100_000,
        "user_id": [f"u{u}" for u in users],
        "hist_item_ids": pa.array([x.astype(np.int32) for x in lists], pa.list_(pa.int32())),
        "hist_scenario_ids": pa.array([(x % scenarios).astype(np.int32) for x in lists], pa.list_(pa.int32())),
        "hist_event_ts": pa.array([np.arange(len(x)) for x in lists], pa.list_(pa.int64())),
        "vocabulary_version": [version] * len(users),
    }
    for name in dataset.sequence.attributes:  # 0: unknown
        ids = [rng.integers(0, NUM_USERS + 1, lengths[u]).astype(np.int32) for u in users]
        sequences[f"hist_f_{name}"] = pa.array(ids, pa.list_(pa.int32()))
    return (
        with_fingerprint(pa.table(columns), dataset, "scenario_features", ds),
        with_fingerprint(pa.table(sequences), dataset, "behaviour_sequences", ds),
    )


def write_masks(
    dataset: DatasetSpec, shared_set_id: str, days: Sequence[date], *, rows_per_day: int = 400, seed: int = 0
) -> None:
    """Masks of the rows that `write_tiny_lake` wrote: items with one taste everywhere rank above the others.

    They name the feature files that are there; none where the data set has no features.
    """
    has_features = all(lake_reader.table_exists(dataset, table) for table in TABLES)
    files = feature_files(dataset, days) if has_features else dict.fromkeys(days, "none")
    for ds in days:
        features, _ = tiny_day(dataset, ds, rows_per_day, seed)
        rows = features.num_rows
        noise = np.random.default_rng([seed, ds.toordinal(), 1]).random(rows)
        score = 0.5 * (features["f_item"].to_numpy() % 2 == 0) + 0.5 * noise
        rank = (score.argsort().argsort() + 1.0) / (rows + 1)
        masks = {
            "shared_set_id": [shared_set_id] * rows,
            "ds": features["ds"],
            "instance_id": features["instance_id"],
            "scenario_id": features["scenario_id"],
            "shared_score": score.astype(np.float32),
            "rank_pct": rank,
            "rank_pct_scenario": rank,
            "is_shared": score > 0.5,
            "features_files": pa.array([files[ds]] * rows, pa.string()),
        }
        overwrite_partition(
            pa.table(masks), dataset, "shared_instance_masks", {"shared_set_id": shared_set_id, "ds": str(ds)}
        )


def write_shared_set(
    dataset: DatasetSpec,
    shared_set_id: str,
    window: tuple[date, date],
    *,
    status: str = "accepted",
    vocabulary_version: str | None = None,
    config: str | None = None,
    scenarios: Sequence[str] | None = None,
    features_version: int | None = None,
) -> None:
    """A catalogue row, searched with the data set's settings unless `config` says others.

    Its selector does not exist, so the set can be read but not score.
    """
    row = {
        "shared_set_id": shared_set_id,
        "dataset": dataset.name,
        "window_start": str(window[0]),
        "window_end": str(window[1]),
        "source_backbone": "shared_bottom",
        "objective": "reference",
        "kl_weight": 0.5,
        "threshold": 0.5,
        "gate_estimator": "straight_through",
        "kl_form": "bernoulli",
        "seed": 1,
        "scenarios": json.dumps(scenarios or dataset.scenario.names),
        "config": config or dataset.search.model_dump_json(),
        "table_versions": json.dumps({} if features_version is None else {"scenario_features": features_version}),
        "window_fingerprint": "0" * 16,
        "vocabulary_version": vocabulary_version or dataset.vocabulary_version(window[1]),
        "selector_uri": "nowhere",
        "selector_sha256": "0" * 64,
        "share_rate": 0.5,
        "share_rates": json.dumps({}),
        "validation_metrics": json.dumps({}),
        "code_version": "test",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "status": status,
        "status_reason": "" if status == "accepted" else "test",
    }
    rows = pa.table({key: [value] for key, value in row.items()})
    overwrite_partition(rows, dataset, "shared_instance_sets", {"shared_set_id": shared_set_id})


def _vocabulary(version: str) -> pa.Table:
    fields = {"user": NUM_USERS, "item": NUM_ITEMS, "tags": NUM_TAGS, "price": NUM_PRICES}
    names = [(f, i) for f, n in fields.items() for i in range(1, n + 1)]
    return pa.table(
        {
            "first_version": [version] * len(names),
            "field": [f for f, _ in names],
            "value": [f"{f}{i}" for f, i in names],
            "id": pa.array([i for _, i in names], pa.int32()),
            "change": ["added"] * len(names),
        }
    )
