"""Paired gains: estimates of scikit-learn, intervals of DeLong and of a bootstrap over users."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from msr_models.evaluation.gains import ALL_ROWS, MEAN, PairedGain, paired_gains
from msr_models.evaluation.significance import delong, delong_mean
from msr_models.evaluation.user_bootstrap import UserBootstrap

K = 3


def rows(count: int, users: int, seed: int = 0) -> tuple[Any, Any, Any, Any, Any]:
    """(prob, baseline, label, scenario, user) of two models on the same rows; users differ in what both miss."""
    rng = np.random.default_rng(seed)
    user, scenario = rng.integers(0, users, count), rng.choice(K, count, p=(0.6, 0.3, 0.1))
    truth = rng.normal(0, 1, count) + rng.normal(0, 1, users)[user]
    ours, theirs = truth + rng.normal(0, 1, count), truth + rng.normal(0, 1, users)[user] + rng.normal(0, 1, count)
    label = (rng.random(count) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    return 1 / (1 + np.exp(-ours)), 1 / (1 + np.exp(-theirs)), label, scenario, user


def by_place(gains: list[PairedGain]) -> dict[tuple[str, int], PairedGain]:
    return {(gain.metric, gain.scenario_id): gain for gain in gains}


def test_values_are_scikit_learns_and_positive_is_better() -> None:
    ours, theirs, label, scenario, user = rows(4000, 500)
    found = by_place(paired_gains(ours, theirs, label, scenario, user, K))
    for k in range(K):
        here = scenario == k
        auc, loss = found["auc", k], found["logloss", k]
        assert auc.value == pytest.approx(roc_auc_score(label[here], ours[here]), abs=1e-12)
        assert auc.baseline == pytest.approx(roc_auc_score(label[here], theirs[here]), abs=1e-12)
        assert loss.value == pytest.approx(log_loss(label[here], ours[here]), rel=1e-12)
        assert auc.contrast.estimate == pytest.approx(auc.value - auc.baseline) and auc.contrast.estimate > 0
        assert loss.contrast.estimate == pytest.approx(loss.baseline - loss.value) and loss.contrast.estimate > 0
    for metric in ("auc", "logloss"):
        mean = np.mean([found[metric, k].contrast.estimate for k in range(K)])
        assert found[metric, MEAN].contrast.estimate == pytest.approx(mean)
    assert found["auc", ALL_ROWS].value == pytest.approx(roc_auc_score(label, ours), abs=1e-12)


def test_rows_of_different_users_give_delongs_interval_and_the_t_tests_error() -> None:
    ours, theirs, label, scenario, _ = rows(4000, 500)
    found = by_place(paired_gains(ours, theirs, label, scenario, np.arange(4000), K))
    scores = np.stack([ours, theirs])
    expected = delong(scores[:, scenario == 1], label[scenario == 1], [1, -1])
    mean = delong_mean(scores, label, scenario, K, [1, -1])
    assert expected is not None and mean is not None
    assert found["auc", 1].contrast.standard_error == pytest.approx(expected.standard_error, rel=2e-3)
    assert found["auc", 1].contrast.estimate == pytest.approx(expected.estimate, abs=1e-12)
    assert found["auc", MEAN].contrast.standard_error == pytest.approx(mean.standard_error, rel=5e-3)
    loss = -np.log(np.where(label == 1, theirs, 1 - theirs)) + np.log(np.where(label == 1, ours, 1 - ours))
    error = loss.std(ddof=1) / np.sqrt(4000)
    assert found["logloss", ALL_ROWS].contrast.standard_error == pytest.approx(error, rel=1e-9)


def test_users_who_repeat_widen_the_interval_as_in_a_bootstrap_over_users() -> None:
    ours, theirs, label, scenario, user = rows(6000, 150)
    found = by_place(paired_gains(ours, theirs, label, scenario, user, K))
    boot = UserBootstrap(user, label, scenario, num_scenarios=K, resamples=600, seed=1)
    spread = (boot.replicates(ours) - boot.replicates(theirs)).std(axis=0)
    for column, place in ((0, 0), (1, 1), (2, 2), (3, MEAN), (4, ALL_ROWS)):
        assert found["auc", place].contrast.standard_error == pytest.approx(spread[column], rel=0.1)
    naive = by_place(paired_gains(ours, theirs, label, scenario, np.arange(6000), K))
    wide, narrow = (g["auc", ALL_ROWS].contrast.standard_error for g in (found, naive))
    assert wide is not None and narrow is not None and wide > 1.3 * narrow


def test_a_model_gains_nothing_over_itself() -> None:
    ours, _, label, scenario, user = rows(500, 50)
    for gain in paired_gains(ours, ours, label, scenario, user, K):
        assert (gain.contrast.estimate, gain.contrast.low, gain.contrast.high, gain.contrast.p_value) == (0, 0, 0, 1)


def test_what_rows_do_not_define_is_left_out() -> None:
    ours, theirs, label, scenario, user = rows(600, 60)
    label[scenario == 2] = 0
    scenario[scenario == 1] = 0
    found = by_place(paired_gains(ours, theirs, label, scenario, user, K))
    assert {k for m, k in found if m == "auc"} == {0, MEAN, ALL_ROWS}
    assert {k for m, k in found if m == "logloss"} == {0, 2, MEAN, ALL_ROWS}
    assert found["auc", MEAN].contrast == found["auc", 0].contrast
    assert paired_gains(ours, theirs, label, scenario, np.zeros(600), K) == [], "one user is no sample of users"
    none = slice(0, 0)
    assert paired_gains(ours[none], theirs[none], label[none], scenario[none], user[none], K) == []
