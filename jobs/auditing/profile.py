"""Figures of a day's impressions and how they compare with earlier days: pure, no engine.

The figures are a function of the day and stored in `audits.profile`. The comparison depends on the days that are
published when it is made, so it is not stored: ingest logs it and the report repeats it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from statistics import median

from schemas.audit_spec import AuditSpec
from schemas.tables.audits import Audit

_CHANCE = 4.0  # standard errors: a share that moved by less may have done so by chance


@dataclass(frozen=True, kw_only=True, slots=True)
class DayProfile:
    """rows; mean of the labels; per column the share of nulls and the approximate number of distinct values; the log's
    own columns (empty: not recorded).
    """

    rows: int
    label_mean: float
    null_share: dict[str, float]
    distinct: dict[str, int]
    columns: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """As stored in `audits.profile`."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> DayProfile:
        """The inverse of `to_json`."""
        return DayProfile(**json.loads(text))


def warnings_of_day(audits: Iterable[Audit], ds: date, spec: AuditSpec) -> list[str]:
    """Where `ds` differs from the published days among the `compare_days` before it, a line each.

    audits: of impressions, any days; without `ds` itself, or without an earlier day, nothing is compared.
    """
    before = {str(ds - timedelta(days=n)) for n in range(1, spec.compare_days + 1)}
    profiles: dict[str, DayProfile] = {}
    for audit in audits:
        if audit.status == "published" and audit.rows_published and audit.profile:
            profiles[audit.ds] = DayProfile.from_json(audit.profile)
    day = profiles.get(str(ds))
    earlier = [profiles[name] for name in sorted(before & profiles.keys())]
    return compare(day, earlier, spec) if day and earlier else []


def compare(day: DayProfile, earlier: Sequence[DayProfile], spec: AuditSpec) -> list[str]:
    """Where a day's figures differ from the medians of earlier days by more than the limits."""
    days = f"the median of {len(earlier)} earlier days" if len(earlier) > 1 else "the one earlier day"
    lines = [_rows(day, earlier, spec), _label_mean(day, earlier, spec)]
    lines += [_null_share(name, day, earlier, spec) for name in sorted(day.null_share)]
    lines += [_distinct(name, day, earlier, spec) for name in sorted(day.distinct)]
    return [f"{line} ({days})" for line in lines if line] + _columns(day, earlier)


def _columns(day: DayProfile, earlier: Sequence[DayProfile]) -> list[str]:
    """Columns that no earlier day had, and those that every one had: JSON names only those with a value that day."""
    known = [set(p.columns) for p in earlier if p.columns]
    if not known or not day.columns:
        return []
    new = sorted(set(day.columns).difference(*known))
    gone = sorted(set.intersection(*known).difference(day.columns))
    days = f"all {len(known)} earlier days" if len(known) > 1 else "the one earlier day"
    lines = [f"the log has columns {new} that no earlier day had"] if new else []
    return [*lines, f"the log lacks columns {gone} that {days} had"] if gone else lines


def _rows(day: DayProfile, earlier: Sequence[DayProfile], spec: AuditSpec) -> str | None:
    usual = median(p.rows for p in earlier)
    if spec.min_rows_ratio * usual <= day.rows <= spec.max_rows_ratio * usual:
        return None
    return f"{day.rows:,} rows are {day.rows / usual:.2g} times {usual:,.0f}"


def _label_mean(day: DayProfile, earlier: Sequence[DayProfile], spec: AuditSpec) -> str | None:
    usual = median(p.label_mean for p in earlier)
    change = abs(day.label_mean - usual)
    if change <= spec.max_label_mean_change * usual or _is_chance(change, usual, [day, *earlier]):
        return None
    return f"the label's mean is {day.label_mean:.4f}, not about {usual:.4f}"


def _null_share(name: str, day: DayProfile, earlier: Sequence[DayProfile], spec: AuditSpec) -> str | None:
    known = [p.null_share[name] for p in earlier if name in p.null_share]
    usual = median(known) if known else 1.0
    change = abs(day.null_share[name] - usual)
    # A column that begins to have values is no loss
    if usual == 1.0 or change <= spec.max_null_share_change or _is_chance(change, usual, [day, *earlier]):
        return None
    return f"{name}: {day.null_share[name]:.1%} of the rows have no value, not about {usual:.1%}"


def _distinct(name: str, day: DayProfile, earlier: Sequence[DayProfile], spec: AuditSpec) -> str | None:
    known = [p.distinct[name] for p in earlier if p.distinct.get(name)]
    usual = median(known) if known else 0
    if not usual or usual / spec.max_distinct_ratio <= day.distinct[name] <= usual * spec.max_distinct_ratio:
        return None
    return f"{name}: about {day.distinct[name]:,} distinct values, not about {usual:,.0f}"


def _is_chance(change: float, share: float, days: Sequence[DayProfile]) -> bool:
    """Whether a share of rows may differ by `change` between the smallest of the days and the others by chance."""
    rows = min(p.rows for p in days)
    variance = max(share * (1 - share), 1 / rows)
    return change <= _CHANCE * math.sqrt(variance / rows)
