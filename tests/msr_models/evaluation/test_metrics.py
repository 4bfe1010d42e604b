"""Metrics against scikit-learn, loops and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from msr_models.evaluation.metrics import (
    GroupedAuc,
    grouped_auc,
    logloss,
    mean_scenario_auc,
    scenario_metrics,
    session_ids,
)


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


def test_one_row_of_a_class_has_no_interval_whatever_the_rounding() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(200), np.arange(3, 203))
    for lone in (0, 1):
        label = np.full(len(group), 1 - lone)
        label[np.cumsum(np.arange(3, 203)) - 1] = lone
        got = grouped_auc(rng.random(len(group)), label, group, 200)
        assert not np.isnan(got.auc_G).any() and np.isnan(got.low_G).all() and np.isnan(got.high_G).all()


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


def test_without_positives_there_is_a_logloss_and_no_calibration() -> None:
    prob, label, scenario = np.array([0.2, 0.4, 0.9]), np.array([0, 0, 1]), np.array([0, 0, 1])
    nothing_positive = scenario_metrics(prob, label, scenario, scenario, 2)[0]
    assert nothing_positive.calibration is None and nothing_positive.positives == 0
    assert nothing_positive.logloss == pytest.approx(log_loss([0, 0], [0.2, 0.4], labels=[0, 1]), rel=1e-12)


def test_a_session_is_a_user_on_a_day() -> None:
    ids = session_ids(np.array([0, 0, 1, 1, 0]), np.array([-7, 5, -7, -7, -7]))
    assert ids[0] == ids[4] and ids[2] == ids[3] and len(set(ids.tolist())) == 3


def fields(auc: GroupedAuc) -> list[np.ndarray]:
    return [getattr(auc, name) for name in GroupedAuc.__dataclass_fields__]


def assert_same_bits(got: GroupedAuc, want: GroupedAuc) -> None:
    assert [a.tobytes() for a in fields(got)] == [a.tobytes() for a in fields(want)]


@pytest.mark.parametrize("ties", [False, True])
def test_many_groups_some_empty_some_of_one_row_or_one_class_equal_scikit_learn(ties: bool) -> None:
    prob, label, _, _ = sample(11, 1500, ties=ties)
    group = np.minimum(np.random.default_rng(1).geometric(0.006, 1500), 600) - 1
    got = grouped_auc(prob, label, group, np.int64(600))  # type: ignore[arg-type]  # a count of numpy's works too
    seen = set()
    for g in range(600):
        y, p = label[group == g], prob[group == g]
        both = 0 < y.sum() < len(y)
        seen.add("both" if both else "empty" if len(y) == 0 else "one row" if len(y) == 1 else "one class")
        assert got.rows_G[g] == len(y) and got.positives_G[g] == y.sum()
        assert got.auc_G[g] == pytest.approx(roc_auc_score(y, p) if both else np.nan, abs=1e-12, nan_ok=True)
    assert seen == {"both", "empty", "one row", "one class"}


@pytest.mark.parametrize("ties", [False, True])
def test_the_order_of_the_rows_changes_no_bit(ties: bool) -> None:
    prob, label, scenario, session = sample(7, 3000, ties=ties)
    shuffled = np.random.default_rng(3).permutation(3000)
    for group, count in ((scenario, 4), (session, 40)):
        want = grouped_auc(prob, label, group, count)
        assert_same_bits(grouped_auc(prob[shuffled], label[shuffled], group[shuffled], count), want)
    moved = scenario_metrics(prob[shuffled], label[shuffled], scenario[shuffled], session[shuffled], 4)
    assert moved == scenario_metrics(prob, label, scenario, session, 4)


@pytest.mark.parametrize("ties", [False, True])
def test_an_increasing_function_of_the_scores_changes_no_bit(ties: bool) -> None:
    prob, label, _, session = sample(8, 2000, ties=ties)
    want = grouped_auc(prob, label, session, 40)
    for score in (8 * prob - 20, np.exp(prob), prob.astype(np.float64) * 2.0**-1000):
        assert_same_bits(grouped_auc(score, label, session, 40), want)


def test_reversed_scores_and_labels_keep_auc_and_interval() -> None:
    prob, label, group, _ = sample(9, 900, ties=True)
    want, got = grouped_auc(prob, label, group, 4), grouped_auc(-prob, 1 - label, group, 4)
    for a, b in zip(fields(got)[:3], fields(want)[:3], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_scores_one_step_apart_are_no_tie_and_zeros_of_both_signs_are_one() -> None:
    score = np.array([0.3, np.nextafter(0.3, 1), 0.0, -0.0])
    got = grouped_auc(score, np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1]), 2)
    assert got.auc_G.tolist() == [1.0, 0.5]


def test_nan_scores_are_the_highest_and_tied_and_have_no_logloss() -> None:
    prob, label = np.array([np.nan, 0.5, 0.1, np.nan]), np.array([1, 0, 1, 0])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        got = grouped_auc(prob[order], label[order], np.zeros(4, dtype=int), 1)
        assert got.auc_G[0] == pytest.approx((0.5 + 1 + 0 + 0) / 4)  # pairs: nan-nan, nan > .5, .1 < .5, .1 < nan
    together = scenario_metrics(prob, label, np.zeros(4, dtype=int), np.zeros(4, dtype=int), 1)[-1]
    assert together.logloss is None and together.calibration is None


def test_no_rows_have_no_metrics() -> None:
    none, ids = np.zeros(0), np.zeros(0, dtype=np.int64)
    got = grouped_auc(none, ids, ids, 2)
    assert np.isnan(got.auc_G).all() and got.rows_G.tolist() == [0, 0]
    assert mean_scenario_auc(none, ids, ids, 2) is None and session_ids(ids, ids).tolist() == []
    metrics = scenario_metrics(none, ids, ids, ids, 2)
    assert [m.scenario_id for m in metrics] == [0, 1, -1]
    assert all((m.rows, m.auc, m.logloss, m.calibration, m.s_gauc) == (0, None, None, None, None) for m in metrics)


@pytest.mark.parametrize("group", [-1, 2])
def test_a_group_out_of_range_is_refused(group: int) -> None:
    with pytest.raises(ValueError, match=r"are not all in 0 \.\. 1"):
        grouped_auc(np.array([0.1, 0.2]), np.array([0, 1]), np.array([0, group]), 2)


def test_names_of_sessions_do_not_matter() -> None:
    prob, label, scenario, session = sample(4, 800, ties=True)
    want = scenario_metrics(prob, label, scenario, session, 4)
    for renamed in (session - 25, session * 2**57 - 2**62, np.random.default_rng(0).permutation(10**5)[session]):
        for got, expected in zip(scenario_metrics(prob, label, scenario, renamed, 4), want, strict=True):
            assert got.s_gauc == pytest.approx(expected.s_gauc, rel=1e-12)
            assert got.s_gauc_sessions == expected.s_gauc_sessions and got.auc == expected.auc


@pytest.mark.parametrize("user_range", [30, 2**63 - 1])
def test_session_ids_are_dense_and_ordered_by_day_then_user(user_range: int) -> None:
    rng = np.random.default_rng(2)
    users = rng.integers(-user_range, user_range, 60)
    day, user = rng.integers(0, 3, 900), users[rng.integers(0, 60, 900)]
    pairs = sorted(set(zip(day.tolist(), user.tolist(), strict=True)))
    want = [pairs.index(pair) for pair in zip(day.tolist(), user.tolist(), strict=True)]
    assert session_ids(day, user).tolist() == want
