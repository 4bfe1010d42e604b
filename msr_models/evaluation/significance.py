"""Is one model better than another? DeLong's test, the Mann-Whitney U test, a paired bootstrap over users, t-intervals.

DeLong and the bootstrap compare predictions for the same rows (DeLong takes rows as independent, the bootstrap users);
the t-interval and the U test compare one number per seed. None of them corrects for the number of comparisons made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msr_models.evaluation.blocks import Array, Floats, Ints, weighted_rows
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


def delong(
    score_MN: Array, label_N: Array, contrast_M: Sequence[float], weight_N: Array | None = None
) -> Contrast | None:
    """Σ_m contrast_m AUC_m over score vectors of the same rows (DeLong, DeLong & Clarke-Pearson 1988).

    Models over seeds: contrast 1/S for the S vectors of one model and -1/S for the other's. The components of the
    contrast are the contrast of the components, so no covariance matrix is needed: O(M N log N) (Sun & Xu 2014).
    Weights: as in `metrics.grouped_auc`. None where a class has fewer than two rows.
    """
    weight_N, (label_N, columns_NM) = weighted_rows(weight_N, label_N, np.asarray(score_MN, dtype=np.float64).T)
    score_MN, positive_N = np.ascontiguousarray(columns_NM.T), np.asarray(label_N) == 1
    positives, negatives = int(positive_N.sum()), int((~positive_N).sum())
    if min(positives, negatives) < 2:
        return None
    of_positives, of_negatives = np.zeros(positives), np.zeros(negatives)
    for score_N, factor in zip(score_MN, contrast_M, strict=True):
        below_P, beaten_M = shares_beaten(score_N, positive_N, weight_N)
        of_positives += factor * below_P
        of_negatives += factor * beaten_M
    if weight_N is None:
        variance = of_positives.var(ddof=1) / positives + of_negatives.var(ddof=1) / negatives
        return normal_contrast(float(of_positives.mean()), float(variance))
    own_P, own_M = weight_N[positive_N], weight_N[~positive_N]
    variance = _variance_of_mean(of_positives, own_P) + _variance_of_mean(of_negatives, own_M)
    return normal_contrast(float(own_P @ of_positives / own_P.sum()), variance)


def shares_beaten(score_N: Floats, positive_N: Array, weight_N: Floats | None) -> tuple[Floats, Floats]:
    """([P] of each positive, [M] of each negative): the share of the other class that it is ranked rightly against.

    Ties count half; with weights it is a share of the other class's weight.
    """
    scores = score_N[positive_N], score_N[~positive_N]
    if weight_N is not None:
        below_P = _weight_below(scores[0], scores[1], weight_N[~positive_N])
        return below_P, 1 - _weight_below(scores[1], scores[0], weight_N[positive_N])
    # A row's rank among all less its rank in its own class: the rows of the other class below it, ties half.
    rank_N = midranks(score_N)
    below_P = (rank_N[positive_N] - midranks(scores[0])) / len(scores[1])
    return below_P, 1 - (rank_N[~positive_N] - midranks(scores[1])) / len(scores[0])


def _weight_below(score_N: Floats, other_M: Floats, weight_M: Floats) -> Floats:
    """Share of the others' weight that lies below each score, ties half."""
    order_M = np.lexsort((weight_M, other_M))
    up_to = np.concatenate([[0.0], np.cumsum(weight_M[order_M])])
    low_N, high_N = (np.searchsorted(other_M[order_M], score_N, side=side) for side in ("left", "right"))
    return np.asarray((up_to[low_N] + up_to[high_N]) / 2 / up_to[-1])


def _variance_of_mean(value_N: Floats, weight_N: Floats) -> float:
    """Of Σ w v / Σ w over independent rows, one draw each whatever its weight."""
    count, share_N = len(value_N), weight_N / weight_N.sum()
    return float(count / (count - 1) * ((share_N * (value_N - share_N @ value_N)) ** 2).sum())


def delong_mean(
    score_MN: Array,
    label_N: Array,
    group_N: Array,
    num_groups: int,
    contrast_M: Sequence[float],
    weight_N: Array | None = None,
) -> Contrast | None:
    """The same for the mean AUC over groups (scenarios) with two rows of both classes; groups share no rows."""
    scores, labels, groups = np.asarray(score_MN), np.asarray(label_N), np.asarray(group_N)
    here = [groups == g for g in range(num_groups)]
    weights = [None if weight_N is None else np.asarray(weight_N)[rows] for rows in here]
    found = [delong(scores[:, r], labels[r], contrast_M, w) for r, w in zip(here, weights, strict=True)]
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
