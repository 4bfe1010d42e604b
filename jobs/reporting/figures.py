"""The report's figures: each function takes collected data and returns one inline SVG (with its legend), or None."""

from __future__ import annotations

from jobs.reporting import svg
from jobs.reporting.collect import ARM_NAMES, NO_SHARING, SELECTED, SHARE_ALL, ReportData, Score
from jobs.reporting.reliability import Reliability
from jobs.reporting.svg import Panel

ARMS = (SELECTED, NO_SHARING, SHARE_ALL)


def auc_by_scenario(data: ReportData, model: str, ds: str) -> str | None:
    """Test AUC of the three arms per scenario with DeLong intervals, on one day."""
    scores = _arm_scores(data, model, ds)
    with_auc = [s for s in scores.values() if s.auc is not None]
    if not with_auc:
        return None
    ends = [v for s in with_auc for v in (s.auc, s.auc_low, s.auc_high) if v is not None]
    names = data.scenario_names
    panel = Panel(
        left=150, top=14, width=svg.WIDTH - 180, height=52.0 * len(names),
        x_range=svg.padded(ends), y_range=(len(names) - 0.5, -0.5),
    )  # fmt: skip
    panel.x_axis(svg.decimals(3), label="test AUC")
    panel.names(names)
    for (scenario_id, arm), score in scores.items():
        height = scenario_id + 0.24 * (ARMS.index(arm) - 1)
        if score.auc is not None:
            panel.add(*_interval(panel, score, height, ARMS.index(arm)))
    for scenario_id in range(len(names)):
        if not any(k == scenario_id and s.auc is not None for (k, _), s in scores.items()):
            words = "no AUC: the day's rows have one class, or there are none"
            panel.add(svg.text(panel.left + 8, panel.y(scenario_id) + 4, words, css="missing"))
    picture = svg.figure(
        [panel], width=svg.WIDTH, height=panel.height + 60, title=f"AUC per scenario on {ds}, {model}",
        description="Dots are test AUC, bars 95 % DeLong intervals, one row per scenario, one marker per arm. "
        + _in_words(data, model, ds),
    )  # fmt: skip
    return svg.legend([ARM_NAMES[a] for a in ARMS]) + picture


def auc_by_day(data: ReportData, model: str) -> str | None:
    """Test AUC over the test days, one panel per scenario, three arms."""
    days = data.test_days(model)
    by_day = {ds: _arm_scores(data, model, ds) for ds in days}
    every = [s for scores in by_day.values() for s in scores.values() if s.auc is not None]
    if len(days) < 2 or not every:
        return None
    panels = svg.grid(len(data.scenario_names), 120, (-0.4, len(days) - 0.6), (0, 1))
    for scenario_id, panel in enumerate(panels):
        own = [s for scores in by_day.values() for (k, _), s in scores.items() if k == scenario_id]
        panel.y_range = svg.padded([s.auc for s in own if s.auc is not None])
        panel.title(data.scenario_names[scenario_id])
        panel.y_axis(svg.decimals(3), count=5)
        panel.x_axis(lambda n: days[round(n)][5:], _few(len(days)), grid=False)
        for arm in reversed(ARMS):
            series = ARMS.index(arm)
            known = [(n, s) for n, ds in enumerate(days) if (s := by_day[ds].get((scenario_id, arm))) and s.auc]
            points = [(panel.x(n), panel.y(s.auc)) for n, s in known if s.auc is not None]
            panel.add(svg.polyline(points, f"curve s{series}"))
            panel.add(*(svg.marker(*point, series, _tip(s)) for point, (_, s) in zip(points, known, strict=True)))
    picture = svg.figure(
        panels, width=svg.WIDTH, height=svg.grid_height(panels), title=f"AUC per test day, {model}",
        description="One panel per scenario; the test day runs from left to right, one line per arm; each panel "
        "has a scale of its own. A day on which a scenario has one class has no point.",
    )  # fmt: skip
    return svg.legend([ARM_NAMES[a] for a in ARMS]) + picture


def ratio_grid(data: ReportData, model: str) -> str | None:
    """Validation AUC over the sharing ratio, a line per test day, the chosen ratio marked."""
    runs = [r for r in data.runs if r.model == model and r.validation_auc is not None]
    days = sorted({r.ds for r in runs})
    if len({r.ratio for r in runs}) < 2:
        return None
    panel = Panel(
        left=60, top=14, width=svg.WIDTH - 84, height=210, x_range=(-0.03, 1.03),
        y_range=svg.padded([r.validation_auc for r in runs if r.validation_auc is not None]),
    )  # fmt: skip
    panel.y_axis(svg.decimals(3))
    panel.x_axis(lambda r: f"{r:g}", sorted({r.ratio for r in runs}), grid=False, label="share of instances shared, r")
    for ds in days:
        own = sorted((r for r in runs if r.ds == ds), key=lambda r: r.ratio)
        points = [(panel.x(r.ratio), panel.y(r.validation_auc or 0)) for r in own]
        newest = ds == days[-1]
        panel.add(svg.polyline(points, "curve s0" if newest else "curve faint"))
        for point, run in zip(points, own, strict=True):
            tip = f"{ds}, r = {run.ratio:g}: {run.validation_auc:.4f}"
            if run.is_selected:
                panel.add(svg.marker(*point, 0, f"{tip}, chosen", 6))
            elif newest:
                panel.add(svg.marker(*point, 4, tip, 3.5))
    chosen = ", ".join(f"{r.ds}: {r.ratio:g}" for r in runs if r.is_selected)
    picture = svg.figure(
        [panel], width=svg.WIDTH, height=278, title=f"Validation AUC over the sharing ratio, {model}",
        description=f"One line per test day, the newest in colour; filled dots are the ratios chosen ({chosen}).",
    )  # fmt: skip
    keys = {
        f"newest test day, {days[-1]}": svg.line(0, 7, 14, 7, "curve s0"),
        "earlier test days": svg.line(0, 7, 14, 7, "curve faint"),
        "ratio chosen": svg.marker(7, 7, 0),
    }
    return svg.key_list(keys) + picture


def calibration(data: ReportData, model: str, ds: str) -> str | None:
    """Predicted over observed positives per scenario on one day, 1 is right."""
    scores = {key: s for key, s in _arm_scores(data, model, ds).items() if s.calibration is not None}
    if not scores:
        return None
    names = data.scenario_names
    values = [s.calibration for s in scores.values() if s.calibration is not None]
    panel = Panel(
        left=150, top=14, width=svg.WIDTH - 180, height=36.0 * len(names),
        x_range=svg.padded(values, include=(0.95, 1.05)), y_range=(len(names) - 0.5, -0.5),
    )  # fmt: skip
    panel.x_axis(svg.decimals(2), label="predicted / observed positives (1 = calibrated)")
    panel.names(names)
    panel.add(svg.line(panel.x(1), panel.top, panel.x(1), panel.top + panel.height, "cut"))
    for (k, arm), score in scores.items():
        series = ARMS.index(arm)
        value = score.calibration or 0.0
        tip = f"{names[k]}, {ARM_NAMES[arm]}: {value:.3f}"
        panel.add(svg.marker(panel.x(value), panel.y(k + 0.22 * (series - 1)), series, tip))
    picture = svg.figure(
        [panel], width=svg.WIDTH, height=panel.height + 60, title=f"Calibration per scenario on {ds}, {model}",
        description="Sum of predicted probabilities over number of positives, per scenario and arm; dashed line: 1.",
    )  # fmt: skip
    return svg.legend([ARM_NAMES[a] for a in ARMS]) + picture


def reliability(data: ReportData, model: str) -> str | None:
    """Mean prediction against observed rate in ten bins per scenario; selected ratio and no sharing."""
    curves = [r for r in data.reliability if r.model == model]
    if not curves:
        return None
    top = max(v for r in curves for v in (*r.predicted, *r.observed)) * 1.05
    panels = svg.grid(len(data.scenario_names), 190, (0.0, top), (0.0, top))
    for k, panel in enumerate(panels):
        panel.title(data.scenario_names[k])
        panel.y_axis(svg.decimals(2))
        panel.x_axis(svg.decimals(2))
        panel.add(svg.line(panel.x(0), panel.y(0), panel.x(top), panel.y(top), "cut"))
        for curve in reversed([r for r in curves if r.scenario_id == k]):
            series = ARMS.index(curve.arm)
            points = [(panel.x(p), panel.y(o)) for p, o in zip(curve.predicted, curve.observed, strict=True)]
            panel.add(svg.polyline(points, f"curve s{series}"))
            tips = [f"predicted {p:.3f}, observed {o:.3f}, {n} rows" for p, o, n in _bins(curve)]
            panel.add(*(svg.marker(*at, series, tip, 3.5) for at, tip in zip(points, tips, strict=True)))
    picture = svg.figure(
        panels, width=svg.WIDTH, height=svg.grid_height(panels), title=f"Reliability per scenario, {model}",
        description="Ten bins with equally many test rows each: mean prediction (across) against observed rate (up). "
        "Points on the dashed diagonal are calibrated.",
    )  # fmt: skip
    return svg.legend([ARM_NAMES[a] for a in (SELECTED, NO_SHARING)]) + picture


def _bins(curve: Reliability) -> list[tuple[float, float, int]]:
    return list(zip(curve.predicted, curve.observed, curve.rows, strict=True))


def _arm_scores(data: ReportData, model: str, ds: str) -> dict[tuple[int, str], Score]:
    """(scenario_id, arm) -> test score of one day."""
    scores = {(k, arm): data.score(model, ds, arm, k) for k in range(data.dataset.num_scenarios) for arm in ARMS}
    return {key: score for key, score in scores.items() if score is not None}


def _interval(panel: Panel, score: Score, height: float, series: int) -> list[str]:
    y = panel.y(height)
    parts = []
    if score.auc_low is not None and score.auc_high is not None:
        parts.append(svg.line(panel.x(score.auc_low), y, panel.x(score.auc_high), y, f"whisker s{series}"))
    return [*parts, svg.marker(panel.x(score.auc or 0), y, series, _tip(score))]


def _tip(score: Score) -> str:
    interval = f" ({score.auc_low:.4f} to {score.auc_high:.4f})" if score.auc_low and score.auc_high else ""
    return f"{score.ds}, r = {score.ratio:g}: {score.auc:.4f}{interval}, {score.rows} rows"


def _in_words(data: ReportData, model: str, ds: str) -> str:
    parts = []
    for k, name in enumerate(data.scenario_names):
        own, none = data.score(model, ds, SELECTED, k), data.score(model, ds, NO_SHARING, k)
        if own and none and own.auc is not None and none.auc is not None:
            parts.append(f"{name}: {own.auc:.4f} selected, {none.auc:.4f} without sharing")
    return "; ".join(parts)


def _few(count: int, at_most: int = 6) -> list[float]:
    """Up to `at_most` of the positions 0 .. count-1, the last always among them."""
    step = -(-count // at_most)
    return [float(n) for n in range(count - 1, -1, -step)]
