"""Train target models on the days before ds with the shared instances, and predict ds.

For each model: training.window_days days before ds, the last of them for validation; the newest accepted shared set
whose window ends before ds; every ratio of training.ratios from the same fresh weights, the best on validation
selected. r = 0 (mt_backbone) and r = 1 (mt_backbone_s) are always kept. Writes training_runs, checkpoints,
predictions and manifests; a run that exists with the same inputs and code is not trained again.

--manifest FILE repeats one run instead, compares its metrics, and writes nothing.
Several processes: torchrun --nproc-per-node N -m jobs.train_target_model ...
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import torch

from jobs.arrow_lake import overwrite_partition
from jobs.cli import StepArgs, progress, run_step
from msr_models.data import lake_reader
from msr_models.data.shared_sets import find_shared_set, get_shared_set
from msr_models.data.window import published_empty
from msr_models.models.registry import parse_options
from msr_models.training.checkpoint import save_checkpoint
from msr_models.training.files import write_json
from msr_models.training.manifest import RunManifest, read_manifest
from msr_models.training.predictions import write_predictions
from msr_models.training.processes import Processes, join_processes
from msr_models.training.target import (
    Arm,
    TargetData,
    load_target_data,
    plan_arm,
    ratio_grid,
    run_folder,
    select,
    split_days,
    train_arm,
)
from msr_models.training.trainer import TrainerConfig
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.locations import artifacts_dir
from schemas.pipeline_spec import ModelChoice


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this step."""
    parser.add_argument("--model", help="one of training.models, or another registered model with its default options")
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
    with join_processes() as processes:
        if args.options.manifest is not None:
            return repeat(args.dataset, read_manifest(args.options.manifest))
        if not args.days:
            raise TrainingError("which day? give --ds YYYY-MM-DD, --from and --to, or --manifest FILE")
        args.options.device = _usable_device(args.options.device)
        if args.options.threads < 1:
            raise TrainingError(f"--threads {args.options.threads} must be 1 or more")
        torch.set_num_threads(args.options.threads)
        choices = chosen_models(args.dataset, args.options.model)
        for ds in args.days:
            _train_day(args, ds, choices, processes)


def _usable_device(device: str) -> str:
    """The device meant by --device. Raises TrainingError where it cannot be had."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
        return device
    except (RuntimeError, AssertionError) as error:
        raise TrainingError(
            f"--device {device!r} cannot be used ({str(error).splitlines()[0]}); give --device cpu"
        ) from error


def chosen_models(dataset: DatasetSpec, name: str | None) -> Sequence[ModelChoice]:
    """The models of the data set, or the one named; options are checked before anything is read."""
    listed = {c.name: c for c in dataset.training.models}
    choices = dataset.training.models if name is None else (listed.get(name) or ModelChoice(name=name),)
    for choice in choices:
        parse_options(choice.name, choice.options)
    return choices


def _train_day(args: StepArgs, ds: date, choices: Sequence[ModelChoice], processes: Processes) -> None:
    dataset, options = args.dataset, args.options
    split = split_days(dataset, ds)
    if split is None:
        return progress(
            f"{ds}: not all {dataset.training.window_days} days before it have features (the first is "
            f"{dataset.first_feature_day}): nothing to train on"
        )
    if published_empty(dataset, ds):
        return progress(f"{ds}: published without rows, nothing to test on")
    train_days, validation_days = split
    found = get_shared_set(dataset, options.shared_set, ds) if options.shared_set else find_shared_set(dataset, ds)
    set_id = found.shared_set_id if found else None
    progress(f"{ds}: train {train_days[0]} .. {train_days[-1]}, validate {validation_days[0]} .. {validation_days[-1]}")
    progress(f"{ds}: shared set {set_id}" if set_id else f"{ds}: no shared set ends before it: only r = 0 is trained")
    data = load_target_data(dataset, ds, train_days, validation_days, set_id, device=options.device)
    progress(
        f"{ds}: {len(data.train_rows):,} rows train, {len(data.validation_rows):,} validate, {len(data.test):,} test; "
        f"vocabulary {data.window.vocabulary_version}"
    )
    trainer = TrainerConfig.from_spec(dataset.training)
    for choice in choices:
        ratios = ratio_grid(dataset, choice.name, set_id, options.ratio)
        planned = [plan_arm(data, choice, ratio, trainer, processes.world, options.device) for ratio in ratios]
        if not options.retrain and _is_done(dataset, ds, choice.name, planned, options.ratio):
            progress(f"{ds} {choice.name}: the same {len(planned)} runs exist, nothing to do")
            continue
        arms = [_train_one(data, plan, processes) for plan in planned]
        if processes.is_main:
            _publish(dataset, ds, choice.name, arms, options.ratio)


def _train_one(data: TargetData, planned: RunManifest, processes: Processes) -> Arm:
    def say(message: str) -> None:
        if processes.is_main:
            progress(f"{planned.ds} {planned.model} r={planned.ratio:g} {message}")

    return train_arm(data, planned, processes, say)


def _selected_id(manifests: Sequence[RunManifest], fixed: float | None) -> str:
    wanted = [m for m in manifests if fixed is None or m.ratio == fixed]
    return select(wanted).run_id


def _publish(dataset: DatasetSpec, ds: date, model: str, arms: Sequence[Arm], fixed: float | None) -> None:
    """Files first, then the rows of (ds, model) in one transaction: a row never names a file that is not there."""
    selected = _selected_id([a.manifest for a in arms], fixed)
    rows = [_row(dataset, arm, is_selected=arm.manifest.run_id == selected) for arm in arms]
    overwrite_partition(pa.Table.from_pylist(rows), dataset, "training_runs", {"ds": str(ds), "model": model})
    for row in rows:
        auc = "none" if row["validation_auc"] is None else f"{row['validation_auc']:.4f}"
        mark = " <- selected" if row["is_selected"] else ""
        progress(f"{ds} {model}: {row['arm']} r={row['ratio']:g} validation mean AUC {auc} ({row['run_id']}){mark}")


def _row(dataset: DatasetSpec, arm: Arm, *, is_selected: bool) -> dict[str, object]:
    """Write the arm's files and return its row of training_runs."""
    manifest = arm.manifest
    folder = run_folder(artifacts_dir(dataset.name), manifest.run_id)
    sha256 = save_checkpoint(folder / "weights.pt", arm.model, arm.card)
    write_predictions(folder / "predictions.parquet", arm.predictions)
    write_json(folder / "manifest.json", json.loads(manifest.to_json()))
    return {
        "ds": manifest.ds,
        "model": manifest.model,
        "run_id": manifest.run_id,
        "arm": manifest.arm,
        "ratio": manifest.ratio,
        "is_selected": is_selected,
        "shared_set_id": manifest.shared_set_id,
        "seed": manifest.trainer["seed"],
        "validation_auc": arm.result.validation_auc,
        "validation_logloss": arm.result.validation_logloss,
        "epochs": arm.result.epochs,
        "train_rows": arm.result.train_rows,
        "manifest": manifest.to_json(),
        "checkpoint_uri": str(folder / "weights.pt"),
        "checkpoint_sha256": sha256,
        "predictions_uri": str(folder / "predictions.parquet"),
        "train_seconds": arm.result.train_seconds,
        "created_at": datetime.now(UTC),
    }


def _is_done(dataset: DatasetSpec, ds: date, model: str, planned: Sequence[RunManifest], fixed: float | None) -> bool:
    """Whether (ds, model) holds exactly these runs, made by this code, with their files in place."""
    if not lake_reader.table_exists(dataset.name, "training_runs"):
        return False
    rows = lake_reader.read_table(dataset.name, "training_runs", days=[ds], filters={"model": model}).to_pylist()
    if {r["run_id"] for r in rows} != {p.run_id for p in planned}:
        return False
    made = [RunManifest(**json.loads(r["manifest"])) for r in rows]
    here = planned[0]
    if any(
        (m.code_version, m.library_versions, m.device) != (here.code_version, here.library_versions, here.device)
        for m in made
    ):
        return False
    if [r["run_id"] for r in rows if r["is_selected"]] != [_selected_id(made, fixed)]:
        return False
    return all(_has_files(r["checkpoint_uri"], r["checkpoint_sha256"], r["predictions_uri"]) for r in rows)


def _has_files(checkpoint: str, sha256: str, predictions: str) -> bool:
    path = Path(checkpoint)
    return Path(predictions).is_file() and path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def repeat(dataset: DatasetSpec, manifest: RunManifest) -> None:
    """Train the manifest's run again from the pinned versions and compare.

    Raises TrainingError where data or metrics are not those of the manifest.
    """
    if (manifest.dataset, manifest.lineage) != (dataset.name, dataset.lineage):
        raise TrainingError(
            f"the manifest is of data set {manifest.dataset!r} with lineage {manifest.lineage!r}, not of "
            f"{dataset.name!r} with {dataset.lineage!r}; give --dataset {manifest.dataset} as it was then"
        )
    torch.set_num_threads(manifest.threads)
    training = dataset.training.model_copy(update={"rank_scope": manifest.rank_scope})
    dataset = dataset.model_copy(update={"training": training})
    data = load_target_data(
        dataset,
        date.fromisoformat(manifest.ds),
        manifest.days("train_days"),
        manifest.days("validation_days"),
        manifest.shared_set_id,
        versions=(dict(manifest.table_versions), dict(manifest.test_table_versions)),
        device=_usable_device(manifest.device),
    )
    found = {"window": data.window.fingerprint, "masks": data.window.mask_fingerprint, "test": data.test.fingerprint}
    changed = [name for name, value in manifest.fingerprints.items() if found[name] != value]
    if changed:
        raise TrainingError(f"run {manifest.run_id}: rows of {', '.join(changed)} are not those of the manifest")
    arm = _train_one(data, replace(manifest, metrics={}), Processes())
    for name, value in manifest.metrics.items():
        progress(f"{manifest.run_id} {name}: recorded {value!r}, repeated {arm.manifest.metrics[name]!r}")
    if dict(arm.manifest.metrics) != dict(manifest.metrics):
        raise TrainingError(
            f"run {manifest.run_id} gave other metrics than its manifest records; it was made by code "
            f"{manifest.code_version}, {json.dumps(dict(manifest.library_versions))}, {manifest.device}, "
            f"{manifest.world_size} process(es)"
        )
    progress(f"{manifest.run_id}: the same metrics")


if __name__ == "__main__":
    run_step(__doc__, step, add_arguments, needs_days=False)
