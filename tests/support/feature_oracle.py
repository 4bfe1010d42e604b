"""Vocabularies, sequences, statistics and features once more: slow, plain Python, sharing no code with the pipeline."""

from __future__ import annotations

import math
from collections import Counter
from datetime import date, datetime, timedelta
from typing import Any

from lake.hash64 import hash64
from schemas.dataset_spec import DatasetSpec
from schemas.field_spec import FieldSpec
from tests.support.random_log import Rows

Log = dict[date, Rows]
Vocabulary = dict[str, dict[str, int]]


def vocabulary(dataset: DatasetSpec, log: Log, ds: date) -> tuple[Vocabulary, dict[str, list[float]]]:
    """(field -> value -> id, numeric field -> inner edges) of the version that starts on `ds` (refresh_days = 1)."""
    first = dataset.days.start + timedelta(days=dataset.vocabulary.fit_days)
    ids: Vocabulary = {f.name: {} for f in dataset.fields if f.kind != "numeric"}
    last = dict.fromkeys(ids, 0)
    day = first
    while day <= ds:
        fit = [row for n in range(1, dataset.vocabulary.fit_days + 1) for row in log[day - timedelta(days=n)]]
        for field in dataset.fields:
            if field.kind != "numeric" and field.hash_buckets is None:
                if field.evict_after_days is not None:
                    recent = [day - timedelta(days=n) for n in range(1, field.evict_after_days + 1)]
                    _evict(ids[field.name], field, [row for d in recent for row in log.get(d, [])])
                last[field.name] = _append(ids[field.name], last[field.name], field, fit)
        day += timedelta(days=1)
    fit = [row for n in range(1, dataset.vocabulary.fit_days + 1) for row in log[first - timedelta(days=n)]]
    return ids, {f.name: _edges(f, fit) for f in dataset.fields if f.kind == "numeric"}


def _evict(ids: dict[str, int], field: FieldSpec, rows: Rows) -> None:
    seen: set[str] = set()
    for row in rows:
        raw = row[f"x_{field.name}"]
        seen |= set(raw or []) if field.kind == "multi_valued" else {raw}
    for value in set(ids) - seen:
        del ids[value]


def _append(ids: dict[str, int], last: int, field: FieldSpec, rows: Rows) -> int:
    """Returns the last id that was given."""
    counts: Counter[str] = Counter()
    for row in rows:
        raw = row[f"x_{field.name}"]
        for value in set(raw or []) if field.kind == "multi_valued" else [raw]:
            if value is not None:
                counts[value] += 1
    for value, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0].encode())):
        has_place = field.max_ids is None or len(ids) < field.max_ids
        if value not in ids and count >= field.min_count and has_place:
            ids[value] = last = last + 1
    return last


def _edges(field: FieldSpec, rows: Rows) -> list[float]:
    assert field.binning is not None
    if field.binning.edges is not None:
        return list(field.binning.edges)
    raw = [row[f"x_{field.name}"] for row in rows]
    numbers = sorted(x for x in raw if x is not None and math.isfinite(x))
    edges = set()
    for n in range(1, field.binning.quantiles or 0):
        position = (len(numbers) - 1) * n / (field.binning.quantiles or 1)
        low, high = numbers[math.floor(position)], numbers[math.ceil(position)]
        edges.add(low + (high - low) * (position - math.floor(position)))
    return sorted(edges)


def sequences(dataset: DatasetSpec, log: Log, ds: date) -> dict[str, Rows]:
    """User of the day -> the impressions that are its stored behaviours, oldest first."""
    ids, _ = vocabulary(dataset, log, ds)
    days = [ds - timedelta(days=n) for n in range(dataset.sequence.lookback_days, -1, -1)]
    rows = [row for day in days if day >= dataset.days.start for row in log[day]]
    result: dict[str, Rows] = {}
    for user in {row["user_id"] for row in log[ds]}:
        first = min(row["event_ts"] for row in log[ds] if row["user_id"] == user)
        mine = [r for r in rows if r["user_id"] == user and (r["label"] == 1 or dataset.sequence.behaviour == "all")]
        mine.sort(key=lambda row: (row["event_ts"], row["instance_id"]))
        before = [row for row in mine if row["event_ts"] < first]
        kept = before[-dataset.sequence.max_length :] + mine[len(before) :]
        result[user] = [
            {
                "ts": _micros(row["event_ts"]),
                "item": _encode(next(f for f in dataset.fields if f.name == "item"), row["x_item"], ids, {}),
                "scenario": row["scenario_id"],
                **{name: ids[name].get(row[f"x_{name}"], 0) for name in dataset.sequence.attributes},
            }
            for row in kept
        ]
    return result


def features(dataset: DatasetSpec, log: Log, ds: date) -> dict[int, dict[str, Any]]:
    """instance_id -> encoded columns and hist_end."""
    ids, edges = vocabulary(dataset, log, ds)
    histories = sequences(dataset, log, ds)
    return {
        row["instance_id"]: {
            **{f"f_{f.name}": _encode(f, row[f"x_{f.name}"], ids, edges) for f in dataset.fields},
            **_statistics(dataset, log, ds, row),
            "hist_end": sum(b["ts"] < _micros(row["event_ts"]) for b in histories[row["user_id"]]),
        }
        for row in log[ds]
    }


def _encode(field: FieldSpec, raw: Any, ids: Vocabulary, edges: dict[str, list[float]]) -> int | list[int]:
    if field.kind == "numeric":
        return 0 if raw is None or math.isnan(raw) else 1 + sum(raw >= edge for edge in edges[field.name])
    if field.hash_buckets is not None:
        found = [1 + hash64(value) % field.hash_buckets for value in ([raw] if isinstance(raw, str) else raw or [])]
        return list(dict.fromkeys(found))[: field.max_values] if field.kind == "multi_valued" else (found or [0])[0]
    if field.kind == "categorical":
        return ids[field.name].get(raw, 0)
    known = [ids[field.name][value] for value in dict.fromkeys(raw or []) if value in ids[field.name]]
    return known[: field.max_values]


def _statistics(dataset: DatasetSpec, log: Log, ds: date, row: dict[str, Any]) -> dict[str, int]:
    assert dataset.statistics is not None
    days = [ds - timedelta(days=n) for n in range(1, dataset.statistics.lookback_days + 1)]
    past = [r for day in days if day >= dataset.days.start for r in log[day] if r["scenario_id"] == row["scenario_id"]]
    result: dict[str, int] = {}
    for entity in dataset.statistics.of:
        own = [r["label"] for r in past if r[f"{entity}_id"] == row[f"{entity}_id"]]
        impressions, ctr = 0, 0
        if own:
            prior = min(max(sum(r["label"] for r in past) / len(past), 1e-4), 1 - 1e-4)
            p = (sum(own) + 10 * prior) / (len(own) + 10)
            impressions = min(17, 1 + math.floor(math.log2(len(own))))
            ctr = 1 + min(max(math.floor(2 * math.log(p / (1 - p)) + 0.5) + 8, 0), 16)
        result |= {f"f_{entity}_scenario_impressions": impressions, f"f_{entity}_scenario_ctr": ctr}
    return result


def _micros(ts: datetime) -> int:
    return round(ts.timestamp() * 1_000_000)
