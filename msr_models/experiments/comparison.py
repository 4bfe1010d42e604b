"""Compares groups of trials (one trial per seed): means, intervals over seeds and users, and tests against a base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from msr_models.evaluation.blocks import Floats
from msr_models.evaluation.significance import (
    Contrast,
    delong,
    delong_mean,
    mann_whitney,
    percentile_contrast,
    t_interval,
)
from msr_models.evaluation.user_bootstrap import UserBootstrap
from msr_models.experiments.split import Split
from msr_models.experiments.trials import Trial

MEAN, ALL, S_GAUC, LOGLOSS = "mean", "all", "s_gauc", "logloss"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One metric of one group; None: not defined (one seed, one class, no base).

    metric: a scenario's name (its AUC), mean (AUC over scenarios), all (AUC of all rows), s_gauc (by user) or logloss.
    low, high: t-interval of the mean over seeds. difference: of the means, with its paired t-interval over seeds and
    its bootstrap interval over users.
    """

    group: str
    metric: str
    seeds: int
    mean: float | None
    low: float | None = None
    high: float | None = None
    base: str | None = None
    difference: float | None = None
    seeds_low: float | None = None
    seeds_high: float | None = None
    users_low: float | None = None
    users_high: float | None = None
    p_users: float | None = None
    p_delong: float | None = None
    p_mann_whitney: float | None = None


def line_of(group: str, metric: str, values: Sequence[float]) -> Line:
    """Mean over seeds and its t-interval."""
    low, high = t_interval(values) or (None, None)
    return Line(group=group, metric=metric, seeds=len(values), mean=float(np.mean(values)), low=low, high=high)


def against(
    line: Line, base: str, values: Sequence[float], others: Sequence[float], difference_R: Floats | None
) -> Line:
    """The line with its difference to a base. others: the base's values per seed; difference_R: over resamples."""
    difference = float(np.mean(values)) - float(np.mean(others))
    is_paired = len(values) == len(others)
    paired = t_interval([a - b for a, b in zip(values, others, strict=True)]) if is_paired else None
    users = None if difference_R is None else percentile_contrast(difference, difference_R)
    return replace(
        line,
        base=base,
        difference=difference,
        seeds_low=paired[0] if paired else None,
        seeds_high=paired[1] if paired else None,
        users_low=users.low if users else None,
        users_high=users.high if users else None,
        p_users=users.p_value if users else None,
    )


class Comparison:
    """Lines of all groups on the test rows of a split; base_of: the group that each one is compared with.

    DeLong and the bootstrap over users test the difference of the AUCs averaged over seeds; the t-interval and
    Mann-Whitney U take one number per seed.
    """

    def __init__(
        self,
        split: Split,
        groups: Mapping[str, Sequence[Trial]],
        base_of: Mapping[str, str],
        *,
        resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        self.split, self.groups, self.base_of = split, groups, base_of
        test = split.test
        self.label_N, self.scenario_N = test.label_N.cpu().numpy(), test.scenario_N.cpu().numpy()
        self.weight_N = test.weights_of()
        self.names = [*split.scenario_names, MEAN, ALL, S_GAUC]
        self.bootstrap = UserBootstrap(
            test.user_key_N.cpu().numpy(),
            self.label_N,
            self.scenario_N,
            num_scenarios=split.num_scenarios,
            resamples=resamples,
            seed=seed,
            weight_N=self.weight_N,
        )
        self._probs: dict[str, Floats] = {}
        self._replicates: dict[str, Floats] = {}

    def lines(self) -> list[Line]:
        """Per group, in order: its scenarios, then mean, all, s_gauc, logloss."""
        metrics = (*self.names, LOGLOSS)
        return [self._line(group, metric, self.base_of.get(group)) for group in self.groups for metric in metrics]

    def against(self, base: str, metric: str) -> list[Line]:
        """One metric of every other group, compared with `base` whatever base_of says."""
        return [self._line(group, metric, base) for group in self.groups if group != base]

    def values(self, group: str, metric: str) -> list[float | None]:
        """One number per seed."""
        return [_value(trial, metric) for trial in self.groups[group]]

    def _line(self, group: str, metric: str, base: str | None) -> Line:
        values = [v for v in self.values(group, metric) if v is not None]
        if len(values) < len(self.groups[group]):
            return Line(group=group, metric=metric, seeds=len(values), mean=None)
        line = line_of(group, metric, values)
        if base is None or base == group:
            return line
        others = [v for v in self.values(base, metric) if v is not None]
        line = against(line, base, values, others, self._difference_of_users(group, base, metric))
        tested = self._delong(group, base, metric)
        return replace(line, p_delong=tested.p_value if tested else None, p_mann_whitney=mann_whitney(values, others))

    def _delong(self, group: str, base: str, metric: str) -> Contrast | None:
        if metric in (S_GAUC, LOGLOSS):
            return None
        ours, theirs = self._probs_of(group), self._probs_of(base)
        probs_MN = np.concatenate([ours, theirs])
        contrast_M = [1 / len(ours)] * len(ours) + [-1 / len(theirs)] * len(theirs)
        scenarios, weight_N = self.split.num_scenarios, self.weight_N
        if metric == MEAN:
            return delong_mean(probs_MN, self.label_N, self.scenario_N, scenarios, contrast_M, weight_N)
        if metric == ALL:
            return delong(probs_MN, self.label_N, contrast_M, weight_N)
        here_N = self.scenario_N == self.split.scenario_names.index(metric)
        weight_N = None if weight_N is None else weight_N[here_N]
        return delong(probs_MN[:, here_N], self.label_N[here_N], contrast_M, weight_N)

    def _difference_of_users(self, group: str, base: str, metric: str) -> Floats | None:
        """Difference to the base in every resample of the users, [R]."""
        if metric == LOGLOSS:
            return None
        column = self.names.index(metric)
        return self._replicates_of(group)[:, column] - self._replicates_of(base)[:, column]

    def _probs_of(self, group: str) -> Floats:
        """Test predictions [seeds, N]."""
        if group not in self._probs:
            self._probs[group] = np.stack([trial.array("test_probs") for trial in self.groups[group]])
        return self._probs[group]

    def _replicates_of(self, group: str) -> Floats:
        """Every quantity in every resample of the users, averaged over the group's seeds, [R, Q]."""
        if group not in self._replicates:
            every = [self.bootstrap.replicates(probs_N) for probs_N in self._probs_of(group)]
            self._replicates[group] = np.mean(every, axis=0)
        return self._replicates[group]


def _value(trial: Trial, metric: str) -> float | None:
    test = trial.record["test"]
    where, name = {
        MEAN: ("all", "mean_scenario_auc"),
        ALL: ("all", "auc"),
        S_GAUC: ("all", "s_gauc"),
        LOGLOSS: ("all", "logloss"),
    }.get(metric, (metric, "auc"))
    value: float | None = test[where][name]
    return value
