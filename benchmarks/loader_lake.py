"""Lakes of encoded tables of any size for bench_loader and bench_end_to_end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa

from lake.arrow_writer import overwrite_partition
from lake.provenance import made_of
from schemas.dataset_spec import DatasetSpec
from schemas.table_spec import FINGERPRINT

# Fields with ids 1 .. size. `position` rises in the order in which rows are written, which shows how a shuffle mixes.
FIELD_SIZES = {"user": 100_000, "item": 50_000, "position": 1_000} | {f"c{i}": 10 ** (1 + i % 5) for i in range(15)}
SCENARIOS = ("home", "feed", "ads")
SESSION_ROWS = 20


def loader_dataset(name: str, max_length: int) -> DatasetSpec:
    """18 single-valued fields, no statistics."""
    raw: dict[str, object] = {
        "name": name,
        "source": {"adapter": "generated"},
        "columns": {"event_time": {"column": "t"}, "user": "u", "item": "i", "label": {"column": "y"}},
        "scenario": {"column": "s", "values": list(SCENARIOS)},
        "fields": [{"name": f, "source": f} for f in FIELD_SIZES],
        "statistics": None,
        "sequence": {"item_field": "item", "max_length": max_length, "lookback_days": 3},
        "vocabulary": {"fit_days": 1, "refresh_days": 30},
        "days": {"start": "2026-01-01"},
    }
    return DatasetSpec.model_validate(raw)


def loader_days(days: int) -> list[date]:
    """Days that can have features."""
    return [date(2026, 1, 2) + timedelta(days=d) for d in range(days)]


def write_lake(dataset: DatasetSpec, days: Sequence[date], rows_per_day: int, behaviours: int) -> None:
    """Write vocabulary, sequences and features of `days`.

    A session has `behaviours` behaviours; each of its rows sees max_length of them (all if there are fewer), which end
    at a random position.
    """
    version = dataset.vocabulary_version(days[0])
    assert version is not None
    names = list(FIELD_SIZES)
    # A field's size is its largest id, so that one entry per field suffices
    vocabulary = {
        "first_version": [version] * len(names),
        "field": names,
        "value": names,
        "id": pa.array(FIELD_SIZES.values(), pa.int32()),
        "change": ["added"] * len(names),
    }
    overwrite_partition(pa.table(vocabulary), dataset, "vocabularies", {"first_version": version})
    for index, ds in enumerate(days):
        rng = np.random.default_rng([index, 5])
        sessions = max(1, rows_per_day // SESSION_ROWS)
        lists = pa.ListArray.from_arrays(
            pa.array(np.arange(sessions + 1, dtype=np.int32) * behaviours),
            pa.array(rng.integers(1, FIELD_SIZES["item"], sessions * behaviours, dtype=np.int32)),
        )
        scenarios = pa.array(rng.integers(0, len(SCENARIOS), sessions * behaviours, dtype=np.int32))
        times = pa.ListArray.from_arrays(lists.offsets, pa.array(np.zeros(sessions * behaviours, dtype=np.int64)))
        sequences = {
            "ds": [str(ds)] * sessions,
            "user_key": np.arange(sessions),
            "user_id": pa.array(np.arange(sessions)).cast(pa.string()),
            "hist_item_ids": lists,
            "hist_scenario_ids": pa.ListArray.from_arrays(lists.offsets, scenarios),
            "hist_event_ts": times,
            "vocabulary_version": [version] * sessions,
        }
        _publish(pa.table(sequences), dataset, "behaviour_sequences", ds)
        position = 1 + (np.arange(rows_per_day) + index * rows_per_day) * 999 // (rows_per_day * len(days))
        columns: dict[str, object] = {
            "ds": pa.array([str(ds)]).take(np.zeros(rows_per_day, dtype=np.int64)),
            "scenario_id": np.sort(rng.integers(0, len(SCENARIOS), rows_per_day, dtype=np.int32)),
            "instance_id": rng.permutation(rows_per_day) * np.int64(1_000_003),
            "event_ts": pa.array([datetime(2026, 1, 1, tzinfo=UTC)]).take(np.zeros(rows_per_day, dtype=np.int64)),
            "user_key": rng.integers(0, sessions, rows_per_day),
            "label": rng.integers(0, 2, rows_per_day, dtype=np.int32),
            "value": pa.nulls(rows_per_day, pa.float64()),
            "weight": pa.nulls(rows_per_day, pa.float64()),
            "hist_end": rng.integers(
                min(dataset.sequence.max_length, behaviours), behaviours + 1, rows_per_day, dtype=np.int32
            ),
            "vocabulary_version": pa.array([version]).take(np.zeros(rows_per_day, dtype=np.int64)),
        }
        for name, size in FIELD_SIZES.items():
            columns[f"f_{name}"] = rng.integers(0, size, rows_per_day, dtype=np.int32)
        columns["f_position"] = position.astype(np.int32)
        _publish(pa.table(columns), dataset, "scenario_features", ds)


def _publish(rows: pa.Table, dataset: DatasetSpec, table: str, ds: date) -> None:
    fingerprint = pa.repeat(pa.scalar(made_of(dataset, table, ds).fingerprint), rows.num_rows)
    overwrite_partition(rows.append_column(FINGERPRINT.name, fingerprint), dataset, table, {"ds": str(ds)})
