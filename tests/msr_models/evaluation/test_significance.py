"""Tests of significance against scipy, slow transcriptions and simulation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from msr_models.evaluation.significance import (
    delong,
    delong_mean,
    holm,
    mann_whitney,
    percentile_contrast,
    t_interval,
)


def _kernel(score: np.ndarray, label: np.ndarray) -> np.ndarray:
    """psi of every (positive, negative) pair."""
    positive, negative = score[label == 1], score[label == 0]
    return (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])


def _slow_delong(scores: np.ndarray, label: np.ndarray, contrast: np.ndarray) -> tuple[float, float]:
    """DeLong 1988 as printed: S10 and S01 as covariance matrices of all pairs' means, then L S L'."""
    pairs = [_kernel(s, label) for s in scores]
    v10, v01 = np.array([p.mean(1) for p in pairs]), np.array([p.mean(0) for p in pairs])
    covariance = np.atleast_2d(np.cov(v10)) / v10.shape[1] + np.atleast_2d(np.cov(v01)) / v01.shape[1]
    return float(contrast @ np.array([p.mean() for p in pairs])), float(contrast @ covariance @ contrast)


def _log(seed: int, rows: int, vectors: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=rows)
    label = (rng.random(rows) < 1 / (1 + np.exp(-truth))).astype(int)
    scores = truth + rng.normal(size=(vectors, rows)) * np.linspace(1, 2, vectors)[:, None]
    return (np.round(scores, 0) if ties else scores), label


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("contrast", [[1.0, -1.0], [0.5, 0.5, -0.5, -0.5]])
def test_delong_equals_the_definition_over_all_pairs(ties: bool, contrast: list[float]) -> None:
    scores, label = _log(3, 150, len(contrast), ties)
    got = delong(scores, label, contrast)
    want, variance = _slow_delong(scores, label, np.array(contrast))
    assert got is not None and got.standard_error is not None
    assert got.estimate == pytest.approx(want, abs=1e-12)
    assert got.standard_error**2 == pytest.approx(variance, rel=1e-9)
    assert got.p_value == pytest.approx(2 * stats.norm.sf(abs(want) / np.sqrt(variance)), rel=1e-9)
    assert (got.low, got.high) == pytest.approx(
        (want - 1.959964 * np.sqrt(variance), want + 1.959964 * np.sqrt(variance)), abs=1e-7
    )


def test_delong_keeps_its_level_where_there_is_no_difference() -> None:
    p_values = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=120)
        label = (rng.random(120) < 1 / (1 + np.exp(-truth))).astype(int)
        found = delong(truth + rng.normal(size=(2, 120)), label, [1.0, -1.0])
        assert found is not None
        p_values.append(found.p_value)
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.025)


def test_delong_of_equal_scores_is_no_difference_and_of_one_row_of_a_class_none() -> None:
    scores, label = _log(1, 50, 1, False)
    same = delong(np.vstack([scores, scores]), label, [1.0, -1.0])
    assert same is not None and (same.estimate, same.p_value) == (0.0, 1.0)
    thrice, _ = _log(2, 50, 3, False)
    again = delong(np.vstack([thrice, thrice[::-1]]), label, [1 / 3] * 3 + [-1 / 3] * 3)
    assert again is not None and again.p_value == 1.0, "what rounding leaves is no difference"
    assert delong(np.zeros((1, 3)), np.array([1, 0, 0]), [1.0]) is None


def test_delong_of_the_mean_over_groups_adds_independent_variances() -> None:
    scores, label = _log(5, 300, 2, True)
    group = np.arange(300) % 3
    label[group == 2] = 1  # one class: that group has no AUC
    got = delong_mean(scores, label, group, 3, [1.0, -1.0])
    parts = [_slow_delong(scores[:, group == g], label[group == g], np.array([1.0, -1.0])) for g in (0, 1)]
    assert got is not None and got.standard_error is not None
    assert got.estimate == pytest.approx(np.mean([e for e, _ in parts]))
    assert got.standard_error**2 == pytest.approx(sum(v for _, v in parts) / 4)
    assert delong_mean(scores[:, group == 2], label[group == 2], group[group == 2], 3, [1.0, -1.0]) is None


@pytest.mark.parametrize(("a", "b"), [(3, 3), (5, 5), (4, 9)])
def test_mann_whitney_equals_scipys_exact_test(a: int, b: int) -> None:
    rng = np.random.default_rng(a * 10 + b)
    first, second = rng.normal(size=a).tolist(), (rng.normal(size=b) + 0.8).tolist()
    assert mann_whitney(first, second) == pytest.approx(stats.mannwhitneyu(first, second, method="exact").pvalue)
    assert mann_whitney(first, second) == mann_whitney(second, first)


def test_mann_whitney_of_many_values_equals_scipys_normal_approximation() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 20, 40).tolist(), rng.integers(0, 24, 40).tolist()
    assert mann_whitney(first, second) == pytest.approx(
        stats.mannwhitneyu(first, second, method="asymptotic").pvalue, rel=1e-9
    )


def test_mann_whitney_counts_ties_exactly() -> None:
    first, second = [1.0, 2.0, 2.0], [2.0, 3.0, 4.0]
    values = [*first, *second]
    ranks = stats.rankdata(values)
    sums = np.array([ranks[list(c)].sum() for c in combinations(range(6), 3)])
    tail = min((sums <= ranks[:3].sum()).mean(), (sums >= ranks[:3].sum()).mean())
    assert mann_whitney(first, second) == pytest.approx(2 * tail)
    assert mann_whitney([1.0, 1.0], [1.0, 1.0]) == 1.0
    assert mann_whitney([1, 2, 3], [4, 5, 6]) == pytest.approx(0.1), "three against three never give less"
    with pytest.raises(ValueError, match="both sides"):
        mann_whitney([], [1.0])


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_t_interval_equals_scipys(count: int) -> None:
    values = np.random.default_rng(count).normal(size=count)
    want = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert t_interval(values.tolist()) == pytest.approx(want, rel=1e-9)
    assert t_interval([0.7]) is None


def test_t_interval_of_three_values_by_hand() -> None:
    half = 0.95 * (2 / (1 - 0.95**2)) ** 0.5 / 3**0.5  # the quantile of t with 2 degrees of freedom in closed form
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - half, 2 + half), rel=1e-12)


def test_percentiles_give_interval_and_p() -> None:
    differences = np.arange(-100, 900) / 1000.0
    got = percentile_contrast(0.4, differences)
    assert (got.low, got.high) == pytest.approx((-0.075, 0.874), abs=1e-3)
    assert got.p_value == pytest.approx(2 * 102 / 1001)
    assert percentile_contrast(0.1, np.full(5, np.nan)).p_value is None
    assert percentile_contrast(1.0, np.ones(999)).p_value == pytest.approx(2 / 1000)


def test_holm_is_the_step_down_rule() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == [] and holm([0.6, 0.9]) == [1.0, 1.0]
