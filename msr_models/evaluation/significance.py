"""Is one model better than another? DeLong's test, the Mann-Whitney U test, a paired bootstrap over users, t-intervals.

DeLong and the bootstrap compare predictions for the same rows (DeLong takes rows as independent, the bootstrap users);
the t-interval and the U test compare one number per seed. None of them corrects for the number of comparisons made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msr_models.evaluation.blocks import Array, Floats, Ints
from msr_models.evaluation.metrics import Z_95

# Above this many values the U test uses its normal approximation.
EXACT_VALUES = 40
# A standard error of an AUC below this is rounding: the same predictions on both sides.
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """An estimated difference, its 95 % interval and two-sided p for "it is 0"; None where the data define none."""

    estimate: float
    standard_error: float | None
    low: float | None
    high: float | None
    p_value: float | None


def t_interval(value_S: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Student's interval for the mean of independent values, one per seed; None for fewer than two."""
    count = len(value_S)
    if count < 2:
        return None
    values = np.asarray(value_S, dtype=np.float64)
    from scipy.stats import t  # loads in most of a second

    half = float(t.ppf((1 + level) / 2, count - 1)) * float(values.std(ddof=1)) / math.sqrt(count)
    return float(values.mean()) - half, float(values.mean()) + half


def mann_whitney(first_A: Sequence[float], second_B: Sequence[float]) -> float:
    """Two-sided p of the Mann-Whitney U test; exact (ties too) for up to EXACT_VALUES values, else normal.

    Two groups of three cannot give less than .1: the papers' stars need five seeds or more on either side.
    Raises ValueError for an empty group.
    """
    size_a, size_b = len(first_A), len(second_B)
    if not size_a or not size_b:
        raise ValueError("the U test needs values on both sides")
    if size_a + size_b > EXACT_VALUES:
        from scipy.stats import mannwhitneyu  # loads in most of a second

        return float(mannwhitneyu(first_A, second_B, method="asymptotic").pvalue)
    # By hand, because scipy's exact test ignores ties. Twice a mid-rank is a whole number.
    doubled = np.rint(2 * midranks(np.asarray([*first_A, *second_B], dtype=np.float64))).astype(np.int64)
    rank_sum = int(doubled[:size_a].sum())
    ways = _subset_sums(doubled, size_a)
    below, above = sum(ways[: rank_sum + 1]), sum(ways[rank_sum:])
    return min(1.0, 2 * min(below, above) / sum(ways))


def delong(score_MN: Array, label_N: Array, contrast_M: Sequence[float]) -> Contrast | None:
    """Σ_m contrast_m AUC_m over score vectors of the same rows (DeLong, DeLong & Clarke-Pearson 1988).

    Models over seeds: contrast 1/S for the S vectors of one model and -1/S for the other's. The components of the
    contrast are the contrast of the components, so no covariance matrix is needed: O(M N log N) (Sun & Xu 2014).
    None where a class has fewer than two rows.
    """
    positive_N = np.asarray(label_N) == 1
    positives, negatives = int(positive_N.sum()), int((~positive_N).sum())
    if min(positives, negatives) < 2:
        return None
    of_positives, of_negatives = np.zeros(positives), np.zeros(negatives)
    for score_N, factor in zip(np.asarray(score_MN, dtype=np.float64), contrast_M, strict=True):
        rank_N = midranks(score_N)
        positive_scores, negative_scores = score_N[positive_N], score_N[~positive_N]
        # A row's rank among all less its rank in its own class: the rows of the other class below it, ties half.
        of_positives += factor * (rank_N[positive_N] - midranks(positive_scores)) / negatives
        of_negatives += factor * (1 - (rank_N[~positive_N] - midranks(negative_scores)) / positives)
    variance = of_positives.var(ddof=1) / positives + of_negatives.var(ddof=1) / negatives
    return normal_contrast(float(of_positives.mean()), float(variance))


def delong_mean(
    score_MN: Array, label_N: Array, group_N: Array, num_groups: int, contrast_M: Sequence[float]
) -> Contrast | None:
    """The same for the mean AUC over groups (scenarios) with two rows of both classes; groups share no rows."""
    scores, labels, groups = np.asarray(score_MN), np.asarray(label_N), np.asarray(group_N)
    found = [delong(scores[:, groups == g], labels[groups == g], contrast_M) for g in range(num_groups)]
    known = [c for c in found if c is not None]
    if not known:
        return None
    variance = sum((c.standard_error or 0.0) ** 2 for c in known) / len(known) ** 2
    return normal_contrast(float(np.mean([c.estimate for c in known])), variance)


def percentile_contrast(estimate: float, difference_R: Floats) -> Contrast:
    """A contrast from the differences in R resamples: 2.5 and 97.5 percentile, p = twice the smaller tail's share."""
    known = difference_R[~np.isnan(difference_R)]
    if len(known) == 0:
        return Contrast(estimate=estimate, standard_error=None, low=None, high=None, p_value=None)
    low, high = (float(q) for q in np.quantile(known, (0.025, 0.975)))
    tail = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return Contrast(
        estimate=estimate,
        standard_error=float(known.std()),
        low=low,
        high=high,
        p_value=min(1.0, 2 * (1 + tail) / (1 + len(known))),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """p of each of several tests, raised so that all of them together err with the level chosen (Holm 1979)."""
    order = np.argsort(np.asarray(p_values))
    raised = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    out = np.empty(len(order))
    out[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return [float(p) for p in out]


def normal_contrast(estimate: float, variance: float) -> Contrast:
    """A contrast whose estimate is normally distributed."""
    error = math.sqrt(max(variance, 0.0))
    wide, p_value = Z_95 * error, _two_sided_p(estimate, error)
    return Contrast(estimate=estimate, standard_error=error, low=estimate - wide, high=estimate + wide, p_value=p_value)


def _two_sided_p(estimate: float, error: float) -> float:
    if error < ROUNDING:
        return 1.0 if abs(estimate) < ROUNDING else 0.0
    return math.erfc(abs(estimate) / error / math.sqrt(2))


def midranks(value_N: Array) -> Floats:
    """Their 1-based ranks [N]; equal values share the mean of theirs."""
    from scipy.stats import rankdata  # loads in most of a second

    ranks: Floats = rankdata(value_N)
    return ranks


def _subset_sums(whole_N: Ints, size: int) -> list[int]:
    """How many subsets of `size` values have each sum 0 .. all, as exact integers."""
    total = int(whole_N.sum())
    ways = [[0] * (total + 1) for _ in range(size + 1)]
    ways[0][0] = 1
    for number, value in enumerate(whole_N.tolist()):
        for taken in range(min(number + 1, size), 0, -1):
            before = ways[taken - 1]
            ways[taken] = [w + (before[s - value] if s >= value else 0) for s, w in enumerate(ways[taken])]
    return ways[size]
