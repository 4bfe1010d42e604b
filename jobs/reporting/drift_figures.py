"""The report's section on drift: each scored day's scores and share rate against the set's own window."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.reporting import svg
from jobs.reporting.collect import ReportData
from jobs.reporting.html import MISSING, figure, folded, note, number, percent, table, warning
from msr_models.sets.drift import DayDrift, PartDrift, part_name

HEIGHT = 130
Line = tuple[str, Sequence[float | None]]


def drift_section(data: ReportData) -> str:
    """Flagged days first, then the figures of all days that were compared."""
    title = "<h3>Drift since the search</h3>"
    if not data.drift:
        return title + note("No day after the set's window has been scored yet, so none was compared with it.")
    limits = data.dataset.search
    words = (
        f"Each day that was scored later, against the set's own window. A day is flagged where the score's population "
        f"stability index passes {limits.drift_psi_limit:g} or the share rate moves by more than "
        f"{percent(limits.drift_share_limit)}, in all rows or in one scenario, and chance does not explain it. "
        "A new search is then due."
    )
    return "".join(
        [
            title,
            note(words),
            *(warning(line) for line in flag_lines(data)),
            figure(_picture(data), ""),
            folded("Numbers of all days", _table(data)),
        ]
    )


def flag_lines(data: ReportData) -> list[str]:
    """A line for each flagged day."""
    return [
        f"{day.ds} drifted: {', '.join(_words(data, part) for part in day.drifted)}"
        for day in data.drift
        if day.drifted
    ]


def _words(data: ReportData, part: PartDrift) -> str:
    rates = f"shared {percent(part.window_share_rate)} -> {percent(part.share_rate)}"
    return f"{part_name(data.dataset, part.scenario_id)} (index {number(part.psi, 3)}, {rates})"


def _picture(data: ReportData) -> str:
    """Two panels over the days: the index of all rows and of the worst scenario, the share rate beside the window's."""
    limits, days = data.dataset.search, data.drift
    worst = [day.worst for day in days]
    left: list[Line] = [
        ("all rows", [day.whole.psi for day in days]),
        ("worst scenario", [part.psi if part else None for part in worst]),
    ]
    right: list[Line] = [
        ("share rate of the day", [day.whole.share_rate for day in days]),
        ("of the window", [day.whole.window_share_rate for day in days]),
    ]
    tallest = max([v for _, values in left for v in values if v is not None] + [limits.drift_psi_limit])
    panels = svg.grid(2, HEIGHT, (-0.5, len(days) - 0.5), (0.0, tallest * 1.15 or 1.0))
    rates = [v for _, values in right for v in values if v is not None]
    panels[1].y_range = (0.0, min(1.0, max([*rates, 0.05]) * 1.3))
    panels[0].y_axis(svg.decimals(2), count=3)
    panels[1].y_axis(svg.percent, count=3)
    for panel, name, lines, first in ((panels[0], "Index", left, 0), (panels[1], "Share rate", right, 2)):
        panel.title(name)
        _days_axis(panel, days)
        for n, (_, values) in enumerate(lines):
            _draw(panel, days, values, first + n)
    limit = panels[0].y(limits.drift_psi_limit)
    panels[0].add(svg.line(panels[0].left, limit, panels[0].left + panels[0].width, limit, "cut"))
    words = "; ".join(
        f"{day.ds}: index {number(day.whole.psi, 3)}, shared {percent(day.whole.share_rate)}"
        f"{', drifted' if day.drifted else ''}"
        for day in days
    )
    names = [name for name, _ in (*left, *right)]
    keys = {name: svg.marker(7, 7, n) for n, name in enumerate(names)} | {"limit": svg.line(0, 7, 14, 7, "cut")}
    height, title = svg.grid_height(panels), "Drift of the shared score by day"
    picture = svg.figure(panels, width=svg.WIDTH, height=height, title=title, description=words)
    return svg.key_list(keys) + picture


def _days_axis(panel: svg.Panel, days: Sequence[DayDrift]) -> None:
    step = -(-len(days) // 6)
    panel.x_axis(lambda n: days[round(n)].ds[5:], list(range(0, len(days), step)), grid=False)


def _draw(panel: svg.Panel, days: Sequence[DayDrift], values: Sequence[float | None], series: int) -> None:
    points = [(panel.x(n), panel.y(value), value, days[n].ds) for n, value in enumerate(values) if value is not None]
    panel.add(svg.polyline([(x, y) for x, y, _, _ in points], f"curve s{series}"))
    panel.add(*(svg.marker(x, y, series, f"{ds}: {value:.3f}") for x, y, value, ds in points))


def _table(data: ReportData) -> str:
    rows = []
    for day in data.drift:
        worst, flagged = day.worst, ", ".join(part_name(data.dataset, part.scenario_id) for part in day.drifted)
        most = f"{part_name(data.dataset, worst.scenario_id)} {number(worst.psi, 3)}" if worst else MISSING
        rows.append(
            [day.ds, f"{day.whole.rows:,}", percent(day.whole.share_rate), percent(day.whole.window_share_rate),
             number(day.whole.psi, 3), most, flagged or MISSING]
        )  # fmt: skip
    head = ["day", "rows", "shared", "of the window", "index", "worst scenario", "drifted"]
    return table(head, rows, caption="Days against the set's window", words=[5, 6])
