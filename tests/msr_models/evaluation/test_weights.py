"""Weights in metrics, intervals and calibration: 2 is the row twice, 0 the row left out, 1 no weight at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from msr_models.evaluation.blocks import Array
from msr_models.evaluation.calibration import MIN_CLASS_ROWS, fit_calibration
from msr_models.evaluation.gains import paired_gains
from msr_models.evaluation.metrics import (
    Z_95,
    grouped_auc,
    logloss,
    mean_scenario_auc,
    scenario_metrics,
)
from msr_models.evaluation.reliability import bin_means, scenario_calibration_errors
from msr_models.evaluation.significance import delong, delong_mean
from msr_models.evaluation.user_bootstrap import UserBootstrap
from schemas.pipeline_spec import CalibrationMethod

K = 3
Rows = dict[str, Array]
COUNTS = ("rows", "positives", "auc_low", "auc_high")  # of rows, and of rows as independent draws


def sample(rows: int = 900, *, ties: bool = True) -> Rows:
    rng = np.random.default_rng(5)
    prob, other = rng.random(rows), rng.random(rows)
    label = (rng.random(rows) < 0.7 * prob + 0.3 * other).astype(np.int64)
    columns = {"prob": prob, "other": other, "label": label, "scenario": rng.integers(0, K, rows)}
    if ties:
        columns["prob"] = np.round(prob, 1)
    return columns | {"user": rng.integers(0, 60, rows), "session": rng.integers(0, 200, rows)}


def repeated(rows: Rows, weight: Array) -> Rows:
    """The rows as often as whole weights say."""
    return {name: np.repeat(column, weight) for name, column in rows.items()}


def point_metrics(r: Rows, weight: Array | None) -> Any:
    found = scenario_metrics(r["prob"], r["label"], r["scenario"], r["session"], K, weight)
    return [[v for name, v in asdict(m).items() if name not in COUNTS] for m in found]


def intervals(r: Rows, weight: Array | None) -> Any:
    found = scenario_metrics(r["prob"], r["label"], r["scenario"], r["session"], K, weight)
    score_2N = np.stack([r["prob"], r["other"]])
    tests = delong(score_2N, r["label"], (1, -1), weight)
    mean = delong_mean(score_2N, r["label"], r["scenario"], K, (1, -1), weight)
    assert tests is not None and mean is not None
    return [[m.rows, m.auc_low, m.auc_high] for m in found] + [list(asdict(c).values()) for c in (tests, mean)]


def gains(r: Rows, weight: Array | None) -> Any:
    found = paired_gains(r["prob"], r["other"], r["label"], r["scenario"], r["user"], K, weight)
    return [[g.value, g.baseline, *asdict(g.contrast).values()] for g in found]


def bootstrap(r: Rows, weight: Array | None) -> Any:
    drawn = UserBootstrap(r["user"], r["label"], r["scenario"], num_scenarios=K, resamples=20, seed=3, weight_N=weight)
    return drawn.replicates(r["prob"])


def fitted(method: CalibrationMethod) -> Callable[[Rows, Array | None], Any]:
    def fit(r: Rows, weight: Array | None) -> Any:
        found = fit_calibration(method, r["prob"], r["label"], r["scenario"], ["a", "b", "c"], weight)
        grid = np.tile(np.linspace(0.05, 0.95, 19), K)
        return found.apply(grid, np.repeat(np.arange(K), 19))

    return fit


MEASURES: dict[str, Callable[[Rows, Array | None], Any]] = {
    "metrics": point_metrics,
    "mean AUC": lambda r, w: mean_scenario_auc(r["prob"], r["label"], r["scenario"], K, w),
    "logloss": lambda r, w: logloss(r["prob"], r["label"], w),
    "ECE": lambda r, w: scenario_calibration_errors(r["prob"], r["label"], r["scenario"], K, w),
    "bins": lambda r, w: bin_means(r["prob"], r["label"], weight=w),
    "gains": gains,
    "bootstrap": bootstrap,
    "temperature": fitted("temperature"),
    "platt": fitted("platt"),
    "isotonic": fitted("isotonic"),
}


def flat(value: Any) -> list[float]:
    """None is not a number of any metric: -1."""
    if isinstance(value, list | tuple | np.ndarray):
        return [v for part in value for v in flat(part)]
    return [-1.0 if value is None else float(value)]


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("name", MEASURES)
def test_a_weight_is_how_often_the_row_stands_there(name: str, ties: bool) -> None:
    rows, weight = sample(ties=ties), np.random.default_rng(6).integers(0, 4, 900)
    want, got = flat(MEASURES[name](repeated(rows, weight), None)), flat(MEASURES[name](rows, weight))
    assert got == pytest.approx(want, abs=1e-8)
    assert flat(MEASURES[name](rows, None)) != pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("name", [*MEASURES, "intervals"])
def test_rows_of_weight_0_are_left_out_and_weights_of_1_change_no_bit(name: str) -> None:
    measure = MEASURES.get(name, intervals)
    rows, keep = sample(), np.random.default_rng(7).random(900) < 0.8
    left = {column: values[keep] for column, values in rows.items()}
    assert flat(measure(rows, keep.astype(np.float64))) == flat(measure(left, None))
    assert flat(measure(rows, np.ones(900))) == flat(measure(rows, None))


@pytest.mark.parametrize("name", [*MEASURES, "intervals"])
def test_neither_the_order_of_the_rows_nor_the_unit_of_the_weights_decides_a_metric(name: str) -> None:
    measure = MEASURES.get(name, intervals)
    rows, weight = sample(), np.random.default_rng(8).gamma(2.0, 0.5, 900)
    order = np.random.default_rng(9).permutation(900)
    shuffled = {column: values[order] for column, values in rows.items()}
    got, want = flat(measure(shuffled, weight[order])), flat(measure(rows, weight))
    if name in ("gains", "bootstrap", "logloss", "intervals"):  # sums in the order of the rows
        assert got == pytest.approx(want, rel=1e-9, abs=1e-12)
    else:
        assert got == want
    if name in ("metrics", "mean AUC", "logloss", "ECE", "gains", "bootstrap", "intervals"):
        assert flat(measure(rows, 8 * weight)) == pytest.approx(want, rel=1e-9, abs=1e-12)


def test_an_interval_takes_a_row_for_one_draw_whatever_its_weight() -> None:
    """DeLong's variance with weights, by loops over pairs."""
    rows, weight = sample(80), np.random.default_rng(3).gamma(2.0, 0.5, 80)
    positive = rows["label"] == 1
    x, y, v, w = rows["prob"][positive], rows["prob"][~positive], weight[positive], weight[~positive]
    won = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
    auc = v @ won @ w / v.sum() / w.sum()
    variance = 0.0
    for own, share in ((v, won @ w / w.sum()), (w, v @ won / v.sum())):
        count = len(own)
        variance += count / (count - 1) * float((own**2 * (share - auc) ** 2).sum()) / float(own.sum()) ** 2
    found = grouped_auc(rows["prob"], rows["label"], np.zeros(80, dtype=int), 1, weight)
    assert found.auc_G[0] == pytest.approx(auc, abs=1e-12)
    assert found.auc_G[0] - found.low_G[0] == pytest.approx(Z_95 * variance**0.5, rel=1e-9)
    tested = delong(rows["prob"][None], rows["label"], (1,), weight)
    assert tested is not None and tested.standard_error == pytest.approx(variance**0.5, rel=1e-9)
    prob, label = (np.repeat(rows[c], 2) for c in ("prob", "label"))
    twice = grouped_auc(prob, label, np.zeros(160, dtype=int), 1)
    doubled = grouped_auc(rows["prob"], rows["label"], np.zeros(80, dtype=int), 1, np.full(80, 2.0))
    assert doubled.auc_G[0] == pytest.approx(twice.auc_G[0]) and doubled.low_G[0] < twice.low_G[0]


def test_counts_stay_counts_and_small_scenarios_are_small_by_weight() -> None:
    rows = sample(300)
    least = MIN_CLASS_ROWS["platt"]
    weight = np.where(rows["scenario"] == 0, 0.5 * least / 100, 2.5)
    (first, *_, every) = scenario_metrics(rows["prob"], rows["label"], rows["scenario"], rows["session"], K, weight)
    assert first.rows == int((rows["scenario"] == 0).sum()) and every.rows == 300
    assert first.positives == int(rows["label"][rows["scenario"] == 0].sum())
    found = fit_calibration("platt", rows["prob"], rows["label"], rows["scenario"], ["a", "b", "c"], weight)
    assert found.borrowing == ["a"] and found.curves[0].rows == first.rows


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_other_weights_are_refused(bad: float) -> None:
    rows = sample(10)
    with pytest.raises(ValueError, match="weights must be finite numbers >= 0"):
        logloss(rows["prob"], rows["label"], np.array([bad] + [1.0] * 9))
