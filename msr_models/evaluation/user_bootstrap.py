"""AUC in resamples of the users: rows of one user are no independent draws, so users are drawn, not rows.

A resample gives every user a whole-number weight (how often it was drawn), and an AUC under row weights needs no new
sort: the rows are put in order once per score vector, and a resample costs a few passes over them. All score vectors
see the same resamples, so differences between models are paired.

Suffixes: N rows, U users, R resamples, B blocks (rows of one group and score), Q quantities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msr_models.evaluation.blocks import Array, Floats, Ints, dense_ids, weighted_rows
from msr_models.evaluation.metrics import grouped_auc


@dataclass(frozen=True, slots=True)
class _Ordered:
    """Rows sorted by (group, score): users of positives and of negatives, and where their blocks begin."""

    user_N: Ints
    positive_N: Floats
    weight_N: Floats | None
    first_B: Ints
    first_G: Ints
    """First block of each group."""


class UserBootstrap:
    """Replicates of [AUC per scenario, their mean, AUC of all rows, S-GAUC by user] for vectors of scores.

    The replicates depend on the users' ids only through their order, on the number of users and on `seed`.

    >>> boot = UserBootstrap(user_N, label_N, scenario_N, num_scenarios=3, resamples=1000, seed=0)
    >>> difference_R = boot.replicates(ours_N)[:, -1] - boot.replicates(theirs_N)[:, -1]
    """

    def __init__(
        self,
        user_N: Array,
        label_N: Array,
        scenario_N: Array,
        *,
        num_scenarios: int,
        resamples: int,
        seed: int,
        weight_N: Array | None = None,
    ) -> None:
        """weight_N: of the rows; those of weight 0, and users of no other row, are left out."""
        self._counted_N = None if weight_N is None else np.flatnonzero(weight_N)
        self.weight_N, (user_N, label_N, scenario_N) = weighted_rows(weight_N, user_N, label_N, scenario_N)
        self.user_N, self.num_users = dense_ids(user_N)
        self.label_N = np.asarray(label_N)
        self.scenario_N = np.asarray(scenario_N, dtype=np.int64)
        self.num_scenarios, self.resamples, self.seed = num_scenarios, resamples, seed

    def replicates(self, score_N: Array) -> Floats:
        """[R, Q]: AUC of each scenario, their mean, AUC of all rows, S-GAUC.

        NaN where a resample leaves a class without rows (the mean is over the scenarios that have an AUC).
        """
        score_N = np.asarray(score_N, dtype=np.float64)
        score_N = score_N if self._counted_N is None else score_N[self._counted_N]
        by_scenario = self._order(score_N, self.scenario_N, self.num_scenarios)
        together = self._order(score_N, np.zeros_like(self.scenario_N), 1)
        of_user = grouped_auc(score_N, self.label_N, self.user_N, self.num_users, self.weight_N)
        both_U = ~np.isnan(of_user.auc_G)
        rows_U = np.where(both_U, np.bincount(self.user_N, self.weight_N, self.num_users), 0).astype(np.float64)
        won_U = rows_U * np.where(both_U, of_user.auc_G, 0.0)
        out_RQ = np.full((self.resamples, self.num_scenarios + 3), np.nan)
        for r in range(self.resamples):
            weight_U = self.weights(r)
            auc_K = _weighted_auc(by_scenario, weight_U)
            out_RQ[r, : self.num_scenarios] = auc_K
            known = auc_K[~np.isnan(auc_K)]
            out_RQ[r, -3] = known.mean() if len(known) else np.nan
            out_RQ[r, -2] = _weighted_auc(together, weight_U)[0]
            rows = float(weight_U @ rows_U)
            out_RQ[r, -1] = float(weight_U @ won_U) / rows if rows else np.nan
        return out_RQ

    def weights(self, resample: int) -> Floats:
        """How often each user is drawn in a resample: multinomial, as many draws as there are users."""
        rng = np.random.default_rng([self.seed, resample])
        drawn = rng.integers(self.num_users, size=self.num_users)
        return np.bincount(drawn, minlength=self.num_users).astype(np.float64)

    def _order(self, score_N: Floats, group_N: Ints, num_groups: int) -> _Ordered:
        order_N = np.lexsort((score_N, group_N))
        group_N, score_N = group_N[order_N], score_N[order_N]
        new_N = np.ones(len(order_N), dtype=np.bool_)
        new_N[1:] = (group_N[1:] != group_N[:-1]) | (score_N[1:] != score_N[:-1])
        first_B = np.flatnonzero(new_N)
        first_G = np.searchsorted(group_N[first_B], np.arange(num_groups + 1))
        positive_N = (self.label_N[order_N] == 1).astype(np.float64)
        weight_N = None if self.weight_N is None else self.weight_N[order_N]
        return _Ordered(self.user_N[order_N], positive_N, weight_N, first_B, first_G)


def _weighted_auc(rows: _Ordered, weight_U: Floats) -> Floats:
    """AUC of each group when every row counts as often as its user was drawn."""
    weight_N = weight_U[rows.user_N] if rows.weight_N is None else weight_U[rows.user_N] * rows.weight_N
    positive_N = weight_N * rows.positive_N
    positive_B = np.add.reduceat(positive_N, rows.first_B)
    negative_B = np.add.reduceat(weight_N - positive_N, rows.first_B)
    # Counts from the start of all groups; a group's own are differences at its borders. Whole numbers are exact.
    negatives = np.concatenate([[0.0], np.cumsum(negative_B)])
    positives = np.concatenate([[0.0], np.cumsum(positive_B)])
    won = np.concatenate([[0.0], np.cumsum(positive_B * (negatives[:-1] + negative_B / 2))])
    start, end = rows.first_G[:-1], rows.first_G[1:]
    positive_G, negative_G = positives[end] - positives[start], negatives[end] - negatives[start]
    won_G = won[end] - won[start] - negatives[start] * positive_G
    with np.errstate(divide="ignore", invalid="ignore"):
        auc_G: Floats = won_G / (positive_G * negative_G)
    return auc_G
