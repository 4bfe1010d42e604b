"""AUC of users with and without training rows: embeddings of user ids only help for the former."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from msr_models.evaluation.blocks import Array, Floats
from msr_models.evaluation.metrics import grouped_auc
from msr_models.evaluation.user_bootstrap import UserBootstrap
from msr_models.experiments.comparison import Line, against, line_of
from msr_models.experiments.split import Split
from msr_models.experiments.trials import Trial

NEW, KNOWN = "new users", "known users"


def known_users(split: Split) -> Array:
    """Whether the user of each test row has training rows, bool [N]."""
    user_N, seen = (window.user_key_N.cpu().numpy() for window in (split.test, split.train))
    return np.isin(user_N, seen)


def novelty_lines(
    split: Split,
    groups: Mapping[str, Sequence[Trial]],
    base_of: Mapping[str, str],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Line]:
    """Lines of the metrics NEW and KNOWN: AUC over all rows of those users, differences and intervals as in Comparison.

    Empty unless both kinds of users have rows of both classes.
    """
    known_N = known_users(split).astype(np.int64)
    label_N = split.test.label_N.cpu().numpy()
    if any(len(np.unique(label_N[known_N == part])) < 2 for part in (0, 1)):
        return []
    user_N, weight_N = split.test.user_key_N.cpu().numpy(), split.test.weights_of()
    bootstrap = UserBootstrap(
        user_N, label_N, known_N, num_scenarios=2, resamples=resamples, seed=seed, weight_N=weight_N
    )
    auc = {group: _auc_by_seed(trials, label_N, known_N, weight_N) for group, trials in groups.items()}
    drawn = {group: _replicates(trials, bootstrap) for group, trials in groups.items()}
    return [
        _line(metric, group, base_of.get(group), part, auc, drawn)
        for group in groups
        for part, metric in enumerate((NEW, KNOWN))
    ]


def _line(
    metric: str, group: str, base: str | None, part: int, auc: Mapping[str, Floats], drawn: Mapping[str, Floats]
) -> Line:
    values = auc[group][:, part].tolist()
    line = line_of(group, metric, values)
    if base is None or base == group:
        return line
    return against(line, base, values, auc[base][:, part].tolist(), drawn[group][:, part] - drawn[base][:, part])


def _auc_by_seed(trials: Sequence[Trial], label_N: Array, known_N: Array, weight_N: Array | None) -> Floats:
    """[seeds, 2]."""
    every = [grouped_auc(trial.array("test_probs"), label_N, known_N, 2, weight_N).auc_G for trial in trials]
    return np.stack(every)


def _replicates(trials: Sequence[Trial], bootstrap: UserBootstrap) -> Floats:
    """Mean over seeds, [R, 2]."""
    every = [bootstrap.replicates(trial.array("test_probs"))[:, :2] for trial in trials]
    return np.asarray(np.mean(every, axis=0))
