"""Figures of the data's accounts: rows per day and scenario, refused rows per day and reason."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.reporting import svg
from jobs.reporting.collect import DayAccount, ReportData
from jobs.reporting.svg import Panel

SERIES = 6  # colours that a stack can show; further parts are put together
REST = "other"


def rows_per_day(data: ReportData) -> str | None:
    """Published rows per day, stacked by scenario; refused rows per day on a scale of their own, stacked by reason."""
    if not data.accounts:
        return None
    published = [a.per_scenario if a.status == "published" else {} for a in data.accounts]
    refused = [a.reasons for a in data.accounts]
    names = _largest(published, [n for n in data.scenario_names if any(n in p for p in published)])
    reasons = _largest(refused, sorted({r for day in refused for r in day}))
    upper = _stack(data.accounts, published, names, top=28, height=170, title="rows published", dates=not reasons)
    panels = [upper]
    legends = svg.key_list({n: svg.rectangle(1, 1, 12, 12, f"fill s{k}") for k, n in enumerate(names)})
    for n, account in enumerate(data.accounts):
        if account.status != "published":
            upper.add(svg.text(upper.x(n), upper.y(0) - 6, "failed", anchor="middle", css="missing"))
    if reasons:
        panels.append(_stack(data.accounts, refused, reasons, top=240, height=90, title="rows quarantined", dates=True))
    words = "; ".join(f"{a.ds}: {a.rows_published} published, {a.rows_quarantined} quarantined" for a in data.accounts)
    height, title = svg.grid_height(panels) + 4, "Rows per day: published and quarantined"
    picture = svg.figure(panels, width=svg.WIDTH, height=height, title=title, description=words)
    below = {n: svg.rectangle(1, 1, 12, 12, f"fill s{k}") for k, n in enumerate(reasons)}
    return legends + picture + (f"<p class=note>Reasons of quarantine:</p>{svg.key_list(below)}" if reasons else "")


def _stack(
    accounts: Sequence[DayAccount],
    parts: Sequence[dict[str, int]],
    names: Sequence[str],
    *,
    top: float,
    height: float,
    title: str,
    dates: bool,
) -> Panel:
    """One bar per day, its parts from the bottom up in the order of `names`."""
    tallest = max([sum(p.values()) for p in parts] or [0]) or 1
    panel = Panel(
        left=60, top=top, width=svg.WIDTH - 80, height=height,
        x_range=(-0.6, len(accounts) - 0.4), y_range=(0, tallest * 1.05),
    )  # fmt: skip
    panel.title(title)
    panel.y_axis(svg.thousands, count=3)
    step = -(-len(accounts) // 12)
    shown = [float(n) for n in range(0, len(accounts), step)] if dates else []
    panel.x_axis(lambda n: accounts[round(n)].ds[5:], shown, grid=False)
    width = panel.width / (len(accounts) + 0.2) * 0.7
    for n, day in enumerate(parts):
        base = 0
        for series, name in enumerate(names):
            count = sum(v for k, v in day.items() if k not in names) if name == REST else day.get(name, 0)
            if count:
                box_top, box_height = panel.y(base + count), panel.y(base) - panel.y(base + count)
                tip = f"{accounts[n].ds}, {name}: {count}"
                panel.add(svg.rectangle(panel.x(n) - width / 2, box_top, width, box_height, f"fill s{series}", tip))
            base += count
    return panel


def _largest(parts: Sequence[dict[str, int]], names: Sequence[str]) -> list[str]:
    """`names`, or the largest of them and `other` where there are more than colours."""
    if len(names) <= SERIES:
        return list(names)
    totals = {name: sum(day.get(name, 0) for day in parts) for name in names}
    kept = set(sorted(totals, key=lambda name: -totals[name])[: SERIES - 1])
    return [*(name for name in names if name in kept), REST]
