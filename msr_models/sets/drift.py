"""Drift of scored days from a set's own window (`shared_instance_drift`), classified by the YAML's current limits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from lake.rows import read_rows
from msr_models.evaluation.score_shift import is_past_limits
from schemas.dataset_spec import DatasetSpec
from schemas.tables.shared_instance_drift import Drift

ALL_ROWS = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class DayDrift:
    """A day outside the set's window. parts: all rows first, then the scenarios."""

    ds: str
    parts: Sequence[Drift]

    @property
    def whole(self) -> Drift:
        """All rows of the day."""
        return self.parts[0]

    @property
    def drifted(self) -> list[Drift]:
        """The parts beyond a limit; one is enough to flag the day."""
        return [part for part in self.parts if part.is_drifted]

    @property
    def worst(self) -> Drift | None:
        """The scenario with the greatest PSI; None where none could be compared."""
        known = [part for part in self.parts if part.scenario_id != ALL_ROWS and part.psi is not None]
        return max(known, key=lambda part: part.psi or 0.0, default=None)


def read_drift(dataset: DatasetSpec, shared_set_id: str, days: Sequence[date] = ()) -> list[DayDrift]:
    """The days compared with the set's window, ascending; only those of `days` where any are given."""
    by_day: dict[str, list[Drift]] = defaultdict(list)
    rows = read_drift_rows(dataset, days or None, shared_set_id)
    for row in sorted(rows, key=lambda row: (row.ds, row.scenario_id)):
        by_day[row.ds].append(row)
    return [DayDrift(ds=ds, parts=parts) for ds, parts in by_day.items()]


def drift_flags(dataset: DatasetSpec, days: Sequence[date] | None = None) -> dict[tuple[str, date], bool]:
    """(set id, day) -> whether any part of the day is beyond a limit; no entry for a day that was not compared.

    days: None for all.
    """
    flags: dict[tuple[str, date], bool] = {}
    for row in read_drift_rows(dataset, days):
        key = (row.shared_set_id, date.fromisoformat(row.ds))
        flags[key] = flags.get(key, False) or row.is_drifted
    return flags


def read_drift_rows(
    dataset: DatasetSpec, days: Sequence[date] | None = None, shared_set_id: str | None = None
) -> list[Drift]:
    """Rows of these days (None: all) and this set (None: all).

    `is_drifted` follows the YAML's current search.drift_* limits, so that raising a limit withdraws false alarms.
    """
    filters = {"shared_set_id": shared_set_id} if shared_set_id else None
    rows = read_rows(dataset, Drift, days=days, filters=filters)
    return [replace(row, is_drifted=_is_drifted(dataset, row)) for row in rows]


def _is_drifted(dataset: DatasetSpec, row: Drift) -> bool:
    if row.psi is None or row.window_share_rate is None or row.share_rate is None:
        return row.is_drifted
    return is_past_limits(
        psi=row.psi,
        rows=(row.window_rows, row.rows),
        share_rates=(row.window_share_rate, row.share_rate),
        psi_limit=dataset.search.drift_psi_limit,
        share_limit=dataset.search.drift_share_limit,
    )


def part_name(dataset: DatasetSpec, scenario_id: int, *, is_own: bool = True) -> str:
    """A scenario's name, or `all rows`.

    is_own: whether the set belongs to the data set's lineage; scenarios of other lineages have no names in the YAML.
    """
    if scenario_id == ALL_ROWS:
        return "all rows"
    return dataset.scenario.names[scenario_id] if is_own else f"scenario {scenario_id}"
