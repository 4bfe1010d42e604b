"""Train target models on the days before ds with the shared instances, and predict ds.

For each model: training.window_days days before ds, the last of them for validation; the newest accepted shared set
whose window ends before ds; every ratio of training.ratios from the same fresh weights, the best on validation
selected. r = 0 (mt_backbone) and r = 1 (mt_backbone_s) are always kept. Writes training_runs, checkpoints,
predictions and manifests; a run that exists with the same inputs and code is not trained again.

With training.start: previous_day a run starts from the weights of the same run of the trainable day before, and trains
only on days that it has not seen. Days before ds that have no runs yet are trained first, back to the first one.

--manifest FILE repeats one run instead, compares its metrics, and writes nothing.
Several processes: torchrun --nproc-per-node N -m jobs.train_target_model ...
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch

from jobs.cli import StepArgs, progress, run_step
from msr_models.data.layout import smallest_layout
from msr_models.data.window import published_empty
from msr_models.models.registry import build_model, known_models, parse_options
from msr_models.sets.catalogue import find_shared_set, get_shared_set
from msr_models.training.chain import DayPlan, days_to_make_first, plan_day
from msr_models.training.config import TrainerConfig
from msr_models.training.device import usable_device
from msr_models.training.manifest import RunManifest, read_manifest
from msr_models.training.memory import keep_freed_memory
from msr_models.training.processes import Processes, join_processes
from msr_models.training.publish import publish_runs, runs_exist
from msr_models.training.state import Resume
from msr_models.training.target import (
    Arm,
    plan_arm,
    ratio_grid,
    resume_of,
    train_arm,
)
from msr_models.training.target_data import ReadOptions, TargetData, load_target_data
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.pipeline_spec import ModelChoice

ALL = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this step."""
    parser.add_argument(
        "--model", help="one of training.models, another registered model with its default options, or all of them"
    )
    parser.add_argument(
        "--leave-out", action="store_true", help="say and leave out a model that the data set cannot feed (all does)"
    )
    parser.add_argument("--ratio", type=float, help="train this share ratio (and 0) instead of the grid")
    parser.add_argument("--shared-set", help="id of the shared set to use instead of the newest fitting one")
    parser.add_argument("--manifest", type=Path, help="repeat the run of this manifest.json")
    parser.add_argument("--retrain", action="store_true", help="train also where the same run exists")
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads; results depend on it, and more than the idle cores is slow"
    )
    parser.add_argument("--device", default="auto", help="auto (a GPU when there is one), cpu, cuda or cuda:N")


def step(args: StepArgs) -> None:
    """Train every day asked for, or repeat a manifest."""
    keep_freed_memory()
    with join_processes() as processes:
        if args.options.manifest is not None:
            return repeat(args.dataset, read_manifest(args.options.manifest))
        if not args.days:
            raise TrainingError("which day? give --ds YYYY-MM-DD, --from and --to, or --manifest FILE")
        args.options.device = usable_device(args.options.device)
        if args.options.threads < 1:
            raise TrainingError(f"--threads {args.options.threads} must be 1 or more")
        torch.set_num_threads(args.options.threads)
        choices = chosen_models(args)
        if not choices:
            return progress("no model is left to train")
        for ds in args.days:
            _train_day(args, ds, choices, processes)


def chosen_models(args: StepArgs) -> list[ModelChoice]:
    """The models of the data set, the one named, or all that it can feed; checked before anything is read.

    Raises TrainingError for an unknown model, for options that do not fit (naming the YAML), and for a model that the
    data set cannot feed where it is not to be left out.
    """
    dataset, name = args.dataset, args.options.model
    listed = {c.name: c for c in dataset.training.models}
    names = listed if name is None else known_models() if name == ALL else [name]
    choices = [listed.get(n) or ModelChoice(name=n) for n in names]
    for choice in choices:
        try:
            parse_options(choice.name, choice.options)
        except TrainingError as error:
            if choice.name not in listed:
                raise
            raise TrainingError(f"{args.dataset_file or dataset.name}: training.models: {error}") from error
    leave_out = args.options.leave_out or name == ALL
    return [choice for choice in choices if _can_be_fed(dataset, choice, leave_out=leave_out)]


def _can_be_fed(dataset: DatasetSpec, choice: ModelChoice, *, leave_out: bool) -> bool:
    """Whether the model can be built on the data set's fields; if not and not to be left out, its TrainingError."""
    try:
        build_model(choice.name, choice.options, smallest_layout(dataset), dataset.num_scenarios, dataset.training.seed)
    except TrainingError as error:
        if not leave_out:
            raise
        progress(f"{choice.name} is left out: {error}")
        return False
    return True


def _train_day(args: StepArgs, ds: date, choices: Sequence[ModelChoice], processes: Processes) -> None:
    """Train the models on one day, after the days that it starts from."""
    dataset, options = args.dataset, args.options
    plan = plan_day(dataset, ds)
    if plan is None:
        return progress(
            f"{ds}: not all {dataset.training.window_days} days before it have features (the first is "
            f"{dataset.first_feature_day}): nothing to train on"
        )
    if published_empty(dataset, ds):
        return progress(f"{ds}: published without rows, nothing to test on")
    found = get_shared_set(dataset, options.shared_set, ds) if options.shared_set else find_shared_set(dataset, ds)
    set_id = found.shared_set_id if found else None
    ratios = {c.name: ratio_grid(dataset, c.name, set_id, options.ratio) for c in choices}
    for day, missing in days_to_make_first(dataset, plan, choices):
        _train_before(args, day, missing, ds, processes)
    _train_models(args, plan, choices, set_id, ratios, processes)


def _train_before(args: StepArgs, day: date, choices: Sequence[ModelChoice], ds: date, processes: Processes) -> None:
    """Make the runs of a day that `ds` builds on, as that day's own training would."""
    plan = plan_day(args.dataset, day)
    assert plan is not None, "a trainable day has a plan"
    names = ", ".join(c.name for c in choices)
    progress(f"{day}: no runs of {names} yet, and {ds} builds on them: this day is trained first")
    found = find_shared_set(args.dataset, day)
    set_id = found.shared_set_id if found else None
    fixed = args.options.ratio if found else None
    ratios = {c.name: ratio_grid(args.dataset, c.name, set_id, fixed) for c in choices}
    _train_models(args, plan, choices, set_id, ratios, processes)


def _train_models(
    args: StepArgs,
    plan: DayPlan,
    choices: Sequence[ModelChoice],
    set_id: str | None,
    ratios: Mapping[str, list[float]],
    processes: Processes,
) -> None:
    dataset, options, ds = args.dataset, args.options, plan.ds
    read = ReadOptions(loading=dataset.training.loading, device=options.device, processes=processes.world)
    trainer = TrainerConfig.from_spec(dataset.training)
    with load_target_data(dataset, plan, set_id, read) as data:
        _say_what_is_read(data)
        for choice in choices:
            grid = ratios[choice.name]
            fixed = options.ratio if options.ratio in grid else None
            planned = [plan_arm(data, choice, ratio, trainer, processes.world, options.device) for ratio in grid]
            if not options.retrain and runs_exist(dataset, planned, fixed):
                progress(f"{ds} {choice.name}: the same {len(planned)} runs exist, nothing to do")
                continue
            # Kept until all arms are published: what is interrupted in the last one does not train the others again.
            resumes = [resume_of(dataset, arm) for arm in planned]
            if options.retrain and processes.is_main:
                _remove(resumes)
            arms = [_train_one(data, arm, processes, r) for arm, r in zip(planned, resumes, strict=True)]
            if processes.is_main:
                publish_runs(dataset, ds, choice.name, arms, fixed)
                _remove(resumes)
            # The others may read these rows and files for the next day.
            processes.sum_value(torch.zeros(1, device=options.device))


def _remove(resumes: Sequence[Resume]) -> None:
    for resume in resumes:
        resume.remove()


def _say_what_is_read(data: TargetData) -> None:
    plan = data.plan
    ds, train_days, validation_days = plan.ds, plan.train_days, plan.validation_days
    trained = f"{train_days[0]} .. {train_days[-1]}" if train_days else "no new day"
    start = f", from the weights of {plan.predecessor}" if plan.predecessor else ""
    progress(f"{ds}: train {trained}, validate {validation_days[0]} .. {validation_days[-1]}{start}")
    set_id = data.shared_set_id
    progress(f"{ds}: shared set {set_id}" if set_id else f"{ds}: no shared set ends before it: only r = 0 is trained")
    where = " (through buckets on disk)" if data.loading == "streamed" else ""
    progress(
        f"{ds}: {data.training.num_rows:,} rows train{where}, {data.validation.num_rows:,} validate, "
        f"{data.test.num_rows:,} test; vocabulary {data.vocabulary_version}"
    )


def _train_one(data: TargetData, planned: RunManifest, processes: Processes, resume: Resume | None = None) -> Arm:
    def say(message: str) -> None:
        if processes.is_main:
            progress(f"{planned.ds} {planned.model} r={planned.ratio:g} {message}")

    return train_arm(data, planned, processes, say, resume)


def repeat(dataset: DatasetSpec, manifest: RunManifest) -> None:
    """Train the manifest's run again from the pinned versions and compare.

    Raises TrainingError where data or metrics are not those of the manifest.
    """
    recorded = (manifest.dataset, manifest.lineage, manifest.num_scenarios)
    if recorded != (dataset.name, dataset.lineage, dataset.num_scenarios):
        raise TrainingError(
            f"the manifest is of data set {manifest.dataset!r} with lineage {manifest.lineage!r} and "
            f"{manifest.num_scenarios} scenarios, not of {dataset.name!r} with {dataset.lineage!r} and "
            f"{dataset.num_scenarios}; give --dataset {manifest.dataset} as it was then"
        )
    torch.set_num_threads(manifest.threads)
    training = dataset.training.model_copy(update={"rank_scope": manifest.rank_scope})
    dataset = dataset.model_copy(update={"training": training})
    plan = DayPlan(
        ds=date.fromisoformat(manifest.ds),
        train_days=manifest.days("train_days"),
        validation_days=manifest.days("validation_days"),
        predecessor=date.fromisoformat(manifest.predecessor.ds) if manifest.predecessor else None,
    )
    read = ReadOptions(
        versions=(dict(manifest.table_versions), dict(manifest.test_table_versions)),
        loading=manifest.loading,
        device=usable_device(manifest.device),
    )
    with load_target_data(dataset, plan, manifest.shared_set_id, read) as data:
        changed = [name for name, value in manifest.fingerprints.items() if data.fingerprints[name] != value]
        if changed:
            raise TrainingError(f"run {manifest.run_id}: rows of {', '.join(changed)} are not those of the manifest")
        arm = _train_one(data, replace(manifest, metrics={}), Processes())
    for name, value in manifest.metrics.items():
        progress(f"{manifest.run_id} {name}: recorded {value!r}, repeated {arm.manifest.metrics[name]!r}")
    if dict(arm.manifest.metrics) != dict(manifest.metrics):
        raise TrainingError(
            f"run {manifest.run_id} gave other metrics than its manifest records; it was made by code "
            f"{manifest.code_version}, {json.dumps(dict(manifest.package_versions))}, {manifest.device}, "
            f"{manifest.world_size} process(es)"
        )
    progress(f"{manifest.run_id}: the same metrics")


if __name__ == "__main__":
    run_step(__doc__, step, add_arguments, needs_days=False)
