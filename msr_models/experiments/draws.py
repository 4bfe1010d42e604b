"""Optuna's parts as a tuning uses them: samplers, pruners, suggestions and the lock of the journal."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.storages.journal import JournalFileOpenLock

from lake.lock import exclusive
from msr_models.experiments.search_space import Parameter, encoded

Method = Literal["tpe", "grid"]
PrunerKind = Literal["median", "hyperband", "none"]
STARTUP_TRIALS = 5  # finished trials before the median is a standard


def sampler_of_trial(
    method: Method, parameters: Mapping[str, Parameter], seed: int, number: int, place: int = 0
) -> optuna.samplers.BaseSampler:
    """The sampler of trial `number` alone: its draws do not depend on what this process drew before.

    place: of the parameter to draw by itself, from 1; a trial that was killed between two draws goes on with the
    second one's. 0: of the draws that a trial makes together when it begins.
    """
    if method == "grid":
        return _Grid({name: [encoded(c) for c in p.choices or ()] for name, p in parameters.items()}, seed=seed)
    drawn = np.random.default_rng([seed, number, place]).integers(2**31)
    return optuna.samplers.TPESampler(seed=int(drawn), multivariate=True, constant_liar=True)


def pruner_of(kind: PrunerKind, max_epochs: int) -> optuna.pruners.BasePruner:
    """median: ends a trial whose best epoch so far is below the median of the others at the same epoch, from the second
    epoch on. hyperband: successive halving over brackets of up to `max_epochs`.
    """
    if kind == "none":
        return optuna.pruners.NopPruner()
    if kind == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=2)
    return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=max_epochs)


def suggest(trial: optuna.Trial, name: str, parameter: Parameter) -> None:
    """Draw a parameter's value, unless the trial has one."""
    if parameter.choices is not None:
        trial.suggest_categorical(name, [encoded(choice) for choice in parameter.choices])
        return
    assert parameter.low is not None and parameter.high is not None
    if parameter.whole:
        step = int(parameter.step or 1)
        trial.suggest_int(name, int(parameter.low), int(parameter.high), step=step, log=parameter.log)
    else:
        trial.suggest_float(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)


class _Grid(optuna.samplers.GridSampler):
    """Trial n takes point n of the shuffled grid; the budget ends it, not the sampler."""

    def after_trial(self, *_: Any, **__: Any) -> None:
        """Nothing: the original stops a loop that there is not here."""


class JournalLock(JournalFileOpenLock):
    """A lock that a killed process releases at once; Optuna's own is held for half a minute then."""

    def __init__(self, path: Path) -> None:
        self.path, self.held = path, ExitStack()

    def acquire(self) -> bool:
        self.held.enter_context(exclusive(self.path))
        return True

    def release(self) -> None:
        self.held.close()
