"""A small random log in canonical form, with everything that makes encoding hard: ties in time, nulls, NaN, repeats.

`publish_day` writes a day as ingest would leave it (impressions and their audit), with the pipeline's own writer.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from lake.arrow_writer import overwrite_partition
from lake.provenance import made_of
from lake.rows import write_rows
from schemas.dataset_spec import DatasetSpec
from schemas.table_spec import FINGERPRINT
from schemas.tables import get_table
from schemas.tables.audits import Audit

START = date(2026, 3, 1)
NUM_USERS, NUM_ITEMS = 25, 18
Rows = list[dict[str, Any]]


def random_dataset(**changes: object) -> DatasetSpec:
    """Every kind of field, a chain of vocabularies of one day each; `changes` replaces top-level blocks."""
    raw: dict[str, object] = {
        "name": "random_log",
        "source": {"adapter": "generated"},
        "columns": {"event_time": {"column": "t"}, "user": "u", "item": "i", "label": {"column": "y"}},
        "scenario": {"column": "s", "values": ["home", "feed", "ads"]},
        "fields": [
            {"name": "user", "source": "u"},
            {"name": "item", "source": "i"},
            {"name": "city", "source": "c", "min_count": 4},
            {"name": "tags", "source": "g", "kind": "multi_valued", "max_values": 2},
            {"name": "price", "source": "p", "kind": "numeric", "binning": {"quantiles": 4}},
            {"name": "hour", "source": "h", "kind": "numeric", "binning": {"edges": [6, 12, 18]}},
        ],
        "sequence": {"attributes": ["city"], "max_length": 3, "lookback_days": 2},
        "statistics": {"lookback_days": 2},
        "vocabulary": {"fit_days": 2, "refresh_days": 1},
        "days": {"start": str(START)},
    }
    return DatasetSpec.model_validate(raw | changes)


def random_day(ds: date, *, rows: int = 150, seed: int = 0) -> Rows:
    """Impressions of one day: a function of its arguments. Each day brings users, items and tags of its own."""
    rng = np.random.default_rng([seed, ds.toordinal()])
    age = (ds - START).days
    midnight = datetime(ds.year, ds.month, ds.day, tzinfo=UTC)
    result: Rows = []
    for n in range(rows):
        hour = int(rng.integers(0, 24))
        user, item = f"u{int(rng.integers(age, NUM_USERS + age))}", f"i{int(rng.integers(age, NUM_ITEMS + age))}"
        city = ["Łódź", "oslo", "Rome", "lima"][int(rng.integers(0, 4))] + str(age - n % 2)
        tags = [f"t{int(t)}" for t in rng.integers(age, 6 + age, int(rng.integers(0, 5)))]
        result.append({
            "ds": str(ds),
            "instance_id": int(rng.integers(-(2**62), 2**62)) // rows * rows + n,
            "event_ts": midnight + timedelta(hours=hour, minutes=30 * int(rng.integers(0, 2))),  # many ties
            "scenario_id": int(rng.choice(3, p=[0.7, 0.2, 0.1])),
            "user_id": user,
            "item_id": item,
            "label": int(rng.random() < 0.4 and not user.endswith("7")),  # some users have no behaviours
            "value": None if rng.random() < 0.3 else float(rng.random()),
            "x_user": user,
            "x_item": item,
            "x_city": None if rng.random() < 0.2 else city,
            "x_tags": None if rng.random() < 0.1 else tags,
            "x_price": [None, float("nan")][n % 2] if rng.random() < 0.2 else float(rng.integers(0, 9)),
            "x_hour": float(hour),
        })  # fmt: skip
    return result


def to_arrow(rows: Rows, dataset: DatasetSpec) -> pa.Table:
    """The rows as a frame of `impressions`."""
    if not rows:
        return get_table("impressions").for_dataset(dataset).arrow_schema().empty_table()
    made = made_of(dataset, "impressions", date.fromisoformat(rows[0]["ds"])).fingerprint
    return pa.Table.from_pylist(
        [{**row, FINGERPRINT.name: made} for row in rows], get_table("impressions").for_dataset(dataset).arrow_schema()
    )


def publish_day(rows: Rows, dataset: DatasetSpec, ds: date) -> None:
    """Write the day's impressions and the audit that publishes them."""
    overwrite_partition(to_arrow(rows, dataset), dataset, "impressions", {"ds": str(ds)})
    audit = Audit(
        table_name="impressions",
        ds=str(ds),
        status="published",
        rows_in=len(rows),
        rows_published=len(rows),
    )
    write_rows(dataset, [audit])


def publish_days(dataset: DatasetSpec, days: Sequence[date]) -> dict[date, Rows]:
    """Write random days; returns their rows."""
    log = {ds: random_day(ds) for ds in days}
    for ds, rows in log.items():
        publish_day(rows, dataset, ds)
    return log
