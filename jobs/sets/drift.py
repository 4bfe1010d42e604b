"""Days compared with a set's window, as shared_instance_drift records them. Needs no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from msr_models.data.drift_rows import read_drift_rows
from schemas.dataset_spec import DatasetSpec

ALL_ROWS = -1


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
