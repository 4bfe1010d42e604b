"""The bootstrap over users against resamples that are written out row by row."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from msr_models.evaluation.metrics import scenario_metrics
from msr_models.evaluation.user_bootstrap import UserBootstrap

ROWS, USERS, SCENARIOS = 400, 30, 3


def _log(seed: int = 0, ties: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    user, scenario = rng.integers(0, USERS, ROWS) * 1_000_003, rng.integers(0, SCENARIOS, ROWS)
    score = rng.normal(size=ROWS)
    label = (rng.random(ROWS) < 1 / (1 + np.exp(-score))).astype(int)
    return user, label, scenario, np.round(score, 1) if ties else score


@pytest.mark.parametrize("ties", [True, False])
def test_a_replicate_equals_the_metrics_of_the_rows_drawn(ties: bool) -> None:
    user, label, scenario, score = _log(ties=ties)
    boot = UserBootstrap(user, label, scenario, num_scenarios=SCENARIOS, resamples=5, seed=3)
    got = boot.replicates(score)
    ids = np.unique(user)
    for r in range(5):
        times = boot.weights(r)
        assert times.sum() == len(ids)
        copies = [(u, c) for u, n in zip(ids, times.astype(int), strict=True) for c in range(n)]
        rows = np.concatenate([np.flatnonzero(user == u) for u, _ in copies])
        person = np.concatenate([np.full((user == u).sum(), n) for n, (u, _) in enumerate(copies)])
        for k in range(SCENARIOS):
            here = rows[scenario[rows] == k]
            assert got[r, k] == pytest.approx(roc_auc_score(label[here], score[here]), abs=1e-12)
        all_rows = scenario_metrics(score[rows], label[rows], scenario[rows], person, SCENARIOS)[-1]
        want = [all_rows.mean_scenario_auc, all_rows.auc, all_rows.s_gauc]
        assert got[r, SCENARIOS:].tolist() == pytest.approx(want, abs=1e-12)


def test_every_vector_sees_the_same_resamples_and_the_seed_decides_them() -> None:
    user, label, scenario, score = _log()
    boot = UserBootstrap(user, label, scenario, num_scenarios=SCENARIOS, resamples=20, seed=1)
    assert np.array_equal(boot.replicates(score), boot.replicates(2 * score + 1)), "AUC knows ranks only"
    other = UserBootstrap(user, label, scenario, num_scenarios=SCENARIOS, resamples=20, seed=2)
    assert not np.array_equal(boot.replicates(score), other.replicates(score))


def test_rows_of_one_user_move_together() -> None:
    """Copies of a user's row are no new evidence: the spread is that of the users."""
    user, label, scenario, score = _log(ties=False)
    rows = np.repeat(np.arange(ROWS), 10)
    once = UserBootstrap(user, label, scenario, num_scenarios=SCENARIOS, resamples=200, seed=1).replicates(score)
    tenfold = UserBootstrap(user[rows], label[rows], scenario[rows], num_scenarios=SCENARIOS, resamples=200, seed=1)
    np.testing.assert_allclose(tenfold.replicates(score[rows]), once, atol=1e-12)


def test_a_scenario_without_rows_or_with_one_class_has_no_replicates() -> None:
    user, label, scenario, score = _log()
    label[scenario == 1] = 0
    boot = UserBootstrap(user, label, scenario, num_scenarios=4, resamples=10, seed=1)
    got = boot.replicates(score)
    assert np.isnan(got[:, 1]).all() and np.isnan(got[:, 3]).all()
    np.testing.assert_allclose(got[:, 4], got[:, [0, 2]].mean(1))
