"""A log whose users and items come and go: each day's population moves on, labels follow factors of user and item."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa

from lake.arrow_writer import overwrite_partition
from lake.provenance import made_of
from lake.rows import write_rows
from schemas.dataset_spec import DatasetSpec
from schemas.table_spec import FINGERPRINT
from schemas.tables import get_table
from schemas.tables.audits import Audit

START = date(2026, 1, 1)
SCENARIOS = ("home", "feed")
RANK = 3


def churning_dataset(name: str, bounds: dict[str, dict[str, int]], **changes: object) -> DatasetSpec:
    """Fields user, item and shop; `bounds` has further keys per field, `changes` replaces top-level blocks."""
    raw: dict[str, object] = {
        "name": name,
        "source": {"adapter": "generated"},
        "columns": {"event_time": {"column": "t"}, "user": "u", "item": "i", "label": {"column": "y"}},
        "scenario": {"column": "s", "values": list(SCENARIOS)},
        "fields": [{"name": n, "source": n} | bounds.get(n, {}) for n in ("user", "item", "shop")],
        "sequence": {"max_length": 5, "lookback_days": 2},
        "statistics": None,
        "vocabulary": {"fit_days": 3, "refresh_days": 3},
        "days": {"start": str(START)},
    }
    return DatasetSpec.model_validate(raw | changes)


def publish_day(dataset: DatasetSpec, ds: date, rows: int, users: int, items: int, churn: float) -> None:
    """Write a day as ingest would leave it: of `users` and `items` at a time, the part `churn` is new each day."""
    age = (ds - START).days
    rng = np.random.default_rng([3, age])
    user = rng.integers(0, users, rows) + int(age * users * churn)
    item = rng.integers(0, items, rows) + int(age * items * churn)
    shop = item % 40
    taste = (_factors(1, user) * (_factors(2, item) + _factors(3, shop))).sum(1)
    label = rng.random(rows) < 1 / (1 + np.exp(0.5 - 0.7 * taste - 3.0 * _factors(4, item)[:, 0]))
    midnight = int(datetime(ds.year, ds.month, ds.day, tzinfo=UTC).timestamp()) * 1_000_000
    names = {"user": _texts("user", user), "item": _texts("item", item), "shop": _texts("shop", shop)}
    columns = {
        "ds": pa.array([str(ds)] * rows),
        "instance_id": pa.array(np.arange(rows) + age * rows),
        "event_ts": pa.array(midnight + np.sort(rng.integers(0, 86_400_000_000, rows)), pa.timestamp("us", "UTC")),
        "scenario_id": pa.array(rng.integers(0, len(SCENARIOS), rows), pa.int32()),
        "user_id": names["user"],
        "item_id": names["item"],
        "label": pa.array(label.astype(np.int32)),
        "value": pa.nulls(rows, pa.float64()),
        "session_id": pa.nulls(rows, pa.string()),
        "weight": pa.nulls(rows, pa.float64()),
        **{f"x_{name}": texts for name, texts in names.items()},
    }
    schema = get_table("impressions").for_dataset(dataset).arrow_schema()
    columns[FINGERPRINT.name] = [made_of(dataset, "impressions", ds).fingerprint] * rows
    overwrite_partition(pa.table(columns).select(schema.names), dataset, "impressions", {"ds": str(ds)})
    audit = Audit(table_name="impressions", ds=str(ds), status="published", rows_in=rows, rows_published=rows)
    write_rows(dataset, [audit])


def _factors(stream: int, ids_N: np.ndarray) -> np.ndarray:
    """[N, RANK], a function of the id: the same on every day."""
    world = np.random.default_rng([7, stream]).normal(size=(int(ids_N.max()) + 1, RANK))
    return world[ids_N] / np.sqrt(RANK)


def _texts(kind: str, ids_N: np.ndarray) -> pa.Array:
    return pa.array(np.char.add(f"{kind}-", ids_N.astype(str)))
