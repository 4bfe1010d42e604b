"""Calibration: against slow fits by scipy and scikit-learn, what small scenarios borrow, and what it leaves alone."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

from msr_models.evaluation import calibration as module
from msr_models.evaluation.calibration import (
    MIN_CLASS_ROWS,
    MIN_SLOPE,
    POOLED_SD,
    SCENARIO_SD,
    Calibration,
    Curve,
    fit_calibration,
    parse_calibration,
    read_calibration,
)
from msr_models.evaluation.metrics import grouped_auc, logloss
from msr_models.evaluation.reliability import calibration_error
from schemas.errors import TrainingError
from schemas.pipeline_spec import CalibrationMethod

NAMES = ("home", "feed", "cart", "ads")
SHARES = (0.6, 0.3, 0.08, 0.02)
METHODS: tuple[CalibrationMethod, ...] = ("temperature", "platt", "isotonic")
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rows = tuple[Floats, Ints, Ints]


def overconfident(rows: int, seed: int = 0, slope: float = 0.6, shift: float = -0.3) -> Rows:
    """(prob, label, scenario) of a model whose logits are too far from 0 and too high, more so from scenario to
    scenario."""
    rng = np.random.default_rng(seed)
    scenario = rng.choice(len(SHARES), rows, p=SHARES)
    logit = rng.normal(-1, 1.2, rows)
    truth = 1 / (1 + np.exp(-(slope * logit + shift * (1 + 0.3 * scenario))))
    return 1 / (1 + np.exp(-logit)), (rng.random(rows) < truth).astype(np.int64), scenario


def slow_line(
    method: str, rows: Rows, here: NDArray[np.bool_], prior: Floats, prior_sd: tuple[float, float] = SCENARIO_SD
) -> Floats:
    """(slope, intercept) by a general optimiser."""
    logit, label = np.log(rows[0][here] / (1 - rows[0][here])), rows[1][here]

    def loss(line: Floats) -> float:
        slope, intercept = line[0], line[1] if method == "platt" else prior[1]
        prob = 1 / (1 + np.exp(-(slope * logit + intercept)))
        entropy = -np.log(np.where(label == 1, prob, 1 - prob)).sum()
        return float(entropy + (((np.array([slope, intercept]) - prior) / prior_sd) ** 2).sum() / 2)

    found = minimize(loss, prior, bounds=[(MIN_SLOPE, None), (None, None)], options={"ftol": 1e-15, "gtol": 1e-9})
    return np.array([found.x[0], found.x[1] if method == "platt" else prior[1]])


@pytest.mark.parametrize("slope", [0.6, 1.7, -0.5])
@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_lines_are_those_of_a_general_optimiser(method: CalibrationMethod, slope: float) -> None:
    rows = overconfident(3000, slope=slope)
    found = fit_calibration(method, *rows, NAMES)
    pooled = slow_line(method, rows, np.ones(3000, dtype=np.bool_), np.array([1.0, 0.0]), POOLED_SD)
    for k, curve in enumerate(found.curves):
        own = slow_line(method, rows, rows[2] == k, pooled)
        assert (curve.slope, curve.intercept) == pytest.approx(own, abs=1e-5)
        assert curve.slope >= MIN_SLOPE and not curve.of_all_rows
    assert slope > 0 or found.curves[0].slope == MIN_SLOPE


def test_isotonic_is_scikit_learns_between_its_ends() -> None:
    prob, label, scenario = overconfident(10_000)
    prob = np.round(prob, 3)  # equal probabilities
    found = fit_calibration("isotonic", prob, label, scenario, NAMES)
    grid = np.linspace(0, 1, 1001)
    for k in (0, 1):
        here = scenario == k
        theirs = IsotonicRegression(out_of_bounds="clip").fit(prob[here], label[here])
        least = 1 / (here.sum() + 2)
        expected = np.interp(grid, theirs.X_thresholds_, np.clip(theirs.y_thresholds_, least, 1 - least))
        np.testing.assert_allclose(found.apply(grid, np.full(1001, k)), expected, atol=1e-12)
        assert all(a <= b for a, b in pairwise(found.curves[k].observed))
    pooled = fit_calibration("isotonic", prob, label, np.zeros_like(scenario), ("all",)).curves[0]
    assert found.borrowing == ["ads"], "cart has 200 of either class"
    assert found.curves[3].predicted == pooled.predicted and found.curves[3].observed == pooled.observed


@pytest.mark.parametrize("method", METHODS)
def test_it_calibrates_other_rows_of_each_scenario(method: CalibrationMethod) -> None:
    fitted, (prob, label, scenario) = fit_calibration(method, *overconfident(20_000), NAMES), overconfident(20_000, 1)
    after = fitted.apply(prob, scenario)
    for k in (0, 1):
        here = scenario == k
        before_loss, after_loss = (logloss(p[here], label[here]) for p in (prob, after))
        before_ece, after_ece = (calibration_error(p[here], label[here]) for p in (prob, after))
        assert before_loss is not None and after_loss is not None and after_loss < before_loss - 0.003
        assert before_ece is not None and after_ece is not None
        # A temperature cannot move the base rate
        assert after_ece < before_ece / 2 or method == "temperature"


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_auc_within_a_scenario_stays_what_it_was(method: CalibrationMethod) -> None:
    prob, label, scenario = overconfident(5000)
    for slope in (0.6, -0.5):  # -0.5: labels against the ranking, where an unconstrained slope would turn it round
        fitted = fit_calibration(method, *overconfident(5000, 1, slope), NAMES)
        before, after = (grouped_auc(p, label, scenario, 4) for p in (prob, fitted.apply(prob, scenario)))
        np.testing.assert_allclose(after.auc_G, before.auc_G, atol=1e-9)


def test_small_scenarios_lean_on_all_rows_and_smaller_ones_use_them() -> None:
    prob, label, scenario = overconfident(20_000)
    label = np.where(scenario == 3, 0, label)  # one class
    few = np.flatnonzero(scenario == 2)[80:]
    keep = np.ones(20_000, dtype=np.bool_)
    keep[few] = False
    found = fit_calibration("platt", prob[keep], label[keep], scenario[keep], NAMES)
    pooled = fit_calibration("platt", prob[keep], label[keep], np.zeros(keep.sum(), dtype=np.int64), ("all",))
    # The scenario of the only curve is shrunk towards its own pooled line: the same up to that
    ads, cart = found.curves[3], found.curves[2]
    assert found.borrowing == ["ads"] and (ads.rows, ads.positives) == ((scenario == 3).sum(), 0)
    assert ads.slope == pytest.approx(pooled.curves[0].slope, abs=0.01)
    free = slow_line("platt", (prob, label, scenario), keep & (scenario == 2), np.array([ads.slope, ads.intercept]))
    assert (cart.slope, cart.intercept) == pytest.approx(free, abs=1e-5)
    assert abs(cart.slope - ads.slope) < SCENARIO_SD[0], "eighty rows cannot leave the prior far behind"


@pytest.mark.parametrize("method", METHODS)
def test_without_enough_rows_nothing_changes(method: CalibrationMethod) -> None:
    prob = np.linspace(0.1, 0.9, 50)
    for label in (np.ones(50), np.zeros(50), (np.arange(50) < MIN_CLASS_ROWS[method] - 1).astype(np.float64)):
        found = fit_calibration(method, prob, label, np.zeros(50, dtype=np.int64), ("home", "ads"))
        assert found.borrowing == ["home", "ads"]
        np.testing.assert_allclose(found.apply(prob, np.arange(50) % 2), prob, rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_rows_changes_no_bit(method: CalibrationMethod) -> None:
    prob, label, scenario = overconfident(3000)
    order = np.random.default_rng(5).permutation(3000)
    shuffled = fit_calibration(method, prob[order], label[order], scenario[order], NAMES)
    assert shuffled.to_json() == fit_calibration(method, prob, label, scenario, NAMES).to_json()


@pytest.mark.parametrize("method", ["none", *METHODS])
def test_probabilities_of_0_and_1_stay_finite(method: CalibrationMethod) -> None:
    fitted = fit_calibration(method, *overconfident(3000), NAMES)
    ends = fitted.apply(np.array([0.0, 1.0, 1e-300]), np.zeros(3, dtype=np.int64))
    assert np.isfinite(ends).all() and (ends >= 0).all() and (ends <= 1).all() and ends[0] <= ends[2] < ends[1]


def test_none_is_the_identity_bit_for_bit() -> None:
    prob, label, scenario = overconfident(500)
    found = fit_calibration("none", prob, label, scenario, NAMES)
    assert (found.apply(prob, scenario) == prob).all() and found.borrowing == []


@pytest.mark.parametrize("method", ["none", *METHODS])
def test_it_is_stored_and_read_without_loss(method: CalibrationMethod, tmp_path: Path) -> None:
    found = fit_calibration(method, *overconfident(3000), NAMES)
    path = tmp_path / "calibration.json"
    path.write_text(found.to_json())
    assert read_calibration(path, found.digest()) == found
    with pytest.raises(TrainingError, match=r"is not the one of sha256 other.*train again"):
        read_calibration(path, "other")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"format": 1}',
        json.dumps({"format": 9, "method": "platt", "scenarios": [], "curves": []}),
        json.dumps({"format": 1, "method": "beta", "scenarios": [], "curves": []}),
        json.dumps({"format": 1, "method": "platt", "scenarios": ["home"], "curves": []}),
        json.dumps({"format": 1, "method": "platt", "scenarios": [], "curves": [], "more": 1}),
    ],
)
def test_anything_else_is_one_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="here is not a calibration of format 1"):
        parse_calibration(text, "here")
    with pytest.raises(TrainingError, match="cannot be read"):
        read_calibration(tmp_path / "none.json")


def test_a_step_that_overshoots_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Separable rows, far from the start: plain Newton steps would leave the basin."""
    monkeypatch.setattr(module, "POOLED_SD", (100.0, 100.0))
    monkeypatch.setattr(module, "SCENARIO_SD", (100.0, 100.0))
    prob = np.concatenate([np.full(40, 1e-6), np.full(40, 1 - 1e-6)])
    label = np.repeat([1, 0], 40)
    label[[0, 50]] = label[[50, 0]]
    found = fit_calibration("platt", prob, label, np.zeros(80, dtype=np.int64), ("home",)).curves[0]
    assert (found.rows, found.positives, found.slope) == (80, 40, MIN_SLOPE)
    assert found.intercept == pytest.approx(0.0, abs=1e-6)


def test_a_calibration_knows_its_scenarios_by_order() -> None:
    curves = tuple(Curve(rows=1, positives=1, of_all_rows=False, slope=s, intercept=b) for s, b in ((1, 0), (1, 1)))
    found = Calibration(method="platt", scenarios=("home", "ads"), curves=curves)
    expected = [0.5, 1 / (1 + np.exp(-1))]
    np.testing.assert_allclose(found.apply(np.array([0.5, 0.5]), np.array([0, 1])), expected)
