"""How much better one model predicts the same rows than another, with intervals that know that users repeat.

A gain is positive where the model is better: AUC minus the baseline's, the baseline's logloss minus its own. Both are
sums of one small term per row (for AUC DeLong's components, Sun & Xu 2014), so that the variance is the sum over users
of the square of their rows' terms (the sandwich of independent clusters; for AUC Obuchowski 1997). O(N log N).
A row's weight is a factor of its term and of its part in means.

Suffixes: N rows, P positives, M negatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from msr_models.evaluation.blocks import Array, Floats, dense_ids, weighted_rows
from msr_models.evaluation.metrics import cross_entropy
from msr_models.evaluation.significance import Contrast, normal_contrast, shares_beaten

Metric = Literal["auc", "logloss"]
METRICS: tuple[Metric, ...] = ("auc", "logloss")
ALL_ROWS, MEAN = -1, -2  # in place of a scenario id: all rows together, the mean over scenarios


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedGain:
    """One metric of one scenario (or ALL_ROWS, MEAN) for a model and a baseline; contrast: of `value` - `baseline`,
    turned so that positive is better.
    """

    metric: Metric
    scenario_id: int
    value: float
    baseline: float
    contrast: Contrast


@dataclass(frozen=True, slots=True)
class _Part:
    """The metric of the rows at `rows` for both models, and each row's term: they sum to the estimate's error."""

    rows: Array
    value: float
    baseline: float
    term_N: Floats


def paired_gains(
    prob_N: Array,
    baseline_N: Array,
    label_N: Array,
    scenario_N: Array,
    user_N: Array,
    num_scenarios: int,
    weight_N: Array | None = None,
) -> list[PairedGain]:
    """Gains in AUC and logloss per scenario, of their mean (MEAN), and of all rows (ALL_ROWS).

    Left out: AUC where a class has fewer than two rows, both where rows are of fewer than two users. MEAN is over the
    scenarios that are there.
    """
    weight_N, columns = weighted_rows(weight_N, prob_N, baseline_N, label_N, scenario_N, user_N)
    prob_N, baseline_N, label_N, scenario_N, user_N = columns
    probs = np.asarray(prob_N, dtype=np.float64), np.asarray(baseline_N, dtype=np.float64)
    positive_N, (user_N, users) = np.asarray(label_N) == 1, dense_ids(user_N)
    order_N = np.argsort(scenario_N, kind="stable")
    first_K = np.searchsorted(np.asarray(scenario_N)[order_N], np.arange(num_scenarios + 1))
    groups = {k: order_N[start:end] for k, (start, end) in enumerate(pairwise(first_K.tolist()))}
    found = []
    for metric in METRICS:
        parts = dict(_parts(metric, probs, positive_N, weight_N, groups))
        whole = dict(_parts(metric, probs, positive_N, weight_N, {ALL_ROWS: order_N}))
        for scenario_id, part in (parts | _mean(parts) | whole).items():
            contrast = _contrast(metric, part, user_N[part.rows], users)
            if contrast is not None:
                found.append(
                    PairedGain(
                        metric=metric,
                        scenario_id=scenario_id,
                        value=part.value,
                        baseline=part.baseline,
                        contrast=contrast,
                    )
                )
    return found


def _parts(
    metric: Metric,
    probs: tuple[Floats, Floats],
    positive_N: Array,
    weight_N: Floats | None,
    groups: dict[int, Array],
) -> Iterator[tuple[int, _Part]]:
    part_of = _auc_part if metric == "auc" else _logloss_part
    for k, rows in groups.items():
        positives = int(positive_N[rows].sum())
        if min(positives, len(rows) - positives) >= 2 or (metric == "logloss" and len(rows)):
            weights = None if weight_N is None else weight_N[rows]
            yield k, part_of(rows, probs[0][rows], probs[1][rows], positive_N[rows], weights)


def _auc_part(rows: Array, prob_N: Floats, baseline_N: Floats, positive_N: Array, weight_N: Floats | None) -> _Part:
    share_N, other_N = (_share_beaten(each_N, positive_N, weight_N) for each_N in (prob_N, baseline_N))
    if weight_N is None:
        value, baseline = float(share_N[positive_N].mean()), float(other_N[positive_N].mean())
    else:
        own_N = weight_N[positive_N] / weight_N[positive_N].sum()
        value, baseline = float(own_N @ share_N[positive_N]), float(own_N @ other_N[positive_N])
    term_N = share_N - other_N - (value - baseline)
    if weight_N is None:
        term_N /= np.where(positive_N, positive_N.sum(), (~positive_N).sum())
    else:
        term_N *= weight_N / np.where(positive_N, weight_N[positive_N].sum(), weight_N[~positive_N].sum())
    return _Part(rows, value, baseline, term_N)


def _share_beaten(score_N: Floats, positive_N: Array, weight_N: Floats | None) -> Floats:
    """For each row, the share of the other class that it is ranked rightly against, ties half."""
    out_N = np.empty(len(score_N))
    out_N[positive_N], beaten_M = shares_beaten(score_N, positive_N, weight_N)
    out_N[~positive_N] = beaten_M
    return out_N


def _logloss_part(rows: Array, prob_N: Floats, baseline_N: Floats, positive_N: Array, weight_N: Floats | None) -> _Part:
    loss_N, other_N = cross_entropy(prob_N, positive_N), cross_entropy(baseline_N, positive_N)
    if weight_N is None:
        value, baseline = float(loss_N.mean()), float(other_N.mean())
        return _Part(rows, value, baseline, (loss_N - other_N - (value - baseline)) / len(rows))
    own_N = weight_N / weight_N.sum()
    value, baseline = float(own_N @ loss_N), float(own_N @ other_N)
    return _Part(rows, value, baseline, own_N * (loss_N - other_N - (value - baseline)))


def _mean(parts: dict[int, _Part]) -> dict[int, _Part]:
    if not parts:
        return {}
    each, count = list(parts.values()), len(parts)
    mean = _Part(
        rows=np.concatenate([part.rows for part in each]),
        value=float(np.mean([part.value for part in each])),
        baseline=float(np.mean([part.baseline for part in each])),
        term_N=np.concatenate([part.term_N for part in each]) / count,
    )
    return {MEAN: mean}


def _contrast(metric: Metric, part: _Part, user_N: Array, users: int) -> Contrast | None:
    here = int((np.bincount(user_N, minlength=users) > 0).sum())
    if here < 2:
        return None
    of_user_U = np.bincount(user_N, weights=part.term_N, minlength=users)
    variance = here / (here - 1) * float((of_user_U**2).sum())
    difference = part.value - part.baseline
    return normal_contrast(difference if metric == "auc" else -difference, variance)
