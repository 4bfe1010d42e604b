"""Drift of scored days from the set's own window: the figure, and a line for each flagged day."""

from __future__ import annotations

from jobs.plotting import svg
from jobs.plotting.svg import Figure
from jobs.reporting.collect import ReportData
from jobs.reporting.formats import number, percent
from msr_models.sets.drift import part_name


def flag_lines(data: ReportData) -> list[str]:
    """A line for each day with drift."""
    return [
        f"{day.ds} drifted: "
        + ", ".join(
            f"{part_name(data.dataset, part.scenario_id)} "
            f"(PSI {number(part.psi, 3)}, shared {percent(part.window_share_rate)} -> {percent(part.share_rate)})"
            for part in day.drifted
        )
        for day in data.drift
        if day.drifted
    ]


def drift_by_day(data: ReportData) -> Figure:
    """Two panels over the days: PSI of all rows and of the worst scenario, share rate beside the window's."""
    limit, days = data.dataset.search.drift_psi_limit, data.drift
    lines = [
        ("PSI, all rows", [day.whole.psi for day in days]),
        ("PSI, worst scenario", [day.worst.psi if day.worst else None for day in days]),
        ("share rate of the day", [day.whole.share_rate for day in days]),
        ("share rate of the window", [day.whole.window_share_rate for day in days]),
    ]
    panels = svg.grid(2, 130, (-0.5, len(days) - 0.5), (0.0, 1.0))
    for panel, title, own, least in ((panels[0], "PSI", lines[:2], limit), (panels[1], "Share rate", lines[2:], 0.05)):
        panel.y_range = (0.0, max([least, *(v for _, values in own for v in values if v is not None)]) * 1.2 or 1.0)
        panel.title(title)
        panel.days_axis([day.ds for day in days])
    panels[0].y_axis(svg.decimals(2), count=3)
    panels[1].y_axis(svg.percent)
    for series, (name, values) in enumerate(lines):
        points = [(n, value) for n, value in enumerate(values) if value is not None]
        panels[series // 2].curve(points, series, [f"{days[n].ds}, {name}: {value:.3f}" for n, value in points])
    panels[0].line((-0.5, limit), (len(days) - 0.5, limit), "cut")
    return Figure(
        panels=panels, title="Drift of the shared score by day",
        description="; ".join(
            f"{day.ds}: PSI {number(day.whole.psi, 3)}, shared {percent(day.whole.share_rate)}"
            f"{', drifted' if day.drifted else ''}"
            for day in days
        ),
        legend={**svg.marker_keys([name for name, _ in lines]), "PSI limit": svg.line_key("cut")},
    )  # fmt: skip
