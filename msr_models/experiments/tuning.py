"""Tune one model on one split: an Optuna study in a folder, resumable and shared by any number of processes.

A trial trains with drawn settings and is scored by its best validation epoch; test rows are never predicted here. What
trial n draws is a function of the study's seed, n and the finished trials alone, so that one process makes the same
trials whether it is interrupted or not. A process holds a lock for the trial that it runs. A trial that is running and
whose lock is free was killed: the next process to claim one runs it again, with the same number and values.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from lake.lock import exclusive, exclusive_if_free
from msr_models.evaluation.metrics import scenario_metrics
from msr_models.experiments.code_digest import code_digest
from msr_models.experiments.draws import JournalLock, Method, PrunerKind, pruner_of, sampler_of_trial, suggest
from msr_models.experiments.runner import ExperimentRunner, Mask
from msr_models.experiments.search_space import Drawn, Space
from msr_models.experiments.split import all_rows
from msr_models.experiments.trials import TrialKey
from msr_models.experiments.variants import file_name, registered_name
from msr_models.models.registry import build_model, model_class
from msr_models.training.prediction import predict
from msr_models.training.state import Resume
from msr_models.training.trainer import train
from schemas.errors import TrainingError

log = logging.getLogger(__name__)

ERROR = "error"


@dataclass(frozen=True, kw_only=True, slots=True)
class TuningConfig:
    """What defines a study besides its model and space. shared: each trial shares the rows that a search with the model
    found, at the trial's lambda and ratio. seed: of the draws; the trials themselves train with train_seed.
    """

    method: Method = "tpe"
    pruner: PrunerKind = "median"
    seed: int = 1
    train_seed: int = 1
    shared: bool = False


@dataclass(kw_only=True)
class Tuning:
    """The study of one model. runner: its split, its store's folder and the settings that the space replaces."""

    runner: ExperimentRunner
    space: Space
    config: TuningConfig
    any_code: bool = False
    made: int = field(default=0, init=False)

    @property
    def model(self) -> str:
        return self.space.model

    @cached_property
    def key(self) -> TrialKey:
        """Everything that the trials depend on."""
        runner, config = self.runner, self.config
        settings = {
            **runner.conditions("tuning"),
            "model": registered_name(self.model),
            "space": {name: parameter.model_dump(mode="json") for name, parameter in self.space.parameters.items()},
            "trainer": self.space.trainer.model_dump(),
            "options": dict(self.space.options),
            "search": runner.search.model_dump(mode="json") if config.shared else None,
            "config": [config.method, config.pruner, config.seed, config.train_seed, config.shared],
        }
        code = code_digest([model_class(registered_name(self.model)).__module__, __name__])
        return TrialKey(label=f"{file_name(self.model)}-{config.method}", settings=settings, code=code)

    @cached_property
    def study(self) -> optuna.Study:
        folder = self.runner.store.folder
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with exclusive(self._lock("study")):
            backend = JournalFileBackend(str(folder / "journal.log"), lock_obj=JournalLock(self._lock("journal")))
            storage = optuna.storages.JournalStorage(backend)
            name, names = self.key.name, [study.study_name for study in storage.get_all_studies()]
            if self.any_code and name not in names:
                name = next((n for n in reversed(names) if n.startswith(name.removesuffix(self.key.code))), name)
            return optuna.create_study(
                study_name=name,
                storage=storage,
                direction="maximize",
                load_if_exists=True,
                pruner=self._pruner(),
                sampler=self._sampler(0),
            )

    def trials(self) -> list[FrozenTrial]:
        """All trials so far, by number."""
        return list(self.study.get_trials(deepcopy=False))

    def budget(self, trials: int) -> int:
        """How many trials are made of this many: a grid has an end."""
        return min(trials, self.space.grid_size) if self.config.method == "grid" else trials

    def work(self, trials: int) -> None:
        """Run trials until `trials` are finished or run by other processes.

        Trials whose settings do not go together or whose loss is not finite fail; they count as made.
        """
        budget = self.budget(trials)
        while True:
            with self._claimed(budget) as trial:
                if trial is None:
                    return
                self._run(trial, budget)

    @contextlib.contextmanager
    def _claimed(self, budget: int) -> Iterator[optuna.Trial | None]:
        """A trial that no other process runs, for the time of the block; None where `budget` trials are taken."""
        with ExitStack() as held:
            with exclusive(self._lock("claim")):
                trial = self._claim(budget, held)
            yield trial

    def _claim(self, budget: int, held: ExitStack) -> optuna.Trial | None:
        trials = self.trials()
        for frozen in trials:
            if frozen.state == TrialState.RUNNING and held.enter_context(self._held(frozen.number)):
                log.info(f"{self.model}: trial {frozen.number} was interrupted and is run again")
                self.study.sampler = self._sampler(frozen.number)
                return self._suggested(optuna.Trial(self.study, frozen._trial_id))
        if not trials and self.config.method == "tpe":
            self.study.enqueue_trial(self.space.defaults(self.runner.search))
        waiting = [t.number for t in self.trials() if t.state == TrialState.WAITING]
        if len(trials) >= budget and not waiting:
            return None
        number = waiting[0] if waiting else len(trials)
        if not held.enter_context(self._held(number)):
            raise TrainingError(f"trial {number} of {self.key.name} is locked by another program; end that")
        self.study.sampler = self._sampler(number)
        return self._suggested(self.study.ask())

    def _held(self, number: int) -> contextlib.AbstractContextManager[bool]:
        return exclusive_if_free(self._lock(f"trial-{number}"))

    def _suggested(self, trial: optuna.Trial) -> optuna.Trial:
        for place, (name, parameter) in enumerate(self.space.parameters.items(), start=1):
            self.study.sampler = self._sampler(trial.number, place)
            suggest(trial, name, parameter)
        return trial

    def _run(self, trial: optuna.Trial, budget: int) -> None:
        started = time.perf_counter()
        resume = Resume(self.runner.store.resume_path(self.key, f"t{trial.number}"), f"{self.key.name}-{trial.number}")
        state, value, what = TrialState.COMPLETE, None, ""
        try:
            value, facts = self._score(trial, resume)
            what = f"validation {value:.4f}"
        except optuna.TrialPruned:
            state, facts, what = TrialState.PRUNED, {}, "pruned"
        except TrainingError as error:
            state, facts, what = TrialState.FAIL, {ERROR: str(error)}, f"failed: {error}"
        for name, fact in {**facts, "seconds": time.perf_counter() - started}.items():
            trial.set_user_attr(name, fact)
        self.study.tell(trial, value, state=None if state == TrialState.COMPLETE else state)
        resume.remove()
        self.made += 1
        shown = ", ".join(f"{name.partition('.')[2] or name} {shown_value(v)}" for name, v in trial.params.items())
        log.info(f"{self.model}: trial {trial.number + 1}/{budget}, {shown}: {what}")

    def _score(self, trial: optuna.Trial, resume: Resume) -> tuple[float, dict[str, Any]]:
        """(validation score of the kept epoch, facts about the training)."""
        split, drawn = self.runner.split, self.space.drawn(trial.params)
        shared_N, facts = self.shared_rows(drawn)
        trainer = drawn.trainer.model_copy(update={"seed": self.config.train_seed})
        name = registered_name(self.model)
        model = build_model(name, drawn.options, split.train.layout, split.num_scenarios, trainer.seed)
        model = model.to(self.runner.device)
        window = replace(split.train, shared_N=torch.from_numpy(shared_N).to(split.train.label_N.device))
        rows = all_rows(split.validation)
        result = train(model, all_rows(window), rows, trainer, resume=resume, on_epoch=_reporter(trial))
        facts |= {
            "validation_auc": result.validation_auc,
            "validation_logloss": result.validation_logloss,
            "epochs": result.epochs,
            "parameters": sum(p.numel() for p in model.parameters()),
            "scenario_auc": self._scenario_aucs(predict(model, split.validation, rows.rows)),
        }
        return result.validation.score(trainer.select_on), facts

    def _scenario_aucs(self, probs_N: Any) -> dict[str, float | None]:
        """AUC of the validation rows by scenario."""
        split, rows = self.runner.split, self.runner.split.validation
        labels, scenarios, users = (part.cpu().numpy() for part in (rows.label_N, rows.scenario_N, rows.user_key_N))
        metrics = scenario_metrics(probs_N, labels, scenarios, users, split.num_scenarios, rows.weights_of())
        return {name: m.auc for name, m in zip(split.scenario_names, metrics, strict=False)}

    def shared_rows(self, drawn: Drawn) -> tuple[Mask, dict[str, Any]]:
        """(training rows to share, facts about their search). A rejected search shares nothing, as in the pipeline.

        The search has this runner's options of the model, not the drawn ones: it is repeated for another lambda only.
        """
        if not self.config.shared or drawn.ratio == 0.0:
            return np.zeros(len(self.runner.split.train), dtype=np.bool_), {}
        found = self.runner.find_shared(self.model, self.config.train_seed, **drawn.search)
        accepted = found.record["status"] == "accepted"
        ratio = float(found.record["share_rate"]) if drawn.ratio is None else drawn.ratio
        shared_N = self.runner.share(found, ratio if accepted else 0.0)
        return shared_N, {"search": found.record["status"], "share_rate": float(shared_N.mean())}

    def tuned_runner(self, drawn: Drawn) -> ExperimentRunner:
        """The runner with a trial's settings, for figures of the test rows."""
        return replace(self.runner, trainer=drawn.trainer, trainers={}, options={self.model: drawn.options}, expected=0)

    def _sampler(self, number: int, place: int = 0) -> optuna.samplers.BaseSampler:
        return sampler_of_trial(self.config.method, self.space.parameters, self.config.seed, number, place)

    def _pruner(self) -> optuna.pruners.BasePruner:
        epochs = self.space.parameters.get("trainer.max_epochs")
        return pruner_of(self.config.pruner, max(epochs.ends if epochs else [self.space.trainer.max_epochs]))

    def _lock(self, what: str) -> Path:
        name = what if what in ("journal", "study") else f"{self.key.name}-{what}"
        return self.runner.store.folder / "locks" / name


def best_of(trials: Sequence[FrozenTrial]) -> FrozenTrial:
    """The complete trial with the best validation score, of equal ones the first. Raises TrainingError if there is
    none.
    """
    complete = [t for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
    if not complete:
        why = next((t.user_attrs[ERROR] for t in trials if ERROR in t.user_attrs), "all were pruned")
        raise TrainingError(f"none of {len(trials)} trials came to an end: {why}")
    return max(complete, key=lambda t: (t.value or 0.0, -t.number))


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of each parameter in the scores' variation (PED-ANOVA), largest first; {} if there is none to explain."""
    complete = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    varied = [n for n in complete[0].params if len({t.params[n] for t in complete}) > 1] if complete else []
    if len(varied) < 2 or len({t.value for t in complete}) < 2:
        return {}
    return dict(optuna.importance.get_param_importances(study, params=varied))


def shown_value(value: Any) -> str:
    """A drawn value for readers: 0.00316, 128-64."""
    if isinstance(value, str) and value.startswith("["):
        return "-".join(map(str, json.loads(value)))
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:.3g}"
    return str(value)


def _reporter(trial: optuna.Trial) -> Callable[[int, float], None]:
    """Reports every epoch's score and ends a trial that is worse than others were."""
    # By an attempt that was killed
    reported: Mapping[int, float] = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values

    def report(epoch: int, score: float) -> None:
        if epoch not in reported:
            trial.report(score, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    return report
