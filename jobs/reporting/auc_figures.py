"""Figures of AUC per scenario, per day and per sharing ratio; None where there is nothing to show."""

from __future__ import annotations

from jobs.plotting import svg
from jobs.plotting.svg import Figure, Panel
from jobs.reporting.collect import ARM_NAMES, ARMS, NO_SHARING, SELECTED, ReportData
from schemas.tables.evaluations import Evaluation
from schemas.tables.training_runs import TrainingRun


def auc_by_scenario(data: ReportData, model: str, ds: str) -> Figure | None:
    """Test AUC of the three arms per scenario with 95 % DeLong intervals, on one day."""
    names = data.scenario_names
    tests = [(arm, e) for arm, e in data.tests_of_day(model, ds) if e.scenario_id in range(len(names))]
    with_auc = {e.scenario_id for _, e in tests if e.auc is not None}
    if not with_auc:
        return None
    ends = [v for _, e in tests for v in (e.auc, e.auc_low, e.auc_high) if v is not None]
    panel = Panel(
        left=150, top=14, width=svg.WIDTH - 180, height=52.0 * len(names),
        x_range=svg.padded(ends), y_range=(len(names) - 0.5, -0.5),
    )  # fmt: skip
    panel.x_axis(svg.decimals(3), label="test AUC")
    panel.names(names)
    for arm, test in tests:
        series = ARMS.index(arm)
        y = test.scenario_id + 0.24 * (series - 1)
        if test.auc is None:
            continue
        if test.auc_low is not None and test.auc_high is not None:
            panel.line((test.auc_low, y), (test.auc_high, y), f"whisker s{series}")
        panel.add(svg.marker(panel.x(test.auc), panel.y(y), series, _tip(test)))
    for k in set(range(len(names))) - with_auc:
        reason = "no AUC: the day's rows have one class, or there are none"
        panel.add(svg.text(panel.left + 8, panel.y(k) + 4, reason, css="missing"))
    return Figure(
        panels=[panel], title=f"AUC per scenario on {ds}, {model}",
        description="Dots are test AUC, bars 95 % DeLong intervals, one row per scenario, one marker per arm. "
        + _in_words(data, model, ds),
        legend=svg.marker_keys(list(ARM_NAMES.values())),
    )  # fmt: skip


def auc_by_day(data: ReportData, model: str) -> Figure | None:
    """Test AUC over the test days, one panel per scenario, three arms."""
    days = data.test_days(model)
    found = [(n, arm, e) for n, ds in enumerate(days) for arm, e in data.tests_of_day(model, ds) if e.auc is not None]
    if len(days) < 2 or not found:
        return None
    panels = svg.grid(len(data.scenario_names), 120, (-0.4, len(days) - 0.6), (0, 1))
    for k, panel in enumerate(panels):
        own = [(n, arm, e, e.auc) for n, arm, e in found if e.scenario_id == k and e.auc is not None]
        panel.y_range = svg.padded([auc for *_, auc in own])
        panel.title(data.scenario_names[k])
        panel.y_axis(svg.decimals(3), count=5)
        panel.days_axis(days)
        for series, arm in reversed(list(enumerate(ARMS))):
            points = [(n, auc) for n, a, _, auc in own if a == arm]
            panel.curve(points, series, [_tip(e) for _, a, e, _ in own if a == arm])
    return Figure(
        panels=panels, title=f"AUC per test day, {model}",
        description="One panel per scenario; the test day runs from left to right, one line per arm; each panel "
        "has its own scale. A day on which a scenario has one class has no point.",
        legend=svg.marker_keys(list(ARM_NAMES.values())),
    )  # fmt: skip


def validation_by_ratio(data: ReportData, model: str, metric: str) -> Figure | None:
    """Validation AUC or logloss over the sharing ratio, a line per test day, the chosen ratio marked."""
    found = [(r, _validation(r, metric)) for r in data.runs if r.model == model]
    runs = [(r, value) for r, value in found if value is not None]
    name = {"auc": "AUC", "logloss": "logloss after calibration"}[metric]
    ratios = sorted({r.ratio for r, _ in runs})
    if len(ratios) < 2:
        return None
    days = sorted({r.ds for r, _ in runs})
    panel = Panel(
        left=60, top=14, width=svg.WIDTH - 84, height=210, x_range=(-0.03, 1.03),
        y_range=svg.padded([auc for _, auc in runs]),
    )  # fmt: skip
    panel.y_axis(svg.decimals(3))
    panel.x_axis(svg.plain, ratios, grid=False, label="sharing ratio r: the share of instances that are shared")
    for ds in days:
        newest = ds == days[-1]
        own = [(panel.x(r.ratio), panel.y(auc), r, auc) for r, auc in runs if r.ds == ds]
        panel.add(svg.polyline([(x, y) for x, y, *_ in own], "curve s0" if newest else "curve faint"))
        for x, y, run, auc in own:
            tip = f"{ds}, r = {run.ratio:g}: {auc:.4f}"
            if run.is_selected:
                panel.add(svg.marker(x, y, 0, f"{tip}, chosen", 6))
            elif newest:
                panel.add(svg.marker(x, y, 4, tip, 3.5))
    chosen = ", ".join(f"{r.ds}: {r.ratio:g}" for r, _ in runs if r.is_selected)
    return Figure(
        panels=[panel], title=f"Validation {name} over the sharing ratio, {model}",
        description=f"One line per test day, the newest in colour; filled dots are the ratios chosen ({chosen}).",
        legend={
            f"newest test day, {days[-1]}": svg.line_key("curve s0"),
            **({"earlier test days": svg.line_key("curve faint")} if len(days) > 1 else {}),
            "chosen ratio": svg.marker(7, 7, 0),
        },
    )  # fmt: skip


def _validation(run: TrainingRun, metric: str) -> float | None:
    if metric == "auc":
        return run.validation_auc
    calibrated = run.validation_calibrated_logloss
    return run.validation_logloss if calibrated is None else calibrated


def _tip(test: Evaluation) -> str:
    interval = f" ({test.auc_low:.4f} to {test.auc_high:.4f})" if test.auc_low and test.auc_high else ""
    return f"{test.ds}, r = {test.ratio:g}: {test.auc:.4f}{interval}, {test.rows} rows"


def _in_words(data: ReportData, model: str, ds: str) -> str:
    aucs = [
        (n, *(data.auc(model, ds, arm, k) for arm in (SELECTED, NO_SHARING))) for k, n in enumerate(data.scenario_names)
    ]
    return "; ".join(
        f"{name}: {selected:.4f} selected, {unshared:.4f} without sharing"
        for name, selected, unshared in aucs
        if selected is not None and unshared is not None
    )
