"""Figures of row counts: published rows per day and scenario, quarantined rows per day and reason."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.plotting import svg
from jobs.plotting.svg import COLOURS, Figure, Panel
from jobs.reporting.collect import ReportData, counts

OTHER = "other"


def rows_published(data: ReportData) -> Figure:
    """Published rows per day, stacked by scenario."""
    parts = [counts(a.rows_per_scenario) if a.status == "published" else {} for a in data.audits]
    names = [n for n in data.scenario_names if any(n in day for day in parts)]
    words = "; ".join(f"{a.ds}: {a.rows_published}" for a in data.audits)
    figure = _stacked_bars(data, parts, names, 170, "Rows published per day and scenario", words)
    (panel,) = figure.panels
    for n, audit in enumerate(data.audits):
        if audit.status != "published":
            panel.add(svg.text(panel.x(n), panel.y(0) - 6, "failed", anchor="middle", css="missing"))
    return figure


def rows_quarantined(data: ReportData) -> Figure | None:
    """Quarantined rows per day, stacked by reason; None where no row was quarantined."""
    parts = [counts(a.quarantine_reasons) for a in data.audits]
    names = sorted({reason for day in parts for reason in day})
    words = "; ".join(f"{a.ds}: {a.rows_quarantined}" for a in data.audits)
    return _stacked_bars(data, parts, names, 100, "Rows quarantined per day and reason", words) if names else None


def _stacked_bars(
    data: ReportData, parts: Sequence[dict[str, int]], all_names: Sequence[str], height: float, title: str, words: str
) -> Figure:
    """One bar per day, its parts from the bottom up in the order of the names."""
    days, names = [a.ds for a in data.audits], _largest(parts, all_names)
    tallest = max((sum(day.values()) for day in parts), default=0) or 1
    panel = Panel(
        left=60, top=14, width=svg.WIDTH - 80, height=height,
        x_range=(-0.6, len(days) - 0.4), y_range=(0, tallest * 1.05),
    )  # fmt: skip
    panel.y_axis(svg.thousands, count=3)
    panel.days_axis(days, at_most=12)
    width = panel.width / (len(days) + 0.2) * 0.7
    for n, day in enumerate(parts):
        base = 0
        for series, name in enumerate(names):
            rows = sum(v for k, v in day.items() if k not in names) if name == OTHER else day.get(name, 0)
            if rows:
                top, bottom = panel.y(base + rows), panel.y(base)
                tip = f"{days[n]}, {name}: {rows}"
                panel.add(svg.rectangle(panel.x(n) - width / 2, top, width, bottom - top, f"fill s{series}", tip))
            base += rows
    legend = {name: svg.box_key(series) for series, name in enumerate(names)}
    return Figure(panels=[panel], title=title, description=words, legend=legend)


def _largest(parts: Sequence[dict[str, int]], names: Sequence[str]) -> list[str]:
    """`names`, or the largest of them and OTHER where there are more than colours."""
    if len(names) <= COLOURS:
        return list(names)
    totals = {name: sum(day.get(name, 0) for day in parts) for name in names}
    kept = sorted(totals, key=lambda name: -totals[name])[: COLOURS - 1]
    return [*(name for name in names if name in kept), OTHER]
