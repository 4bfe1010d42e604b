"""Figures of the shared-instance set: how much is shared where, and how the selector's scores are spread."""

from __future__ import annotations

import numpy as np

from jobs.reporting import svg
from jobs.reporting.collect import ReportData
from jobs.reporting.shared_set import SCORE_BINS, SharedSet
from jobs.reporting.svg import Panel


def share_rates(shared: SharedSet) -> str:
    """Share rate per scenario, one bar per label."""
    top = max([r for s in shared.shares for label in (0, 1) if (r := s.rate(label)) is not None] or [1.0])
    panel = Panel(
        left=60, top=14, width=svg.WIDTH - 80, height=190,
        x_range=(-0.5, len(shared.shares) - 0.5), y_range=(0, min(1.0, top * 1.15) or 1.0),
    )  # fmt: skip
    panel.y_axis(svg.percent)
    panel.x_axis(lambda n: shared.shares[round(n)].scenario, list(range(len(shared.shares))), grid=False)
    width = min(60.0, panel.width / len(shared.shares) * 0.3)
    for n, share in enumerate(shared.shares):
        for label in (0, 1):
            rate, x = share.rate(label), panel.x(n) + (label - 1) * width + (4 * label - 2)
            if rate is None:
                panel.add(svg.text(x + width / 2, panel.y(0) - 6, "no rows", anchor="middle", css="missing"))
                continue
            tip = f"{share.scenario}, label {label}: {svg.percent(rate)} of {share.rows_by_label[label]} rows"
            panel.add(svg.rectangle(x, panel.y(rate), width, panel.y(0) - panel.y(rate), f"fill s{1 - label}", tip))
            panel.add(svg.text(x + width / 2, panel.y(rate) - 5, svg.percent(rate), anchor="middle"))
    picture = svg.figure(
        [panel], width=svg.WIDTH, height=240, title="Share rate per scenario and label",
        description="; ".join(
            f"{s.scenario}: negatives {_rate(s.rate(0))}, positives {_rate(s.rate(1))}" for s in shared.shares
        ),
    )  # fmt: skip
    boxes = {
        "label 0 (negative)": svg.rectangle(1, 1, 12, 12, "fill s1"),
        "label 1 (positive)": svg.rectangle(1, 1, 12, 12, "fill s0"),
    }
    return svg.key_list(boxes) + picture


def score_distribution(data: ReportData, shared: SharedSet) -> str:
    """Histogram of the selector's scores per scenario, the threshold marked; later days as an outline."""
    tallest = max([float(v) for v in (*shared.window_histogram.flat, *shared.later_histogram.flat) if v == v] or [1.0])
    panels = svg.grid(len(data.scenario_names), 110, (0.0, 1.0), (0.0, tallest * 1.12))
    for k, panel in enumerate(panels):
        panel.title(data.scenario_names[k], f"{shared.shares[k].rows:,} rows")
        panel.y_axis(svg.percent, count=3)
        panel.x_axis(svg.decimals(2), [0, 0.25, 0.5, 0.75, 1], grid=False)
        if shared.shares[k].rows == 0:
            panel.add(svg.text(panel.left + 8, panel.y(tallest / 2), "no rows in the window", css="missing"))
        else:
            panel.add(*_bars(panel, shared.window_histogram[k]))
        if not np.isnan(shared.later_histogram[k]).any():
            panel.add(_outline(panel, shared.later_histogram[k]))
        cut = panel.x(shared.summary.threshold)
        panel.add(svg.line(cut, panel.top, cut, panel.top + panel.height, "cut"))
    words = (
        f"Share of rows per bin of the score, {SCORE_BINS} bins from 0 to 1. The dashed line is the threshold "
        f"{shared.summary.threshold:.3f}: rows above it are shared."
    )
    height, title = svg.grid_height(panels), "Distribution of the shared score per scenario"
    picture = svg.figure(panels, width=svg.WIDTH, height=height, title=title, description=words)
    keys = {"window of the search": svg.rectangle(1, 1, 12, 12, "fill s1")}
    if shared.later_days:
        keys["days scored later"] = svg.line(0, 7, 14, 7, "curve s0")
    return svg.key_list({**keys, "threshold": svg.line(7, 0, 7, 14, "cut")}) + picture


def _bars(panel: Panel, shares: np.ndarray) -> list[str]:
    width = panel.width / len(shares)
    return [
        svg.rectangle(panel.left + n * width, panel.y(s), width - 0.6, panel.y(0) - panel.y(s), "fill s1")
        for n, s in enumerate(shares.tolist())
        if s > 0
    ]


def _outline(panel: Panel, shares: np.ndarray) -> str:
    width = panel.width / len(shares)
    corners = [(panel.left + (n + side) * width, panel.y(s)) for n, s in enumerate(shares.tolist()) for side in (0, 1)]
    return svg.polyline(corners, "curve s0")


def _rate(value: float | None) -> str:
    return "no rows" if value is None else svg.percent(value)
