"""Exact AUC with its DeLong interval, logloss, calibration and S-GAUC, per group by one sort, no loop over groups.

Suffixes: N rows, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class GroupedAuc:
    """AUC of each group (NaN where it has one class), its 95 % DeLong interval (NaN where a class has one row)."""

    auc_G: Floats
    low_G: Floats
    high_G: Floats
    rows_G: Ints
    positives_G: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioMetrics:
    """Metrics of one scenario, or of all rows (scenario_id -1); None where the rows do not define them."""

    scenario_id: int
    rows: int
    positives: int
    auc: float | None
    auc_low: float | None
    auc_high: float | None
    mean_scenario_auc: float | None
    single_class_scenarios: int
    logloss: float | None
    calibration: float | None
    s_gauc: float | None
    s_gauc_sessions: int


def grouped_auc(prob_N: Array, label_N: Array, group_N: Array, num_groups: int) -> GroupedAuc:
    """AUC = P(positive scores above negative) + P(tie) / 2 in each group 0 .. num_groups - 1.

    DeLong's variance: var(V10) / positives + var(V01) / negatives, with V10, V01 each row's share of the other class
    that it beats, read off mid-ranks.
    """
    prob_N, label_N = np.asarray(prob_N, dtype=np.float64), np.asarray(label_N).astype(np.int64)
    group_N = np.asarray(group_N, dtype=np.int64)
    rows_G = np.bincount(group_N, minlength=num_groups)
    positives_G = np.bincount(group_N[label_N == 1], minlength=num_groups)
    order = np.lexsort((prob_N, group_N))
    prob, label, group = prob_N[order], label_N[order], group_N[order]
    beaten = _mid_ranks(prob, group)
    of_class = np.empty_like(beaten)
    for value in (0, 1):
        mine = label == value
        of_class[mine] = _mid_ranks(prob[mine], group[mine])
    # Rows of the other class that score lower (ties half): mid-rank among all minus mid-rank in the own class.
    beaten -= of_class
    negatives_G = rows_G - positives_G
    with np.errstate(divide="ignore", invalid="ignore"):
        share = beaten / np.where(label == 1, negatives_G[group], positives_G[group])
        sums_GC = np.bincount(group * 2 + label, weights=share, minlength=2 * num_groups).reshape(-1, 2)
        auc_G = np.where(negatives_G > 0, sums_GC[:, 1] / positives_G, np.nan)
        mean = np.where(label == 1, auc_G[group], 1.0 - auc_G[group])
        squares_GC = np.bincount(group * 2 + label, weights=(share - mean) ** 2, minlength=2 * num_groups).reshape(
            -1, 2
        )
        variance_G = (
            squares_GC[:, 1] / (positives_G - 1) / positives_G + squares_GC[:, 0] / (negatives_G - 1) / negatives_G
        )
    half_G = Z_95 * np.sqrt(np.where((positives_G > 1) & (negatives_G > 1), variance_G, np.nan))
    return GroupedAuc(auc_G, np.maximum(auc_G - half_G, 0.0), np.minimum(auc_G + half_G, 1.0), rows_G, positives_G)


def _mid_ranks(value: Floats, group: Ints) -> Floats:
    """1-based ranks within each group, ties averaged, of rows sorted by (group, value)."""
    if len(value) == 0:
        return np.zeros(0)
    place = np.arange(len(value))
    new_group = np.r_[True, group[1:] != group[:-1]]
    new_run = new_group | np.r_[True, value[1:] != value[:-1]]
    run = np.cumsum(new_run) - 1
    run_start = np.flatnonzero(new_run)
    run_end = np.r_[run_start[1:], len(value)]
    group_start = np.maximum.accumulate(np.where(new_group, place, 0))
    rank: Floats = (run_start[run] + run_end[run] + 1) / 2.0 - group_start
    return rank


def session_ids(day_N: Array, user_key_N: Array) -> Ints:
    """Dense ids of sessions, one per (day, user)."""
    _, user_N = np.unique(user_key_N, return_inverse=True)
    _, day_index_N = np.unique(day_N, return_inverse=True)
    _, session_N = np.unique(day_index_N.astype(np.int64) * (user_N.max(initial=0) + 1) + user_N, return_inverse=True)
    return np.asarray(session_N, dtype=np.int64)


def scenario_metrics(
    prob_N: Array, label_N: Array, scenario_N: Array, session_N: Array, num_scenarios: int
) -> list[ScenarioMetrics]:
    """Metrics of each scenario 0 .. num_scenarios - 1 and, last, of all rows together (scenario_id -1)."""
    prob_N, label_N = np.asarray(prob_N, dtype=np.float64), np.asarray(label_N).astype(np.int64)
    scenario_N, all_N = np.asarray(scenario_N, dtype=np.int64), np.zeros(len(label_N), dtype=np.int64)
    each = _metrics(prob_N, label_N, scenario_N, session_N, list(range(num_scenarios)))
    (together,) = _metrics(prob_N, label_N, all_N, session_N, [-1])
    known = [m.auc for m in each if m.auc is not None]
    counts = {
        "mean_scenario_auc": float(np.mean(known)) if known else None,
        "single_class_scenarios": len(each) - len(known),
    }
    return [*each, ScenarioMetrics(**(_as_dict(together) | counts))]


def mean_scenario_auc(prob_N: Array, label_N: Array, scenario_N: Array, num_scenarios: int) -> float | None:
    """Mean AUC over the scenarios that have both classes; None where none has."""
    auc_K = grouped_auc(prob_N, label_N, scenario_N, num_scenarios).auc_G
    known = auc_K[~np.isnan(auc_K)]
    return float(known.mean()) if len(known) else None


def logloss(prob_N: Array, label_N: Array) -> float | None:
    """Mean cross entropy in nats; probabilities are kept one float64 step away from 0 and 1. None without rows."""
    return (
        float(_cross_entropy(np.asarray(prob_N, dtype=np.float64), np.asarray(label_N)).mean()) if len(prob_N) else None
    )


def _cross_entropy(prob_N: Floats, label_N: Array) -> Floats:
    step = np.finfo(np.float64).eps
    prob_N = np.clip(prob_N, step, 1 - step)
    return -np.log(np.where(label_N == 1, prob_N, 1 - prob_N))


def _metrics(
    prob_N: Floats, label_N: Ints, group_N: Ints, session_N: Array, scenario_ids: Sequence[int]
) -> list[ScenarioMetrics]:
    groups = len(scenario_ids)
    auc = grouped_auc(prob_N, label_N, group_N, groups)
    loss_G = np.bincount(group_N, weights=_cross_entropy(prob_N, label_N), minlength=groups)
    probs_G = np.bincount(group_N, weights=prob_N, minlength=groups)
    s_gauc_G, sessions_G = _session_auc(prob_N, label_N, group_N, session_N, groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_loss_G, calibration_G = loss_G / auc.rows_G, probs_G / auc.positives_G
    return [
        ScenarioMetrics(
            scenario_id=scenario_ids[g],
            rows=int(auc.rows_G[g]),
            positives=int(auc.positives_G[g]),
            auc=_known(auc.auc_G[g]),
            auc_low=_known(auc.low_G[g]),
            auc_high=_known(auc.high_G[g]),
            mean_scenario_auc=None,
            single_class_scenarios=int(np.isnan(auc.auc_G[g])),
            logloss=_known(mean_loss_G[g]),
            calibration=_known(calibration_G[g]) if auc.positives_G[g] else None,
            s_gauc=_known(s_gauc_G[g]),
            s_gauc_sessions=int(sessions_G[g]),
        )
        for g in range(groups)
    ]


def _session_auc(prob_N: Floats, label_N: Ints, group_N: Ints, session_N: Array, groups: int) -> tuple[Floats, Ints]:
    """(S-GAUC, sessions with both classes) of each group: Σ impressions_i AUC_i / Σ impressions_i over sessions."""
    width = int(session_N.max(initial=0)) + 1
    keys, session_of_group_N = np.unique(group_N * width + session_N, return_inverse=True)
    auc = grouped_auc(prob_N, label_N, session_of_group_N, len(keys))
    both = ~np.isnan(auc.auc_G)
    group_of_session, weight = keys[both] // width, auc.rows_G[both].astype(np.float64)
    total_G = np.bincount(group_of_session, weights=weight, minlength=groups)
    sum_G = np.bincount(group_of_session, weights=weight * auc.auc_G[both], minlength=groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        return sum_G / total_G, np.bincount(group_of_session, minlength=groups)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _as_dict(metrics: ScenarioMetrics) -> dict[str, Any]:
    return {name: getattr(metrics, name) for name in ScenarioMetrics.__dataclass_fields__}
