"""Population stability index and share rates against closed forms, and against chance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from msr_models.evaluation.score_shift import (
    BINS,
    ScoreSample,
    compare_samples,
    population_stability_index,
    samples_by_scenario,
)

LIMITS = {"psi_limit": 0.25, "share_limit": 0.15}


def uniform(rows: int, shared: int = 0) -> ScoreSample:
    return ScoreSample(counts_B=np.full(BINS, rows // BINS), shared=shared)


def test_the_index_is_the_sum_over_bins() -> None:
    expected, observed = np.array([60_000, 40_000]), np.array([30_000, 70_000])
    by_hand = (0.3 - 0.6) * math.log(0.3 / 0.6) + (0.7 - 0.4) * math.log(0.7 / 0.4)
    assert population_stability_index(expected, observed) == pytest.approx(by_hand, rel=1e-3)
    assert population_stability_index(expected, expected) == 0
    assert math.isfinite(population_stability_index(np.array([10, 0]), np.array([0, 10])))


def test_rows_are_counted_by_scenario_and_decile() -> None:
    rank = np.array([0.01, 0.999999, 0.55, 0.1])
    shared = np.array([False, True, True, False])
    samples = samples_by_scenario(rank, shared, np.array([0, 0, 1, 1], dtype=np.int32), 3)
    assert [s.counts_B.nonzero()[0].tolist() for s in samples] == [[0, 9], [1, 5], []]
    assert [s.shared for s in samples] == [1, 1, 0]
    assert [s.share_rate for s in samples] == [0.5, 0.5, None]


def test_a_shift_of_scores_or_of_the_share_rate_is_drift() -> None:
    window = uniform(10_000, shared=3_000)
    same = compare_samples(window, uniform(1_000, shared=310), **LIMITS)
    assert not same.is_drifted and same.psi == pytest.approx(0, abs=1e-4)
    assert (same.share_rate, same.window_share_rate) == (0.31, 0.3)
    assert compare_samples(window, uniform(1_000, shared=500), **LIMITS).is_drifted
    assert compare_samples(window, uniform(1_000, shared=100), **LIMITS).is_drifted
    assert not compare_samples(window, uniform(1_000, shared=440), **LIMITS).is_drifted
    upper = ScoreSample(counts_B=np.array([0] * 5 + [200] * 5), shared=300)
    assert compare_samples(window, upper, **LIMITS).is_drifted
    assert not compare_samples(window, upper, psi_limit=9, share_limit=0.15).is_drifted


def test_a_side_without_rows_is_no_drift() -> None:
    empty = ScoreSample(counts_B=np.zeros(BINS, dtype=np.int64), shared=0)
    for window, day in [(empty, uniform(1_000)), (uniform(1_000), empty), (empty, empty)]:
        drift = compare_samples(window, day, **LIMITS)
        assert drift.psi is None and not drift.is_drifted


@pytest.mark.parametrize("rows", [3, 20, 80, 400])
def test_few_rows_of_the_same_distribution_are_not_flagged(rows: int) -> None:
    """Without the allowance for chance a scenario of 20 rows would be flagged most days."""
    rng = np.random.default_rng(0)
    window = ScoreSample(counts_B=np.full(BINS, 500), shared=1_500)
    days = [
        ScoreSample(counts_B=rng.multinomial(rows, np.full(BINS, 0.1)), shared=int(rng.binomial(rows, 0.3)))
        for _ in range(4_000)
    ]
    assert sum(compare_samples(window, day, **LIMITS).is_drifted for day in days) <= 4
    if rows == 20:
        assert sum((compare_samples(window, day, **LIMITS).psi or 0) > 0.25 for day in days) > 2_000
