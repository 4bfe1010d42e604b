"""How a day's scores differ from those of a reference window: population stability index and share rates.

A few rows differ from anything by chance: under no drift the index is (1/n + 1/m)·χ² with BINS-1 degrees of freedom
(Yurdakul 2018, "Statistical properties of the population stability index"). A limit therefore counts only where
chance alone would pass it with probability CHANCE at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10
# Upper quantiles for CHANCE = 1e-4: of χ² with BINS - 1 degrees of freedom, and of |z| of a normal variable.
CHANCE = 1e-4
CHI2_QUANTILE, NORMAL_QUANTILE = 33.72, 3.891


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreSample:
    """Rows of one scenario (or all): how many fall into each decile of the window's scores, how many are shared."""

    counts_B: NDArray[np.int64]
    shared: int

    @property
    def rows(self) -> int:
        return int(self.counts_B.sum())

    @property
    def share_rate(self) -> float | None:
        """Share of rows with is_shared, None without rows."""
        return self.shared / self.rows if self.rows else None


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreShift:
    """A day's scores compared with the window's; None where a side has no rows."""

    share_rate: float | None
    window_share_rate: float | None
    psi: float | None
    is_drifted: bool


def samples_by_scenario(
    rank_N: NDArray[np.float64], shared_N: NDArray[np.bool_], scenario_N: NDArray[np.integer], num_scenarios: int
) -> list[ScoreSample]:
    """One sample per scenario. rank_N: mid-ranks in (0, 1) among the window's scores, whose deciles are tenths."""
    bin_N = np.minimum((rank_N * BINS).astype(np.int64), BINS - 1)
    scenario_N = scenario_N.astype(np.int64)
    counts = np.bincount(scenario_N * BINS + bin_N, minlength=num_scenarios * BINS).reshape(num_scenarios, BINS)
    shared_K = np.bincount(scenario_N[shared_N], minlength=num_scenarios)
    return [ScoreSample(counts_B=counts[k], shared=int(shared_K[k])) for k in range(num_scenarios)]


def compare_samples(window: ScoreSample, day: ScoreSample, *, psi_limit: float, share_limit: float) -> ScoreShift:
    """The day against the window; a side without rows is no drift."""
    if not (window.rows and day.rows):
        return ScoreShift(share_rate=day.share_rate, window_share_rate=window.share_rate, psi=None, is_drifted=False)
    psi = population_stability_index(window.counts_B, day.counts_B)
    window_rate, rate = window.shared / window.rows, day.shared / day.rows
    return ScoreShift(
        share_rate=rate,
        window_share_rate=window_rate,
        psi=psi,
        is_drifted=is_past_limits(
            psi=psi,
            rows=(window.rows, day.rows),
            share_rates=(window_rate, rate),
            psi_limit=psi_limit,
            share_limit=share_limit,
        ),
    )


def is_past_limits(
    *, psi: float, rows: tuple[int, int], share_rates: tuple[float, float], psi_limit: float, share_limit: float
) -> bool:
    """Whether the index or the change of share rate passes its limit, and what chance explains. Pairs: window, day."""
    noise = 1 / rows[0] + 1 / rows[1]
    pooled = (rows[0] * share_rates[0] + rows[1] * share_rates[1]) / sum(rows)
    change = abs(share_rates[1] - share_rates[0])
    by_chance = NORMAL_QUANTILE * math.sqrt(max(pooled * (1 - pooled), 0.0) * noise)
    return psi > max(psi_limit, CHI2_QUANTILE * noise) or change > max(share_limit, by_chance)


def population_stability_index(expected_B: NDArray[np.int64], observed_B: NDArray[np.int64]) -> float:
    """Σ (o - e)·ln(o / e) over the shares of bins; half a row is added to each bin, so that an empty one is finite."""
    expected = (expected_B + 0.5) / (expected_B.sum() + 0.5 * len(expected_B))
    observed = (observed_B + 0.5) / (observed_B.sum() + 0.5 * len(observed_B))
    return float(np.sum((observed - expected) * np.log(observed / expected)))
