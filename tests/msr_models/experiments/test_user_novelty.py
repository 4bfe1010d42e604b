"""AUC of known and of new users, against scikit-learn and draws by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from msr_models.experiments.comparison import Line
from msr_models.experiments.planted_log import planted_split
from msr_models.experiments.split import Split
from msr_models.experiments.trials import Trial, TrialKey, TrialStore
from msr_models.experiments.user_novelty import KNOWN, NEW, known_users, novelty_lines


@pytest.fixture(scope="module")
def split() -> Split:
    """Users 0 .. 9 have rows in the test alone."""
    whole = planted_split(rows=6_000, users=50, items=20, seed=0, name="planted")
    user_N = whole.train.user_key_N
    return replace(whole, train=replace(whole.train, user_key_N=torch.where(user_N < 10, user_N + 10, user_N)))


@pytest.fixture(scope="module")
def groups(split: Split, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Trial]]:
    """`better` knows more of new users, and as much of the others."""
    store = TrialStore(tmp_path_factory.mktemp("trials"))
    label, new = split.test.label_N.numpy(), ~known_users(split)
    made: dict[str, list[Trial]] = {"base": [], "better": []}
    for seed in (1, 2):
        noise = np.random.default_rng(seed).normal(size=len(label))
        for group, spread in (("base", 2.0), ("better", np.where(new, 0.5, 2.0))):
            probs = 1 / (1 + np.exp(-(label - 0.5 + spread * noise)))
            key = TrialKey(label=group, settings={"seed": seed}, code="0")
            made[group].append(store.get(key, partial(_made, probs))[0])
    return made


def _lines(split: Split, groups: dict[str, list[Trial]]) -> dict[tuple[str, str], Line]:
    found = novelty_lines(split, groups, dict.fromkeys(groups, "base"), resamples=200)
    return {(line.group, line.metric): line for line in found}


def test_means_and_differences(split: Split, groups: dict[str, list[Trial]]) -> None:
    new_N = split.test.user_key_N.numpy() < 10
    assert 0 < new_N.mean() < 0.5
    lines, label = _lines(split, groups), split.test.label_N.numpy()
    assert list(lines) == [(g, m) for g in ("base", "better") for m in (NEW, KNOWN)]
    for metric, rows in ((NEW, new_N), (KNOWN, ~new_N)):
        auc = {
            group: np.mean([roc_auc_score(label[rows], trial.array("test_probs")[rows]) for trial in trials])
            for group, trials in groups.items()
        }
        for group in groups:
            assert lines[group, metric].mean == pytest.approx(auc[group], abs=1e-12)
        assert lines["better", metric].difference == pytest.approx(auc["better"] - auc["base"], abs=1e-12)
    assert lines["base", NEW].base is None and lines["base", NEW].difference is None


def test_the_interval_is_over_users(split: Split, groups: dict[str, list[Trial]]) -> None:
    lines = _lines(split, groups)
    new, known = lines["better", NEW], lines["better", KNOWN]
    assert new.users_low is not None and new.users_low > 0 and new.p_users is not None and new.p_users < 0.05
    # The same predictions for the known ones
    assert (known.difference, known.users_low, known.users_high) == (0, 0, 0)


def test_without_new_users_there_are_no_lines(groups: dict[str, list[Trial]]) -> None:
    everyone_known = planted_split(rows=6_000, users=50, items=20, seed=0, name="planted")
    assert known_users(everyone_known).all()
    assert novelty_lines(everyone_known, groups, {}, resamples=200) == []


def _made(probs: NDArray[np.float64]) -> tuple[dict[str, Any], dict[str, Any]]:
    return {}, {"test_probs": probs}
