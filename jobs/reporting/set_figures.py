"""Figures of the shared-instance set: how much is shared where, and the distribution of the selector's scores."""

from __future__ import annotations

import numpy as np

from jobs.plotting import svg
from jobs.plotting.svg import Figure, Panel
from jobs.reporting.formats import percent
from jobs.reporting.set_statistics import SCORE_BINS, SetStatistics


def share_rates(shared: SetStatistics) -> Figure:
    """Share rate per scenario, one bar per label."""
    shares = shared.shares
    top = max([rate for s in shares for label in (0, 1) if (rate := s.rate(label)) is not None] or [1.0])
    panel = Panel(
        left=60, top=14, width=svg.WIDTH - 80, height=190,
        x_range=(-0.5, len(shares) - 0.5), y_range=(0, min(1.0, top * 1.15) or 1.0),
    )  # fmt: skip
    panel.y_axis(svg.percent)
    panel.x_axis(lambda n: shares[round(n)].scenario, list(range(len(shares))), grid=False)
    width = min(60.0, panel.width / len(shares) * 0.3)
    for n, share in enumerate(shares):
        for label in (0, 1):
            rate, x = share.rate(label), panel.x(n) + (label - 1) * width + (4 * label - 2)
            top_y = panel.y(rate or 0)
            if rate is None:
                panel.add(svg.text(x + width / 2, top_y - 6, "no rows", anchor="middle", css="missing"))
                continue
            tip = f"{share.scenario}, label {label}: {percent(rate)} of {share.rows_by_label[label]} rows"
            panel.add(svg.rectangle(x, top_y, width, panel.y(0) - top_y, f"fill s{1 - label}", tip))
            panel.add(svg.text(x + width / 2, top_y - 5, percent(rate), anchor="middle"))
    words = (f"{s.scenario}: negatives {percent(s.rate(0))}, positives {percent(s.rate(1))}" for s in shares)
    legend = {"label 0 (negative)": svg.box_key(1), "label 1 (positive)": svg.box_key(0)}
    return Figure(
        panels=[panel], title="Share rate per scenario and label", description="; ".join(words), legend=legend
    )


def score_distribution(shared: SetStatistics) -> Figure:
    """Histogram of the selector's scores per scenario, the threshold marked; later days as an outline."""
    threshold, histograms = shared.shared_set.threshold, (shared.window_histogram, shared.later_histogram)
    tallest = float(np.nanmax(np.stack(histograms), initial=0.0)) or 1.0
    panels = svg.grid(len(shared.shares), 110, (0.0, 1.0), (0.0, tallest * 1.12))
    for panel, share, window, later in zip(panels, shared.shares, *histograms, strict=True):
        panel.title(share.scenario, f"{share.rows:,} rows")
        panel.y_axis(svg.percent, count=3)
        panel.x_axis(svg.decimals(2), [0, 0.25, 0.5, 0.75, 1], grid=False)
        if share.rows == 0:
            panel.add(svg.text(panel.left + 8, panel.y(tallest / 2), "no rows in the window", css="missing"))
        else:
            _add_bars(panel, window)
        if not np.isnan(later).any():
            corners = [(panel.x((n + side) / SCORE_BINS), panel.y(s)) for n, s in enumerate(later) for side in (0, 1)]
            panel.add(svg.polyline(corners, "curve s0"))
        panel.vertical(threshold, "cut")
    later_key = {"days scored later": svg.line_key("curve s0")} if shared.later_days else {}
    return Figure(
        panels=panels, title="Distribution of the shared score per scenario",
        description=f"Share of rows per bin of the score, {SCORE_BINS} bins from 0 to 1. The dashed line is the "
        f"threshold {threshold:.3f}: rows above it are shared.",
        legend={"window of the search": svg.box_key(1), **later_key, "threshold": svg.line(7, 0, 7, 14, "cut")},
    )  # fmt: skip


def _add_bars(panel: Panel, shares: np.ndarray) -> None:
    width = panel.width / len(shares)
    for n, share in enumerate(shares.tolist()):
        if share > 0:
            left, top = panel.left + n * width, panel.y(share)
            panel.add(svg.rectangle(left, top, width - 0.6, panel.y(0) - top, "fill s1"))
