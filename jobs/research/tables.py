"""Tables of an experiment as Markdown and CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lake.files import write_text
from msr_models.experiments.comparison import ALL, LOGLOSS, MEAN, S_GAUC, Line
from schemas.text import markdown_table

SIGNIFICANT = 0.05


def write_csv(path: Path, records: Sequence[Any]) -> None:
    """Write dataclasses or mappings, one per line; None becomes empty."""
    rows = [dataclasses.asdict(r) if dataclasses.is_dataclass(r) and not isinstance(r, type) else r for r in records]
    sink = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(sink, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, sink.getvalue())


def overview(lines: Sequence[Line], extra: Mapping[str, Sequence[str]], extra_columns: Sequence[str]) -> str:
    """One row per group: metrics, the difference to its base with intervals and tests, and `extra` cells."""
    columns = ["", "mean AUC", "95 % (seeds)", "AUC all", "S-GAUC", "logloss"]
    columns += ["difference", "95 % (users)", "p users", "p DeLong", "p U", *extra_columns]
    by = {(line.group, line.metric): line for line in lines}
    rows = []
    for group in dict.fromkeys(line.group for line in lines):
        line = by[group, MEAN]
        rows.append(
            [
                group,
                number(line.mean),
                span(line.low, line.high),
                *(number(by[group, metric].mean) for metric in (ALL, S_GAUC, LOGLOSS)),
                number(line.difference, signed=True),
                span(line.users_low, line.users_high, signed=True),
                *(_chance(p) for p in (line.p_users, line.p_delong, line.p_mann_whitney)),
                *extra.get(group, [""] * len(extra_columns)),
            ]
        )
    return markdown_table(columns, rows)


def by_scenario(lines: Sequence[Line], scenarios: Sequence[str]) -> str:
    """AUC per scenario with the difference to the base; *: p < 0.05 in the bootstrap over users."""
    by = {(line.group, line.metric): line for line in lines}
    rows = []
    for group in dict.fromkeys(line.group for line in lines):
        cells = []
        for name in scenarios:
            line = by[group, name]
            star = "*" if line.p_users is not None and line.p_users < SIGNIFICANT else ""
            change = "" if line.difference is None else f" ({number(line.difference, signed=True)}{star})"
            cells.append(number(line.mean) + change)
        rows.append([group, *cells])
    return markdown_table(["AUC", *scenarios], rows)


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def number(value: float | None, digits: int = 4, *, signed: bool = False) -> str:
    """A number with this many digits; `-` for None."""
    if value is None:
        return "-"
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def span(low: float | None, high: float | None, *, signed: bool = False) -> str:
    return "-" if low is None or high is None else f"{number(low, signed=signed)} .. {number(high, signed=signed)}"


def _chance(p_value: float | None) -> str:
    return "< 0.001" if p_value is not None and p_value < 0.001 else number(p_value, 3)
