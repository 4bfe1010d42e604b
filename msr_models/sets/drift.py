"""Drift of scored days from a shared set's own window, classified by the limits that the YAML has now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from lake import reader as lake_reader
from msr_models.evaluation.score_shift import is_past_limits
from schemas.dataset_spec import DatasetSpec

ALL_ROWS = -1
TABLE = "shared_instance_drift"
_COLUMNS = ["shared_set_id", "ds", "scenario_id", "rows", "share_rate", "window_share_rate", "psi", "is_drifted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PartDrift:
    """One scenario (-1: all rows) of a day against the same part of the window; None where a side has no rows."""

    scenario_id: int
    rows: int
    share_rate: float | None
    window_share_rate: float | None
    psi: float | None
    is_drifted: bool

    @property
    def share_change(self) -> float | None:
        """Share rate of the day minus that of the window."""
        if self.share_rate is None or self.window_share_rate is None:
            return None
        return self.share_rate - self.window_share_rate


@dataclass(frozen=True, kw_only=True, slots=True)
class DayDrift:
    """A day outside the set's window. parts: all rows first, then the scenarios."""

    ds: str
    parts: Sequence[PartDrift]

    @property
    def whole(self) -> PartDrift:
        """All rows of the day."""
        return self.parts[0]

    @property
    def drifted(self) -> list[PartDrift]:
        """The parts past a limit; the day is flagged where there is one."""
        return [part for part in self.parts if part.is_drifted]

    @property
    def worst(self) -> PartDrift | None:
        """The scenario with the greatest index; None where none could be compared."""
        known = [part for part in self.parts if part.scenario_id != ALL_ROWS and part.psi is not None]
        return max(known, key=lambda part: part.psi or 0.0, default=None)


def read_drift(dataset: DatasetSpec, shared_set_id: str, days: Sequence[date] = ()) -> list[DayDrift]:
    """The days (those of `days` where any are given) that were compared with the set's window, ascending.

    is_drifted is what the limits of the YAML say now.
    """
    rows = read_drift_rows(dataset, days or None, shared_set_id)
    by_day: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["ds"], row["scenario_id"])):
        by_day[row["ds"]].append({name: row[name] for name in PartDrift.__dataclass_fields__})
    return [DayDrift(ds=ds, parts=[PartDrift(**part) for part in parts]) for ds, parts in by_day.items()]


def part_name(dataset: DatasetSpec, scenario_id: int, *, is_own: bool = True) -> str:
    """A scenario's name, or `all rows`. is_own: whether the set is of the data set's lineage; the YAML does not name
    the scenarios of another one.
    """
    if scenario_id == ALL_ROWS:
        return "all rows"
    return dataset.scenario.names[scenario_id] if is_own else f"scenario {scenario_id}"


def read_drift_rows(
    dataset: DatasetSpec, days: Sequence[date] | None = None, shared_set_id: str | None = None
) -> list[dict[str, Any]]:
    """Rows of these days (None: all) and this set (None: all), `is_drifted` by search.drift_* of the YAML now.

    So a limit that is raised takes false alarms back. A row that lacks the window's size keeps its flag.
    """
    if not lake_reader.table_exists(dataset, TABLE):
        return []
    source = lake_reader.open_dataset(dataset, TABLE, _COLUMNS)
    columns = [*_COLUMNS, *({"window_rows"} & set(source.schema.names))]
    filters = {"shared_set_id": shared_set_id} if shared_set_id else None
    rows = source.to_table(columns=columns, filter=lake_reader.condition(days, filters)).to_pylist()
    return [row | {"is_drifted": _is_drifted(dataset, row)} for row in rows]


def _is_drifted(dataset: DatasetSpec, row: dict[str, Any]) -> bool:
    if row["psi"] is None or row.get("window_rows") is None:
        return bool(row["is_drifted"])
    return is_past_limits(
        psi=row["psi"],
        rows=(row["window_rows"], row["rows"]),
        share_rates=(row["window_share_rate"], row["share_rate"]),
        psi_limit=dataset.search.drift_psi_limit,
        share_limit=dataset.search.drift_share_limit,
    )
