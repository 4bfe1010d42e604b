"""Metrics against scikit-learn, loops and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from msr_models.evaluation.metrics import grouped_auc, logloss, mean_scenario_auc, scenario_metrics, session_ids


def sample(seed: int, rows: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    prob = rng.random(rows)
    prob = np.round(prob, 1) * 0.98 + 0.01 if ties else prob
    label = (rng.random(rows) < prob).astype(np.int32)
    return prob, label, rng.integers(0, 4, rows), rng.integers(0, 40, rows)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_auc_per_group_equals_scikit_learn(seed: int, ties: bool) -> None:
    prob, label, group, _ = sample(seed, 700, ties=ties)
    got = grouped_auc(prob, label, group, 4)
    want = [roc_auc_score(label[group == g], prob[group == g]) for g in range(4)]
    np.testing.assert_allclose(got.auc_G, want, rtol=0, atol=1e-12)
    assert got.rows_G.tolist() == np.bincount(group).tolist()
    assert got.positives_G.tolist() == np.bincount(group, weights=label).astype(int).tolist()


@pytest.mark.parametrize("ties", [False, True])
def test_interval_is_delongs(ties: bool) -> None:
    prob, label, group, _ = sample(5, 400, ties=ties)
    got = grouped_auc(prob, label, group, 4)
    for g in range(4):
        pos, neg = prob[(group == g) & (label == 1)], prob[(group == g) & (label == 0)]
        wins = (pos[:, None] > neg).astype(float) + 0.5 * (pos[:, None] == neg)
        variance = wins.mean(1).var(ddof=1) / len(pos) + wins.mean(0).var(ddof=1) / len(neg)
        half = 1.959963984540054 * np.sqrt(variance)
        assert got.low_G[g] == pytest.approx(max(wins.mean() - half, 0), abs=1e-12)
        assert got.high_G[g] == pytest.approx(min(wins.mean() + half, 1), abs=1e-12)


def test_interval_covers_the_true_auc_about_95_times_in_100() -> None:
    # Positives N(1, 1), negatives N(0, 1): AUC = Φ(1/√2).
    rng = np.random.default_rng(0)
    groups, size = 1000, 60
    label = np.tile(np.arange(size) % 2, groups)
    got = grouped_auc(rng.normal(label, 1.0), label, np.repeat(np.arange(groups), size), groups)
    covered = np.mean((got.low_G <= 0.7602499) & (got.high_G >= 0.7602499))
    assert 0.92 < covered < 0.97


def test_one_class_has_no_auc_and_one_row_of_a_class_no_interval() -> None:
    got = grouped_auc(np.array([0.1, 0.2, 0.3, 0.4]), np.array([1, 1, 0, 1]), np.array([0, 0, 2, 2]), 3)
    assert np.isnan(got.auc_G).tolist() == [True, True, False]
    assert got.auc_G[2] == 1.0 and np.isnan(got.low_G[2])
    assert got.rows_G.tolist() == [2, 0, 2]


def test_logloss_equals_scikit_learn_and_is_finite_at_0_and_1() -> None:
    prob, label, _, _ = sample(1, 300, ties=False)
    assert logloss(prob, label) == pytest.approx(log_loss(label, prob), rel=1e-12)
    assert logloss(np.array([0.0, 1.0]), np.array([1, 0])) == pytest.approx(log_loss([1, 0], [0.0, 1.0]), rel=1e-6)
    assert logloss(np.zeros(0), np.zeros(0)) is None


@pytest.mark.parametrize("ties", [False, True])
def test_scenario_metrics_equal_a_loop(ties: bool) -> None:
    prob, label, scenario, session = sample(2, 600, ties=ties)
    got = {m.scenario_id: m for m in scenario_metrics(prob, label, scenario, session, 5)}
    assert sorted(got) == [-1, 0, 1, 2, 3, 4]
    for k, mask in {-1: scenario >= 0, **{k: scenario == k for k in range(4)}}.items():
        m = got[k]
        assert m.rows == mask.sum() and m.positives == label[mask].sum()
        assert m.auc == pytest.approx(roc_auc_score(label[mask], prob[mask]), abs=1e-12)
        assert m.logloss == pytest.approx(log_loss(label[mask], prob[mask]), rel=1e-12)
        assert m.calibration == pytest.approx(prob[mask].sum() / label[mask].sum(), rel=1e-12)
        weighted, rows, sessions = 0.0, 0, 0
        for s in np.unique(session[mask]):
            mine = mask & (session == s)
            if 0 < label[mine].sum() < mine.sum():
                weighted += mine.sum() * roc_auc_score(label[mine], prob[mine])
                rows, sessions = rows + mine.sum(), sessions + 1
        assert m.s_gauc == pytest.approx(weighted / rows, abs=1e-12) and m.s_gauc_sessions == sessions
    aucs = [roc_auc_score(label[scenario == k], prob[scenario == k]) for k in range(4)]
    assert got[-1].mean_scenario_auc == pytest.approx(np.mean(aucs), abs=1e-12)
    assert mean_scenario_auc(prob, label, scenario, 5) == pytest.approx(np.mean(aucs), abs=1e-12)


def test_an_empty_scenario_and_one_with_one_class_are_counted_not_averaged() -> None:
    prob, label = np.array([0.2, 0.8, 0.9, 0.7]), np.array([0, 1, 1, 1])
    metrics = scenario_metrics(prob, label, np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), 3)
    by_id = {m.scenario_id: m for m in metrics}
    assert by_id[1].auc is None and by_id[1].single_class_scenarios == 1 and by_id[1].calibration == pytest.approx(0.8)
    assert by_id[2].rows == 0 and by_id[2].logloss is None and by_id[2].calibration is None and by_id[2].s_gauc is None
    assert by_id[-1].mean_scenario_auc == 1.0 and by_id[-1].single_class_scenarios == 2
    assert mean_scenario_auc(prob, np.ones(4), np.zeros(4, dtype=int), 1) is None


def test_a_session_is_a_user_on_a_day() -> None:
    ids = session_ids(np.array([0, 0, 1, 1, 0]), np.array([-7, 5, -7, -7, -7]))
    assert ids[0] == ids[4] and ids[2] == ids[3] and len(set(ids.tolist())) == 3
