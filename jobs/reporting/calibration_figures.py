"""Figures of calibration: predicted over observed positives, and reliability curves."""

from __future__ import annotations

from jobs.plotting import svg
from jobs.plotting.svg import Figure, Panel
from jobs.reporting.collect import ARM_NAMES, ARMS, ReportData
from jobs.reporting.reliability import AFTER, BEFORE
from msr_models.evaluation.gains import ALL_ROWS

STAGES = (AFTER, BEFORE)


def calibration(data: ReportData, model: str, ds: str) -> Figure | None:
    """Predicted over observed positives per scenario on one day; None where no scenario has positives."""
    names = data.scenario_names
    values = [
        (arm, e.scenario_id, e.calibration)
        for arm, e in data.tests_of_day(model, ds)
        if e.calibration is not None and e.scenario_id != ALL_ROWS
    ]
    if not values:
        return None
    panel = Panel(
        left=150, top=14, width=svg.WIDTH - 180, height=36.0 * len(names),
        x_range=svg.padded([v for *_, v in values], include=(0.95, 1.05)), y_range=(len(names) - 0.5, -0.5),
    )  # fmt: skip
    panel.x_axis(svg.decimals(2), label="predicted / observed positives (1 = calibrated)")
    panel.names(names)
    panel.vertical(1, "cut")
    for arm, k, value in values:
        series = ARMS.index(arm)
        tip = f"{names[k]}, {ARM_NAMES[arm]}: {value:.3f}"
        panel.add(svg.marker(panel.x(value), panel.y(k + 0.22 * (series - 1)), series, tip))
    return Figure(
        panels=[panel], title=f"Calibration per scenario on {ds}, {model}",
        description="Sum of predicted probabilities over number of positives, per scenario and arm; dashed line: 1.",
        legend=svg.marker_keys(list(ARM_NAMES.values())),
    )  # fmt: skip


def reliability(data: ReportData, model: str) -> Figure | None:
    """Mean prediction against observed rate in bins, per scenario; None where no predictions were found."""
    curves = [r for r in data.reliability if r.model == model]
    if not curves:
        return None
    top = max(v for r in curves for predicted, observed, _ in r.bins for v in (predicted, observed)) * 1.05
    panels = svg.grid(len(data.scenario_names), 190, (0.0, top), (0.0, top))
    for k, panel in enumerate(panels):
        panel.title(data.scenario_names[k])
        panel.y_axis(svg.decimals(2))
        panel.x_axis(svg.decimals(2))
        panel.line((0, 0), (top, top), "cut")
        for curve in reversed([r for r in curves if r.scenario_id == k]):
            tips = [f"{curve.stage}: predicted {p:.3f}, observed {o:.3f}, {rows:.0f} rows" for p, o, rows in curve.bins]
            panel.curve([(p, o) for p, o, _ in curve.bins], STAGES.index(curve.stage), tips, size=3.5)
    return Figure(
        panels=panels, title=f"Reliability per scenario, {model}",
        description="Ten bins with equally many test rows each: mean prediction (across) against observed rate (up), "
        "before and after calibration. Points on the dashed diagonal are calibrated.",
        legend={
            **svg.marker_keys(STAGES),
            "perfectly calibrated": svg.line_key("cut"),
        },
    )  # fmt: skip
