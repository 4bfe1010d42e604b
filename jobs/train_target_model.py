"""Train target models on the days before ds with the shared instances, and predict ds.

For each model: training.window_days days before ds, the last of them for validation; the newest accepted shared set
whose window ends before ds; every ratio of training.ratios from the same fresh weights, the best on validation
(training.select_on) selected, its probabilities calibrated (training.calibration). r = 0 (mt_backbone) and r = 1
(mt_backbone_s) are always trained too. A logistic regression is trained beside the models as their floor
(training.floor). Writes training_runs, checkpoints, calibrations, predictions and manifests; an existing run with the
same inputs and code is not trained again.

With training.start: previous_day a run starts from the weights of the same run of the trainable day before, and trains
only on days that it has not seen. Days before ds that have no runs yet are trained first, back to the first one.

--manifest FILE repeats one run instead, compares its metrics, and writes nothing.
Several processes: torchrun --nproc-per-node N -m jobs.train_target_model ...
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from pydantic import Field

from jobs.cli import DatasetOptions, StepArgs, StepOptions, Threads, run_step
from msr_models.data.layout import smallest_layout
from msr_models.data.reader import published_empty
from msr_models.models.registry import build_model, known_models, parse_options
from msr_models.sets.catalogue import find_shared_set, read_catalogue
from msr_models.training.chain import DayPlan, days_to_make_first, plan_day
from msr_models.training.device import usable_device
from msr_models.training.manifest import read_manifest
from msr_models.training.memory import keep_freed_memory
from msr_models.training.processes import Processes, join_processes
from msr_models.training.publish import publish_runs
from msr_models.training.repeat import repeat_run
from msr_models.training.selection import runs_exist
from msr_models.training.state import Resume
from msr_models.training.target import labels_of, plan_arm, ratio_grid, resume_of, train_arm
from msr_models.training.target_data import ReadOptions, TargetData, load_target_data
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.first_days import why_no_window
from schemas.pipeline_spec import ModelChoice

log = logging.getLogger(__name__)

GROUP = "daily"
ALL = "all"


class TrainOptions(StepOptions):
    """Options of this step."""

    model: str | None = Field(
        default=None,
        description="one of training.models, another registered model with its default options, or all registered "
        "ones; without it training.models and the floor",
    )
    skip_unfit: bool = Field(
        default=False,
        description="skip models whose required fields the data set lacks, and log why (`all` always does)",
    )
    ratio: float | None = Field(
        default=None, ge=0, le=1, description="train this share ratio (and 0) instead of the grid"
    )
    shared_set: str | None = Field(
        default=None, title="ID", description="shared set to use instead of the pinned or newest fitting one"
    )
    manifest: Path | None = Field(default=None, title="FILE", description="repeat the run of this manifest.json")
    retrain: bool = Field(default=False, description="train also where the same run exists")
    threads: Threads = Field(
        default=1, description="CPU threads; results depend on it, and more threads than idle cores are slow"
    )
    device: str = Field(default="auto", description="auto (a GPU when there is one), cpu, cuda or cuda:N")


def step(args: StepArgs[TrainOptions]) -> None:
    """Train every day, or repeat a manifest."""
    options = args.options
    keep_freed_memory()
    with join_processes() as processes:
        if options.manifest is not None:
            _require_alone(options)
            repeat_run(args.dataset, read_manifest(options.manifest))
            return
        if not args.days:
            raise TrainingError("which day? give --ds YYYY-MM-DD, --from and --to, or --manifest FILE")
        torch.set_num_threads(options.threads)
        training = DailyTraining(
            dataset=args.dataset, options=options, device=usable_device(options.device), processes=processes
        )
        choices = chosen_models(args)
        if not choices:
            log.info("no model is left to train")
        for ds in args.days if choices else []:
            training.train_day(ds, choices)


def _require_alone(options: TrainOptions) -> None:
    if extra := options.model_fields_set - {"manifest", *DatasetOptions.model_fields}:
        flags = {"first": "from", "last": "to"}
        named = ", ".join(sorted("--" + flags.get(name, name).replace("_", "-") for name in extra))
        raise TrainingError(f"--manifest repeats a run with the run's own settings; leave out {named}")


def chosen_models(args: StepArgs[TrainOptions]) -> list[ModelChoice]:
    """The models of the data set and its floor, the one named, or all that its fields suffice for.

    All are checked before anything is read.

    Raises TrainingError for an unknown model, for options that do not fit (naming the YAML), and for a model whose
    required fields the data set lacks, unless such models are to be skipped.
    """
    dataset, name = args.dataset, args.options.model
    listed = {c.name: c for c in dataset.training.trained_models}
    names = listed if name is None else known_models() if name == ALL else [name]
    choices = [listed.get(n) or ModelChoice(name=n) for n in names]
    for choice in choices:
        try:
            parse_options(choice.name, choice.options)
        except TrainingError as error:
            if choice.name not in listed:
                raise
            raise TrainingError(f"{args.dataset_file or dataset.name}: training.models: {error}") from error
    skip = args.options.skip_unfit or name == ALL
    return [choice for choice in choices if _has_its_fields(dataset, choice, skip=skip)]


def _has_its_fields(dataset: DatasetSpec, choice: ModelChoice, *, skip: bool) -> bool:
    """Whether the model can be built on the data set's fields; if not and not to be skipped, its TrainingError."""
    try:
        layout, labels = smallest_layout(dataset), labels_of(dataset)
        build_model(choice.name, choice.options, layout, dataset.num_scenarios, dataset.training.seed, labels)
    except TrainingError as error:
        if not skip:
            raise
        log.warning(f"{choice.name} is skipped: {error}")
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class DailyTraining:
    """Trains days of a data set with the options given."""

    dataset: DatasetSpec
    options: TrainOptions
    device: str
    processes: Processes

    def train_day(self, ds: date, choices: Sequence[ModelChoice]) -> None:
        """Train the models on one day, after the days that it starts from."""
        dataset, options = self.dataset, self.options
        plan = plan_day(dataset, ds)
        if plan is None:
            reason = why_no_window(dataset, ds, "training", dataset.training.window_days)
            log.info(f"{ds}: nothing to train on: {reason}")
            return
        if published_empty(dataset, ds):
            log.info(f"{ds}: published without rows, nothing to test on")
            return
        catalogue = read_catalogue(dataset)
        found = catalogue.get(options.shared_set, ds) if options.shared_set else catalogue.find(ds)
        set_id = found.shared_set_id if found else None
        ratios = {c.name: ratio_grid(dataset, c.name, set_id, options.ratio) for c in choices}
        for day, missing in days_to_make_first(dataset, plan, choices):
            self._train_before(day, missing, ds)
        self._train_models(plan, choices, set_id, ratios)

    def _train_before(self, day: date, choices: Sequence[ModelChoice], ds: date) -> None:
        """Train a day that `ds` builds on, as that day's own training would."""
        plan = plan_day(self.dataset, day)
        assert plan is not None, "a trainable day has a plan"
        names = ", ".join(c.name for c in choices)
        log.info(f"{day}: no runs of {names} yet, and {ds} builds on them: this day is trained first")
        found = find_shared_set(self.dataset, day)
        set_id = found.shared_set_id if found else None
        fixed = self.options.ratio if found else None
        ratios = {c.name: ratio_grid(self.dataset, c.name, set_id, fixed) for c in choices}
        self._train_models(plan, choices, set_id, ratios)

    def _train_models(
        self, plan: DayPlan, choices: Sequence[ModelChoice], set_id: str | None, ratios: Mapping[str, list[float]]
    ) -> None:
        training = self.dataset.training
        read = ReadOptions(
            seed=training.seed,
            rank_scope=training.rank_scope,
            loading=training.loading,
            device=self.device,
            processes=self.processes.world,
        )
        with load_target_data(self.dataset, plan, set_id, read) as data:
            _log_what_is_read(data)
            for choice in choices:
                self._train_model(data, choice, ratios[choice.name])
                # The other processes may read these rows and files for the next day
                self.processes.sum_value(torch.zeros(1, device=self.device))

    def _train_model(self, data: TargetData, choice: ModelChoice, grid: list[float]) -> None:
        dataset, options, ds = self.dataset, self.options, data.plan.ds
        world = self.processes.world
        fixed = options.ratio if options.ratio in grid else None
        planned = [plan_arm(data, choice, ratio, world=world, device=self.device) for ratio in grid]
        if not options.retrain and runs_exist(dataset, planned, fixed):
            log.info(f"{ds} {choice.name}: the same {len(planned)} runs exist, nothing to do")
            return
        # Kept until all arms are published: an interruption in the last one does not train the others again
        resumes = [resume_of(dataset, arm) for arm in planned]
        if options.retrain and self.processes.is_main:
            _remove(resumes)
        arms = [train_arm(data, arm, self.processes, resume=r) for arm, r in zip(planned, resumes, strict=True)]
        if self.processes.is_main:
            publish_runs(dataset, ds, choice.name, arms, fixed)
            _remove(resumes)


def _remove(resumes: Sequence[Resume]) -> None:
    for resume in resumes:
        resume.remove()


def _log_what_is_read(data: TargetData) -> None:
    plan, set_id = data.plan, data.shared_set_id
    ds, train_days, validation_days = plan.ds, plan.train_days, plan.validation_days
    trained = f"{train_days[0]} .. {train_days[-1]}" if train_days else "no new day"
    start = f", from the weights of {plan.predecessor}" if plan.predecessor else ""
    log.info(f"{ds}: train {trained}, validate {validation_days[0]} .. {validation_days[-1]}{start}")
    log.info(f"{ds}: shared set {set_id}" if set_id else f"{ds}: no shared set ends before it: only r = 0 is trained")
    where = " (through buckets on disk)" if data.loading == "streamed" else ""
    log.info(
        f"{ds}: {data.training.num_rows:,} rows train{where}, {data.validation.num_rows:,} validate, "
        f"{data.test.num_rows:,} test; vocabulary {data.vocabulary_version}"
    )


if __name__ == "__main__":
    run_step(__doc__, step, TrainOptions, needs_days=False)
