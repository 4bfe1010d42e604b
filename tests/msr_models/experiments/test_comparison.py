"""Lines of a comparison: each number where it belongs, groups compared with their own base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from msr_models.evaluation.significance import delong
from msr_models.evaluation.user_bootstrap import UserBootstrap
from msr_models.experiments.comparison import Comparison, Line
from msr_models.experiments.planted_log import planted_split
from msr_models.experiments.runner import measure
from msr_models.experiments.split import Split
from msr_models.experiments.trials import Trial, TrialKey, TrialStore

NOISE = {"base": 2.0, "better": 1.0, "same": 2.0}


@pytest.fixture(scope="module")
def split() -> Split:
    return planted_split(rows=6_000, users=50, items=20, seed=0, name="planted")


def _cell(split: Split, folder: Path, group: str, seed: int) -> Trial:
    """A trial of made-up predictions: the label under noise."""
    # `same` is drawn like `base`, not equal to it
    rng = np.random.default_rng([list(NOISE).index(group), seed])
    label = split.test.label_N.numpy()
    probs = 1 / (1 + np.exp(-(label - 0.5 + NOISE[group] * rng.normal(size=len(label)))))
    record = {"test": measure(split, probs), "seed": seed}
    trial, _ = TrialStore(folder).get(
        TrialKey(label=group, settings={"seed": seed}, code="0"), lambda: (record, {"test_probs": probs})
    )
    return trial


@pytest.fixture(scope="module")
def groups(split: Split, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Trial]]:
    folder = tmp_path_factory.mktemp("trials")
    return {group: [_cell(split, folder, group, seed) for seed in (1, 2, 3)] for group in NOISE}


@pytest.fixture(scope="module")
def lines(split: Split, groups: dict[str, list[Trial]]) -> dict[tuple[str, str], Line]:
    made = Comparison(split, groups, dict.fromkeys(groups, "base"), resamples=100).lines()
    return {(line.group, line.metric): line for line in made}


def test_every_group_has_every_metric(split: Split, lines: dict[tuple[str, str], Line]) -> None:
    metrics = [*split.scenario_names, "mean", "all", "s_gauc", "logloss"]
    assert list(lines) == [(group, metric) for group in NOISE for metric in metrics]


def test_means_differences_and_intervals_over_seeds(
    split: Split, groups: dict[str, list[Trial]], lines: dict[tuple[str, str], Line]
) -> None:
    label, scenario = split.test.label_N.numpy(), split.test.scenario_N.numpy()

    def aucs(group: str, k: int) -> list[float]:
        here = scenario == k
        return [roc_auc_score(label[here], c.array("test_probs")[here]) for c in groups[group]]

    for k, name in enumerate(split.scenario_names):
        ours, theirs = aucs("better", k), aucs("base", k)
        line = lines["better", name]
        assert line.seeds == 3 and line.mean == pytest.approx(np.mean(ours))
        assert line.difference == pytest.approx(np.mean(ours) - np.mean(theirs))
        paired = stats.t.interval(0.95, 2, *_mean_and_error(np.subtract(ours, theirs)))
        assert (line.seeds_low, line.seeds_high) == pytest.approx(paired)
        assert (line.low, line.high) == pytest.approx(stats.t.interval(0.95, 2, *_mean_and_error(np.array(ours))))
        assert line.p_mann_whitney == pytest.approx(stats.mannwhitneyu(ours, theirs, method="exact").pvalue)
    mean = np.mean([np.mean(aucs("better", k)) for k in range(3)])
    assert lines["better", "mean"].mean == pytest.approx(mean)


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(stats.sem(values))


def test_delong_and_bootstrap_compare_the_means_over_seeds(
    split: Split, groups: dict[str, list[Trial]], lines: dict[tuple[str, str], Line]
) -> None:
    test = split.test
    label, scenario, user = test.label_N.numpy(), test.scenario_N.numpy(), test.user_key_N.numpy()
    probs = np.stack([c.array("test_probs") for g in ("better", "base") for c in groups[g]])
    contrast = [1 / 3] * 3 + [-1 / 3] * 3
    for metric, here in (("all", scenario >= 0), ("s1", scenario == 1)):
        want = delong(probs[:, here], label[here], contrast)
        assert want is not None and lines["better", metric].p_delong == pytest.approx(want.p_value)
    boot = UserBootstrap(user, label, scenario, num_scenarios=3, resamples=100, seed=0)
    ours, theirs = (np.mean([boot.replicates(p) for p in part], axis=0) for part in (probs[:3], probs[3:]))
    for metric, column in (("s0", 0), ("s2", 2), ("mean", 3), ("all", 4), ("s_gauc", 5)):
        line = lines["better", metric]
        want_range = np.quantile((ours - theirs)[:, column], [0.025, 0.975])
        assert [line.users_low, line.users_high] == pytest.approx(want_range.tolist())
        assert line.users_low is not None and line.difference is not None and line.users_high is not None
        assert line.users_low < line.difference < line.users_high


def test_a_real_difference_is_found_and_no_difference_is_not(lines: dict[tuple[str, str], Line]) -> None:
    better, same = lines["better", "all"], lines["same", "all"]
    assert better.p_delong is not None and better.p_delong < 1e-3
    assert better.p_users is not None and better.p_users <= 2 / 101 + 1e-12
    assert same.p_delong is not None and same.p_delong > 0.05 and same.p_users is not None and same.p_users > 0.05


def test_the_base_has_no_difference_and_one_seed_no_interval(split: Split, groups: dict[str, list[Trial]]) -> None:
    one = {group: trials[:1] for group, trials in groups.items()}
    made = Comparison(split, one, {"better": "base"}, resamples=100).lines()
    by = {(line.group, line.metric): line for line in made}
    base, better = by["base", "mean"], by["better", "mean"]
    assert (base.base, base.difference, base.p_delong, base.low) == (None, None, None, None)
    assert better.low is None and better.seeds_low is None and better.p_delong is not None
    assert by["better", "s_gauc"].p_delong is None and by["better", "logloss"].p_users is None
