"""Exact AUC with its DeLong interval, logloss, calibration and S-GAUC, per group by one sort, no loop over groups.

All sums run over blocks (see blocks.py), so the order of the rows changes no bit of a result.

Rows may have weights: a row of weight 2 counts as the row twice, one of weight 0 as left out, and with weights of 1 the
results are the same bits as without. Counts of rows and positives stay counts. An interval takes a row for one draw,
whatever its weight: it is wider than that of the row twice, which would be two draws.
Suffixes: N rows, U different probabilities, B blocks, S groups that have rows, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from msr_models.evaluation.blocks import (
    Array,
    Blocks,
    Floats,
    Ints,
    RankedRows,
    dense_ids,
    make_blocks,
    narrow_ids,
    rank_rows,
    weighted_rows,
)

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


def grouped_auc(
    prob_N: Array, label_N: Array, group_N: Array, num_groups: int, weight_N: Array | None = None
) -> GroupedAuc:
    """AUC = P(positive scores above negative) + P(tie) / 2 in each group 0 .. num_groups - 1.

    prob_N may be any score; NaN counts as higher than all others and tied with NaN. label_N is 1 for a positive.
    DeLong's variance: var(V10) / positives + var(V01) / negatives, with V10, V01 each row's share of the other class
    that it beats; with weights a class's part is n / (n - 1) Σ w² (V - mean)² / (Σ w)² over its n rows. Raises
    ValueError where a group is not one of 0 .. num_groups - 1.
    """
    weight_N, (prob_N, label_N, group_N) = weighted_rows(weight_N, prob_N, label_N, group_N)
    return _grouped_auc(make_blocks(rank_rows(prob_N, label_N, weight_N), group_N, num_groups), num_groups)


def session_ids(day_N: Array, user_key_N: Array) -> Ints:
    """Dense ids of sessions, one per (day, user), ordered by day, then user; both columns are integers."""
    (day_index_N, _), (user_N, users) = dense_ids(day_N), dense_ids(user_key_N)
    return dense_ids(day_index_N * users + user_N)[0]


def scenario_metrics(
    prob_N: Array,
    label_N: Array,
    scenario_N: Array,
    session_N: Array,
    num_scenarios: int,
    weight_N: Array | None = None,
) -> list[ScenarioMetrics]:
    """Metrics of each scenario 0 .. num_scenarios - 1 and, last, of all rows together (scenario_id -1).

    session_N holds any integers, equal in the rows of one session. Raises ValueError where a scenario is not one of
    0 .. num_scenarios - 1.
    """
    weight_N, columns = weighted_rows(weight_N, prob_N, label_N, scenario_N, session_N)
    prob_N, label_N, scenario_N, session_N = columns
    ranked = rank_rows(prob_N, label_N, weight_N)
    scenario_N, session_N = np.asarray(scenario_N, dtype=np.int64), narrow_ids(session_N)
    each = _metrics(ranked, scenario_N, session_N, list(range(num_scenarios)))
    (together,) = _metrics(ranked, np.zeros(len(scenario_N), dtype=np.int64), session_N, [-1])
    known = [m.auc for m in each if m.auc is not None]
    counts = {
        "mean_scenario_auc": float(np.mean(known)) if known else None,
        "single_class_scenarios": len(each) - len(known),
    }
    return [*each, ScenarioMetrics(**(_as_dict(together) | counts))]


def mean_scenario_auc(
    prob_N: Array, label_N: Array, scenario_N: Array, num_scenarios: int, weight_N: Array | None = None
) -> float | None:
    """Mean AUC over the scenarios that have both classes; None where none has."""
    weight_N, (prob_N, label_N, scenario_N) = weighted_rows(weight_N, prob_N, label_N, scenario_N)
    auc_S = _auc(make_blocks(rank_rows(prob_N, label_N, weight_N), scenario_N, num_scenarios))
    known = auc_S[~np.isnan(auc_S)]
    return float(known.mean()) if len(known) else None


def logloss(prob_N: Array, label_N: Array, weight_N: Array | None = None) -> float | None:
    """Mean cross entropy in nats; probabilities are kept one float64 step away from 0 and 1. None without rows."""
    weight_N, (prob_N, label_N) = weighted_rows(weight_N, prob_N, label_N)
    if len(prob_N) == 0:
        return None
    loss_N = cross_entropy(np.asarray(prob_N, dtype=np.float64), np.asarray(label_N) == 1)
    return float(loss_N.mean() if weight_N is None else weight_N @ loss_N / weight_N.sum())


def cross_entropy(prob: Floats, positive: Array | bool) -> Floats:
    """Of each row, in nats; probabilities are kept one float64 step away from 0 and 1."""
    step = np.finfo(np.float64).eps
    prob = np.clip(prob, step, 1 - step)
    return -np.log(np.where(positive, prob, 1 - prob))


def _auc(blocks: Blocks) -> Floats:
    """AUC of each group that has rows, NaN where it has one class: pairs won, ties half, counted in integers."""
    if blocks.weights is not None:
        return _weighted_auc(blocks)
    negatives_B = blocks.rows_B - blocks.positives_B
    up_to_B = np.cumsum(negatives_B, dtype=np.int64)
    before_S = up_to_B[blocks.first_S] - negatives_B[blocks.first_S]
    positives_S, negatives_S = blocks.total_S(blocks.positives_B), blocks.total_S(negatives_B)
    # A positive wins twice per negative below and once per tied one; in place, for these arrays are long.
    twice_won_B = up_to_B
    twice_won_B *= 2
    twice_won_B -= negatives_B
    twice_won_B *= blocks.positives_B
    twice_won_S = blocks.total_S(twice_won_B) - 2 * before_S * positives_S
    with np.errstate(divide="ignore", invalid="ignore"):
        auc_S: Floats = twice_won_S / (2 * positives_S * negatives_S)
    return auc_S


def _weighted_auc(blocks: Blocks) -> Floats:
    """The same with weights: Σ over pairs won of the product of their weights, over that of all pairs."""
    positives_B, negatives_B = blocks.mass_positives_B, blocks.mass_negatives_B
    below_B = _share_below(blocks, negatives_B, blocks.total_S(negatives_B))
    with np.errstate(divide="ignore", invalid="ignore"):
        auc_S = blocks.total_S(positives_B * below_B) / blocks.total_S(positives_B)
    return np.asarray(np.clip(auc_S, 0, 1))


def _grouped_auc(blocks: Blocks, num_groups: int) -> GroupedAuc:
    auc_S, rows_S, positives_S = _auc(blocks), blocks.total_S(blocks.rows_B), blocks.total_S(blocks.positives_B)
    half_S = Z_95 * np.sqrt(_delong_variance(blocks, auc_S, positives_S, rows_S - positives_S))
    auc_G, low_G, high_G = (np.full(num_groups, np.nan) for _ in range(3))
    rows_G, positives_G = (np.zeros(num_groups, dtype=np.int64) for _ in range(2))
    here_S = blocks.group_S
    auc_G[here_S], low_G[here_S], high_G[here_S] = auc_S, np.maximum(auc_S - half_S, 0), np.minimum(auc_S + half_S, 1)
    rows_G[here_S], positives_G[here_S] = rows_S, positives_S
    return GroupedAuc(auc_G, low_G, high_G, rows_G, positives_G)


def _delong_variance(blocks: Blocks, auc_S: Floats, positives_S: Ints, negatives_S: Ints) -> Floats:
    """Variance of each group's AUC; NaN where a class has fewer than two rows."""
    positives_B, negatives_B, weights = blocks.mass_positives_B, blocks.mass_negatives_B, blocks.weights
    squares = (positives_B, negatives_B)
    if weights is not None:
        squares = (weights.positive_squares_B, weights.negative_squares_B)
    masses = [blocks.total_S(each_B) for each_B in (positives_B, negatives_B)]
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [
            blocks.total_S(square_B * (_share_below(blocks, other_B, others_S) - blocks.of_group_B(mean_S)) ** 2)
            / (rows_S - 1)
            / rows_S
            * (rows_S / mass_S) ** 2
            for square_B, rows_S, mass_S, other_B, others_S, mean_S in (
                (squares[0], positives_S, masses[0], negatives_B, masses[1], auc_S),
                (squares[1], negatives_S, masses[1], positives_B, masses[0], 1 - auc_S),
            )
        ]
    return np.where((positives_S > 1) & (negatives_S > 1), parts[0] + parts[1], np.nan)


def _share_below(blocks: Blocks, class_B: Array, of_class_S: Array) -> Floats:
    """Share of a class's rows that score below each block in its group, ties half."""
    up_to_B = np.cumsum(class_B, dtype=class_B.dtype if class_B.dtype.kind == "f" else np.int64)
    before_S = up_to_B[blocks.first_S] - class_B[blocks.first_S]
    below_B = up_to_B - class_B / 2
    below_B -= blocks.of_group_B(before_S)
    with np.errstate(divide="ignore", invalid="ignore"):
        below_B /= blocks.of_group_B(of_class_S)
    return below_B


def _metrics(ranked: RankedRows, group_N: Ints, session_N: Ints, scenario_ids: Sequence[int]) -> list[ScenarioMetrics]:
    groups = len(scenario_ids)
    blocks = make_blocks(ranked, group_N, groups)
    auc = _grouped_auc(blocks, groups)
    loss_G, calibration_G = _loss_and_calibration(ranked.score_U, blocks, groups)
    s_gauc_G, sessions_G = _session_auc(ranked, group_N, session_N, groups)
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
            logloss=_known(loss_G[g]),
            calibration=_known(calibration_G[g]),
            s_gauc=_known(s_gauc_G[g]),
            s_gauc_sessions=int(sessions_G[g]),
        )
        for g in range(groups)
    ]


def _loss_and_calibration(prob_U: Floats, blocks: Blocks, groups: int) -> tuple[Floats, Floats]:
    """(mean cross entropy, Σ probabilities / positives) of each group; NaN without rows, without positives."""
    rank_B, positives_B, negatives_B = blocks.rank_B(), blocks.mass_positives_B, blocks.mass_negatives_B
    rows_B = positives_B + negatives_B
    loss_B = positives_B * cross_entropy(prob_U, True)[rank_B]
    loss_B += negatives_B * cross_entropy(prob_U, False)[rank_B]
    loss_G, calibration_G = np.full(groups, np.nan), np.full(groups, np.nan)
    positives_S = blocks.total_S(positives_B).astype(np.float64)
    positives_S[positives_S == 0] = np.nan
    loss_G[blocks.group_S] = blocks.total_S(loss_B) / blocks.total_S(rows_B)
    calibration_G[blocks.group_S] = blocks.total_S(rows_B * prob_U[rank_B]) / positives_S
    return loss_G, calibration_G


def _session_auc(ranked: RankedRows, group_N: Ints, session_N: Ints, groups: int) -> tuple[Floats, Ints]:
    """(S-GAUC, sessions with both classes) of each group: Σ impressions_i AUC_i / Σ impressions_i over sessions.

    A session's impressions are the sum of its rows' weights.
    """
    width = int(session_N.max(initial=0)) + 1
    blocks = make_blocks(ranked, group_N * width + session_N, groups * width)
    auc_S, rows_S = _auc(blocks), blocks.total_S(blocks.mass_positives_B + blocks.mass_negatives_B)
    both = ~np.isnan(auc_S)
    group_of_session, weight = blocks.group_S[both] // width, rows_S[both].astype(np.float64)
    total_G = np.bincount(group_of_session, weights=weight, minlength=groups)
    sum_G = np.bincount(group_of_session, weights=weight * auc_S[both], minlength=groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        return sum_G / total_G, np.bincount(group_of_session, minlength=groups)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _as_dict(metrics: ScenarioMetrics) -> dict[str, Any]:
    return {name: getattr(metrics, name) for name in ScenarioMetrics.__dataclass_fields__}
