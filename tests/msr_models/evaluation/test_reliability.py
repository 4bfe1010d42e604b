"""Bins and expected calibration error against plain loops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from msr_models.evaluation.reliability import bin_means, calibration_error, scenario_calibration_errors


def test_bins_hold_equally_many_rows() -> None:
    prob = np.array([0.4, 0.1, 0.3, 0.2])
    bins = bin_means(prob, np.array([1, 0, 0, 1]), bins=2)
    assert bins == [pytest.approx((0.15, 0.5, 2)), pytest.approx((0.35, 0.5, 2))]
    assert bin_means(np.array([]), np.array([])) == []
    assert sum(rows for _, _, rows in bin_means(prob, prob > 0.2, bins=10)) == 4


def test_the_error_is_the_mean_distance_over_rows() -> None:
    rng = np.random.default_rng(0)
    prob, label = rng.random(1003), rng.integers(0, 2, 1003)
    order, expected = np.argsort(prob), 0.0
    edges = np.linspace(0, 1003, 11).astype(int)
    for start, end in pairwise(edges):
        part = order[start:end]
        expected += abs(prob[part].mean() - label[part].mean()) * len(part) / 1003
    assert calibration_error(prob, label) == pytest.approx(expected, rel=1e-12)
    assert calibration_error(prob[:0], label[:0]) is None
    assert calibration_error(np.array([0.0, 1.0]), np.array([0, 1])) == 0


def test_equal_predictions_in_any_order_give_the_same_bits() -> None:
    rng = np.random.default_rng(1)
    prob, label = np.round(rng.random(500), 1), rng.integers(0, 2, 500)
    order = rng.permutation(500)
    assert calibration_error(prob, label) == calibration_error(prob[order], label[order])
    assert calibration_error(np.full(1000, 0.25), np.repeat([0, 0, 0, 1], 250)) == pytest.approx(0, abs=1e-12)


def test_each_scenario_and_all_rows() -> None:
    rng = np.random.default_rng(2)
    prob, label, scenario = rng.random(400), rng.integers(0, 2, 400), rng.choice([0, 2], 400)
    found = scenario_calibration_errors(prob, label, scenario, 4)
    own = [calibration_error(prob[scenario == k], label[scenario == k]) for k in range(4)]
    assert found == [*own, calibration_error(prob, label)] and found[1] is None and found[3] is None
