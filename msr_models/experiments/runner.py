"""ExperimentRunner: the trainings and searches of experiments, each done once and then read from the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from msr_models.evaluation.blocks import Floats
from msr_models.evaluation.metrics import scenario_metrics
from msr_models.experiments.code_digest import code_digest
from msr_models.experiments.fitting import Mode, Task, fit
from msr_models.experiments.split import Split
from msr_models.experiments.trials import Arrays, Trial, TrialKey, TrialStore
from msr_models.experiments.variants import file_name, options_of, registered_name
from msr_models.models.registry import build_model, model_class, parse_options
from msr_models.sets.masks import at_ratio
from msr_models.ssim.ranks import rank_pct
from msr_models.ssim.search import run_search
from msr_models.training.manifest import code_version, package_versions
from msr_models.training.state import Resume
from schemas.errors import TrainingError
from schemas.pipeline_spec import SearchSpec, TrainerConfig
from schemas.settings import validated
from schemas.text import short_digest

log = logging.getLogger(__name__)

Mask = NDArray[np.bool_]

# When a search is due and which days it reads do not apply to a split
_NOT_SEARCHED = {"every_days", "window_days"}
_SET_BY_SEARCH = ("embedding_dim", "hidden")
_TRAINS, _SEARCHES = "msr_models.experiments.fitting", "msr_models.ssim.search"


@dataclass(kw_only=True)
class ExperimentRunner:
    """Trains and searches on one split.

    options: model options by name; wherever this class takes a model's name, it may be a variant (MODEL/VARIANT, see
    variants.py). trainer, search: settings of every trial except its seed and backbone. trainers: trainer settings by
    name that replace `trainer`'s.
    """

    split: Split
    store: TrialStore
    trainer: TrainerConfig
    search: SearchSpec
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trainers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    device: str = "cpu"
    expected: int = 0
    """Number of trials announced so far, for the log only."""
    done: int = 0
    made: int = 0

    def train(self, model: str, seed: int, mode: Mode = "towers", shared_N: Mask | None = None) -> Trial:
        """The trial of one training. shared_N: the training rows that visit all towers, bool [N] (None: no row).

        Its record has the test metrics (see `measure`), its arrays are `test_probs` and, of mode `pooled`, the weights.
        Raises TrainingError.
        """
        trainer = self.trainer_of(model).model_copy(update={"seed": seed})
        options, registered = options_of(self.options, model), registered_name(model)
        parse_options(registered, options)
        shared_N = np.zeros(len(self.split.train), dtype=np.bool_) if shared_N is None else shared_N
        settings = {
            **self.conditions("train"),
            "model": registered,
            "options": dict(options),
            "mode": mode,
            "trainer": trainer.model_dump(),
            "shared": _digest(shared_N),
            "share_rate": float(shared_N.mean()),
        }
        base = self.train(model, seed, "pooled") if mode == "finetune" else None
        key = TrialKey(
            label=f"{file_name(model)}-{mode}-s{seed}",
            settings=settings if base is None else {**settings, "start": base.record["arrays_sha256"]},
            code=code_digest([model_class(registered).__module__, _TRAINS]),
        )
        task = Task(
            model=registered,
            options=options,
            mode=mode,
            trainer=trainer,
            shared_N=torch.from_numpy(shared_N).to(self.split.train.label_N.device),
            start=None if base is None else _weights(base),
        )
        return self.stored(key, lambda: self._fit(model, task, key, base))

    def trainer_of(self, model: str) -> TrainerConfig:
        """The model's trainer settings: this runner's, where its own replace none."""
        return self.trainer.model_copy(update=dict(self.trainers.get(model, {})))

    def check(self, model: str) -> None:
        """Raises TrainingError if the model cannot be built on these rows, for example because it needs behaviours."""
        layout, scenarios = self.split.train.layout, self.split.num_scenarios
        build_model(registered_name(model), options_of(self.options, model), layout, scenarios, self.trainer.seed)

    def can_share(self, model: str) -> bool:
        """Whether rows can be shared across the model's scenarios."""
        return model_class(registered_name(model)).has_towers

    def find_shared(self, backbone: str, seed: int, **changes: Any) -> Trial:
        """The trial of one search on the training rows, rejected or accepted (see its record).

        Its arrays: `probs` [N], the share probability of every row, and `embedding` [R, D], the vectors that the
        selector reads. changes: search settings that replace this runner's.
        """
        spec = self.search_spec(backbone, seed, changes)
        settings = {**self.conditions("search"), "spec": spec.model_dump(mode="json", exclude=_NOT_SEARCHED)}
        code = code_digest([model_class(spec.backbone).__module__, _SEARCHES])
        key = TrialKey(label=f"search-{file_name(backbone)}-s{seed}", settings=settings, code=code)
        return self.stored(key, lambda: self._search(backbone, spec))

    def search_spec(self, backbone: str, seed: int, changes: Mapping[str, Any]) -> SearchSpec:
        """This runner's search settings with the changes and the backbone's options."""
        own = {k: v for k, v in options_of(self.options, backbone).items() if k not in _SET_BY_SEARCH}
        options = {**own, **self.search.backbone_options}
        own_settings = {"backbone": registered_name(backbone), "seed": seed, "backbone_options": options}
        try:
            return validated(SearchSpec, {**self.search.model_dump(), **own_settings, **changes})
        except ValueError as error:
            raise TrainingError(f"a search with {dict(changes)} is not possible: {error}") from error

    def share(self, found: Trial, ratio: float) -> Mask:
        """The training rows whose score is among the `ratio` highest of a search (eq. 16), all scenarios together."""
        if ratio in (0.0, 1.0):
            return np.full(len(self.split.train), ratio == 1.0)
        probs_N = found.array("probs")
        return np.asarray(at_ratio(rank_pct(probs_N, np.sort(probs_N)), ratio))

    def expect(self, trials: int) -> None:
        """Announce trials, for the log."""
        self.expected += trials

    def conditions(self, kind: str) -> dict[str, Any]:
        """What every result of this runner depends on besides its own settings and code."""
        made_by = {"threads": torch.get_num_threads(), "device": self.device, "versions": package_versions()}
        return {"kind": kind, "data": self.split.fingerprint, **made_by}

    def stored(self, key: TrialKey, make: Callable[[], tuple[dict[str, Any], Arrays]]) -> Trial:
        """The store's trial of this key, made if there is none; counted and logged."""
        trial, was_there = self.store.get(key, make)
        self.done, self.made = self.done + 1, self.made + (not was_there)
        of = f"/{self.expected}" if self.expected >= self.done else ""
        how = "cached" if was_there else f"done in {trial.record['seconds']:.0f} s"
        log.info(f"trial {self.done}{of} {key.name}: {how}, {_in_short(trial.record)}")
        return trial

    def _fit(self, name: str, task: Task, key: TrialKey, base: Trial | None) -> tuple[dict[str, Any], Arrays]:
        def resume_of(stage: str) -> Resume:
            return Resume(self.store.resume_path(key, stage), key.name)

        started = time.perf_counter()
        found = fit(self.split, task, resume_of, self.device)
        rows = len(self.split.train)
        record = {
            "kind": "train",
            "model": name,
            "mode": task.mode,
            "seed": task.trainer.seed,
            "share_rate": float(task.shared_N.float().mean()) if task.shared_N is not None else 0.0,
            "parameters": found.parameters,
            "epochs": found.epochs,
            "seconds": found.seconds + (base.record["seconds"] if base else 0.0),
            "samples_per_second": found.rows_passed / found.seconds,
            "epochs_run": (found.rows_passed + (base.record["epochs_run"] * rows if base else 0)) / rows,
            "validation_auc": found.validation_auc,
            "test": measure(self.split, found.test_probs),
            **made_now(started),
        }
        weights = {f"weight.{name}": value for name, value in found.weights.items()}
        return record, {"test_probs": found.test_probs, **weights}

    def _search(self, name: str, spec: SearchSpec) -> tuple[dict[str, Any], Arrays]:
        started = time.perf_counter()
        result = run_search(self.split.train, spec, device=self.device)
        seconds = time.perf_counter() - started
        record = {
            "kind": "search",
            "backbone": name,
            "seed": spec.seed,
            "status": result.status,
            "reason": result.reason,
            "threshold": result.threshold,
            "kl_weight": result.kl_weight,
            "share_rate": float(result.shared_N.mean()),
            "metrics": dict(result.metrics),
            "curves": list(result.curves),
            "epochs_run": float(spec.warmup_epochs + spec.epochs),
            "seconds": seconds,
            **made_now(started),
        }
        embedding, num_fields = result.selector.embedding, self.split.train.layout.num_fields
        with torch.no_grad():
            vectors_RD = torch.cat([embedding.vectors_of(f) for f in range(num_fields)])
        return record, {"probs": result.probs_N, "embedding": vectors_RD.cpu().numpy()}


def measure(split: Split, probs_N: Floats) -> dict[str, dict[str, float | int | None]]:
    """Test metrics by scenario name, and of all rows under `all`, with `mean_scenario_auc`. S-GAUC groups by user."""
    test = split.test
    user_N = test.user_key_N.cpu().numpy()
    metrics = scenario_metrics(
        probs_N,
        test.label_N.cpu().numpy(),
        test.scenario_N.cpu().numpy(),
        user_N,
        split.num_scenarios,
        test.weights_of(),
    )
    names = [*split.scenario_names, "all"]
    wanted = ("rows", "positives", "auc", "mean_scenario_auc", "logloss", "calibration", "s_gauc")
    return {name: {w: getattr(m, w) for w in wanted} for name, m in zip(names, metrics, strict=True)}


def _in_short(record: Mapping[str, Any]) -> str:
    if record["kind"] == "search":
        return f"{record['status']} {record['reason']}".strip() + f", shares {record['share_rate']:.1%}"
    if "test" not in record:
        return f"validation {record['validation_auc'] or float('nan'):.4f}"
    mean = record["test"]["all"]["mean_scenario_auc"]
    return f"test mean AUC {'none' if mean is None else f'{mean:.4f}'}"


def made_now(started: float) -> dict[str, Any]:
    """Parts of a record that say when and by what it was made; started: of time.perf_counter."""
    wall = time.perf_counter() - started
    return {"wall_seconds": wall, "code_version": code_version(), "at": datetime.now(UTC).isoformat(timespec="seconds")}


def _weights(trial: Trial) -> dict[str, NDArray[Any]]:
    return {name.removeprefix("weight."): v for name, v in trial.arrays().items() if name.startswith("weight.")}


def _digest(mask_N: Mask) -> str:
    return short_digest(np.packbits(mask_N).tobytes())
