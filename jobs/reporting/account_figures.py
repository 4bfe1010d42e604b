"""Figures of the data's accounts: rows per day and scenario, refused rows per day and reason."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.reporting import svg
from jobs.reporting.collect import DayAccount, ReportData
from jobs.reporting.svg import Panel

SERIES = 6  # colours that a stack can show; further parts are put together
REST = "other"


def rows_published(data: ReportData) -> str | None:
    """Published rows per day, stacked by scenario."""
    if not data.accounts:
        return None
    parts = [a.per_scenario if a.status == "published" else {} for a in data.accounts]
    names = _largest(parts, [n for n in data.scenario_names if any(n in p for p in parts)])
    panel = _stack(data.accounts, parts, names, 170)
    for n, account in enumerate(data.accounts):
        if account.status != "published":
            panel.add(svg.text(panel.x(n), panel.y(0) - 6, "failed", anchor="middle", css="missing"))
    words = "; ".join(f"{a.ds}: {a.rows_published}" for a in data.accounts)
    return _keys(names) + _picture(panel, "Rows published per day and scenario", words)


def rows_quarantined(data: ReportData) -> str | None:
    """Refused rows per day, stacked by reason; None where no row was refused."""
    parts = [a.reasons for a in data.accounts]
    names = _largest(parts, sorted({reason for day in parts for reason in day}))
    if not names:
        return None
    words = "; ".join(f"{a.ds}: {a.rows_quarantined}" for a in data.accounts)
    panel = _stack(data.accounts, parts, names, 100)
    return _keys(names) + _picture(panel, "Rows quarantined per day and reason", words)


def _keys(names: Sequence[str]) -> str:
    return svg.key_list({name: svg.rectangle(1, 1, 12, 12, f"fill s{n}") for n, name in enumerate(names)})


def _picture(panel: Panel, title: str, words: str) -> str:
    return svg.figure([panel], width=svg.WIDTH, height=panel.height + 44, title=title, description=words)


def _stack(
    accounts: Sequence[DayAccount], parts: Sequence[dict[str, int]], names: Sequence[str], height: float
) -> Panel:
    """One bar per day, its parts from the bottom up in the order of `names`."""
    tallest = max([sum(p.values()) for p in parts] or [0]) or 1
    panel = Panel(
        left=60, top=14, width=svg.WIDTH - 80, height=height,
        x_range=(-0.6, len(accounts) - 0.4), y_range=(0, tallest * 1.05),
    )  # fmt: skip
    panel.y_axis(svg.thousands, count=3)
    step = -(-len(accounts) // 12)
    panel.x_axis(lambda n: accounts[round(n)].ds[5:], list(range(0, len(accounts), step)), grid=False)
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
