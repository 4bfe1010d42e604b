"""Options shared by the research commands, and the runner that they configure."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import Field

from jobs.cli import Options, Threads
from msr_models.experiments.runner import ExperimentRunner
from msr_models.experiments.settings import with_settings
from msr_models.experiments.sources import open_split, search_defaults, trainer_defaults
from msr_models.experiments.trials import TrialStore
from msr_models.experiments.variants import check_name, merged_options, options_of, registered_name
from msr_models.models.registry import known_models
from msr_models.training.device import usable_device
from msr_models.training.memory import keep_freed_memory
from schemas.errors import TrainingError
from schemas.pipeline_spec import TrainerConfig
from schemas.settings import validated

log = logging.getLogger(__name__)

TRAINER = "trainer"  # no model's option has this name


class TrialOptions(Options):
    """Options that define the trials and where they are stored."""

    data: str = Field(
        title="SOURCE",
        description="movielens_fixed, planted or lake:NAME, with settings: movielens_fixed:scenario=genre,rows=30000",
    )
    out: Path = Field(title="DIR", description="trials and tables; repeat the command to resume")
    seeds: int = Field(default=3, ge=1, title="N", description="seeds 1 .. N of every training")
    options: Path | None = Field(
        default=None,
        title="FILE",
        description="YAML: model -> options; other models have defaults. MODEL/VARIANT -> options of a variant, which "
        "inherits those of MODEL and is named like a model: --models optmsm,optmsm/no_priors. Among a model's options, "
        "trainer: {SETTING: VALUE} holds trainer settings of that model alone",
    )
    trainer: list[str] = Field(default=[], title="K=V", description="trainer settings: learning_rate=1e-3")
    search: list[str] = Field(default=[], title="K=V", description="search settings: warmup_epochs=4")
    threads: Threads = Field(default=1, description="CPU threads; results depend on it")
    device: str = Field(default="auto", description="auto (a GPU when there is one), cpu, cuda or cuda:N")
    any_code: bool = Field(default=False, description="also use trials that other versions of the code made")
    verbose: bool = Field(default=False, description="log every epoch, not only every trial")

    @property
    def seed_numbers(self) -> list[int]:
        return list(range(1, self.seeds + 1))


class RunnerOptions(TrialOptions):
    """Options of a command that compares trials."""

    resamples: int = Field(default=1000, ge=100, description="resamples of the users, for intervals and p")


@contextmanager
def epochs_logged(is_logged: bool) -> Iterator[None]:
    """Within the block, trainings and searches log only warnings, unless their epochs are to be logged."""
    names = () if is_logged else ("msr_models.training", "msr_models.ssim")
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def open_runner(options: TrialOptions, models: Sequence[str]) -> ExperimentRunner:
    """The runner that the options configure. All options are checked before any rows are read."""
    keep_freed_memory()
    model_options = read_model_options(options.options, models)
    trainer = with_settings(trainer_defaults(options.data), options.trainer, "--trainer", fixed=("seed",))
    trainers = read_trainer_settings(options.options, trainer)
    _refuse_two_values(options, trainers, models)
    search = with_settings(search_defaults(options.data), options.search, "--search", fixed=("backbone", "seed"))
    device = usable_device(options.device)
    torch.set_num_threads(options.threads)
    log.info(f"reading {options.data}")
    split = open_split(options.data)
    rows = ", ".join(f"{len(w):,} {n}" for n, w in (("train", split.train), ("test", split.test)))
    log.info(f"{split.name}: {rows} rows, {split.num_scenarios} scenarios, content {split.fingerprint}")
    return ExperimentRunner(
        split=split.to(device),
        store=TrialStore(options.out, any_code=options.any_code),
        trainer=trainer,
        search=search,
        options=model_options,
        trainers=trainers,
        device=device,
    )


def usable_models(runner: ExperimentRunner, models: Sequence[str], *, skip: bool) -> tuple[list[str], dict[str, str]]:
    """(models that can be trained on these rows, reasons of the others). Raises TrainingError for one of the others
    unless `skip`.
    """
    usable, skipped = [], {}
    for model in models:
        try:
            runner.check(model)
        except TrainingError as error:
            if not skip:
                raise
            log.info(f"{model} is skipped: {error}")
            skipped[model] = str(error)
        else:
            usable.append(model)
    return usable, skipped


def named_base(text: str) -> str:
    """The model of --base. Raises TrainingError for an unknown one and for none or several."""
    names = named_models(text)
    if len(names) != 1:
        raise TrainingError(f"--base {text!r} names {len(names)} models; give one")
    return names[0]


def named_models(text: str) -> list[str]:
    """`all` registered models, or models and variants separated by commas. Raises TrainingError for an unknown one."""
    names = known_models() if text == "all" else list(dict.fromkeys(filter(None, text.split(","))))
    for name in names:
        check_name(name)
    if not names:
        raise TrainingError(f"{text!r} names no model; known models: {', '.join(known_models())}")
    return names


def read_model_options(path: Path | None, models: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Options by model or variant (merged with its model's) of a file; all of `models` must be defined.

    Raises TrainingError that names the file, the model and what is allowed.
    """
    options = {} if path is None else _options_in(path)
    for name in models:
        try:
            options_of(options, name)
        except TrainingError as error:
            where = "give --options FILE with it" if path is None else f"add it to {path}"
            raise TrainingError(f"{error}; {where}, as `{name}: {{OPTION: VALUE}}`") from error
    return options


def read_trainer_settings(path: Path | None, base: TrainerConfig) -> dict[str, Mapping[str, Any]]:
    """Trainer settings by model or variant (merged with its model's) of a file, each converted to its type.

    base: what they replace a part of. Raises TrainingError that names file, model, setting and what is allowed.
    """
    raw = {} if path is None else _read_file(path)
    settings: dict[str, Mapping[str, Any]] = {}
    for name, entry in raw.items():
        own = {**_trainer_in(raw.get(registered_name(name), {}), path), **_trainer_in(entry, path)}
        if "seed" in own:
            raise TrainingError(f"--options {path}: {name}: trainer may not set seed: give --seeds")
        try:
            checked = validated(TrainerConfig, {**base.model_dump(), **own})
        except ValueError as error:
            raise TrainingError(f"--options {path}: {name}: trainer: {error}") from error
        if own:
            settings[name] = {key: getattr(checked, key) for key in own}
    return settings


def _trainer_in(entry: Mapping[str, Any], path: Path | None) -> Mapping[str, Any]:
    found = entry.get(TRAINER, {})
    if not isinstance(found, dict):
        raise TrainingError(f"--options {path}: {TRAINER}: {found!r} is not a mapping of trainer settings to values")
    return found


def _refuse_two_values(options: TrialOptions, trainers: Mapping[str, Mapping[str, Any]], models: Sequence[str]) -> None:
    """Raises TrainingError for a setting that the command line and a model's entry give."""
    for change in options.trainer:
        key = change.partition("=")[0]
        for model in models:
            if key in trainers.get(model, {}):
                raise TrainingError(
                    f"--trainer {change}: --options {options.options} sets {key} of {model!r} too; give it in one place"
                )


def _options_in(path: Path) -> dict[str, Mapping[str, Any]]:
    raw = _read_file(path)
    try:
        return merged_options({name: {k: v for k, v in own.items() if k != TRAINER} for name, own in raw.items()})
    except TrainingError as error:
        raise TrainingError(f"--options {path}: {error}") from error


def _read_file(path: Path) -> dict[str, dict[str, Any]]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise TrainingError(f"--options {path} cannot be read ({error}); give a YAML file: model -> options") from error
    if not isinstance(raw, dict) or not all(isinstance(k, str) and isinstance(v, dict) for k, v in raw.items()):
        raise TrainingError(
            f"--options {path} is not a mapping of models to options, such as `star: {{hidden: [64, 32]}}`"
        )
    return raw
