"""Train one target model for one day: each share ratio, the best on validation selected.

All ratios start from the same fresh weights, or each from its own run of the trainable day before (see `chain`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from lake.locations import artifacts_dir
from msr_models.data.source import ResidentRows
from msr_models.data.window import Window
from msr_models.evaluation.blocks import Floats
from msr_models.evaluation.calibration import Calibration, fit_calibration
from msr_models.evaluation.metrics import logloss, mean_scenario_auc
from msr_models.models.base import MultiScenarioModel
from msr_models.models.many_labels import Labels
from msr_models.models.registry import model_class
from msr_models.training.chain import find_predecessor
from msr_models.training.checkpoint import ModelCard
from msr_models.training.manifest import RunManifest, code_version, package_versions
from msr_models.training.prediction import predict_labels, validate
from msr_models.training.predictions import prediction_rows
from msr_models.training.processes import Processes
from msr_models.training.state import Resume
from msr_models.training.target_data import TargetData
from msr_models.training.trainer import TrainResult, train
from msr_models.training.warm_start import build_from_checkpoint
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.pipeline_spec import CalibrationMethod, ModelChoice, TrainerConfig
from schemas.settings import validated

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One trained ratio: its manifest with metrics, its model and calibration, predictions of validation and test.

    further: the calibrations of the labels beside the main one, by name.
    """

    manifest: RunManifest
    card: ModelCard
    model: MultiScenarioModel
    result: TrainResult
    calibration: Calibration
    predictions: list[pa.Table]
    further: Mapping[str, Calibration] = field(default_factory=dict)


def arm_name(ratio: float) -> str:
    """mt_backbone (r = 0: no row shared), mt_backbone_s (r = 1: every row), ssim (between)."""
    return {0.0: "mt_backbone", 1.0: "mt_backbone_s"}.get(ratio, "ssim")


def ratio_grid(dataset: DatasetSpec, model: str, shared_set_id: str | None, fixed: float | None) -> list[float]:
    """Ratios to train: 0 always; with a set those of the data set and 1, or only the fixed one.

    Raises TrainingError where a ratio above 0 is asked for without a set or of a model without towers.
    """
    if not model_class(model).has_towers:
        if fixed:
            raise TrainingError(
                f"--ratio {fixed}: model {model!r} has no towers to share rows among; leave --ratio out"
            )
        return [0.0]
    if shared_set_id is None:
        if fixed:
            search = command("search_shared_instances", dataset, "--ds DAY")
            raise TrainingError(f"--ratio {fixed} needs a shared set; run: {search}")
        return [0.0]
    if fixed is not None:
        return sorted({0.0, fixed})
    return sorted({0.0, 1.0, *dataset.training.ratios})


def plan_arm(data: TargetData, choice: ModelChoice, ratio: float, *, world: int, device: str) -> RunManifest:
    """The manifest of an arm before it is trained: all inputs, no metrics yet.

    Raises TrainingError where the day before, which it starts from, has no fitting run.
    """
    plan, is_shared = data.plan, ratio > 0
    # What the r = 0 arm does not read must not be part of its name: it is the same run with and without a set.
    versions = {t: v for t, v in data.table_versions.items() if is_shared or t != "shared_instance_masks"}
    manifest = RunManifest(
        dataset=data.dataset.name,
        lineage=data.dataset.lineage,
        scenarios=list(data.dataset.scenario.names),
        ds=str(plan.ds),
        model=choice.name,
        options=dict(choice.options),
        arm=arm_name(ratio),
        ratio=ratio,
        rank_scope=data.rank_scope,
        shared_set_id=data.shared_set_id if is_shared else None,
        trainer=data.dataset.training.trainer_of(choice).model_dump(),
        train_days=[str(d) for d in plan.train_days],
        validation_days=[str(d) for d in plan.validation_days],
        vocabulary_version=data.vocabulary_version,
        table_versions=versions,
        test_table_versions=dict(data.test.window.table_versions),
        fingerprints=dict(data.fingerprints) | ({} if is_shared else {"masks": None}),
        loading=data.loading,
        threads=torch.get_num_threads(),
        world_size=world,
        device=device,
        code_version=code_version(),
        package_versions=package_versions(),
        metrics={},
        embedding_dims=data.layout.own_dims,
        negative_sampling=data.dataset.training.negative_sampling,
    )
    if plan.predecessor is not None:
        before = find_predecessor(data.dataset, plan.predecessor, manifest)
        manifest = replace(manifest, start="previous_day", predecessor=before)
    return replace(manifest, run_id=manifest.identity())


def train_arm(
    data: TargetData,
    planned: RunManifest,
    processes: Processes,
    resume: Resume | None = None,
) -> Arm:
    """Train one planned arm from its first weights, or from where it was interrupted; predict validation and test rows.

    Raises TrainingError where the predecessor's checkpoint is gone, changed or does not fit.
    """

    name = f"{planned.ds} {planned.model} r={planned.ratio:g}"
    trainer = _trainer_config(planned)
    card = ModelCard(
        model=planned.model,
        options=dict(planned.options),
        layout=data.layout.with_own_dims(planned.embedding_dims),
        scenarios=tuple(planned.scenarios),
        seed=trainer.seed,
        dataset=planned.dataset,
        vocabulary_version=data.vocabulary_version,
        labels=labels_of(data.dataset),
    )
    model = _first_weights(data.dataset, card, planned).to(planned.device)
    training = data.training_rows(planned.ratio)
    rows_K = training.label_counts()[0].tolist()
    if training.num_rows or planned.predecessor is None:
        result = train(model, training, data.validation, trainer, processes=processes, resume=resume, name=name)
    else:
        log.info(f"{name} no new rows: the weights of the run before are kept")
        result = _kept(model, data.validation, trainer.calibration)
    # Of every label, the main one first
    held_out_NT, test_NT = (predict_labels(model, rows.window, rows.rows) for rows in (data.validation, data.test))
    validation_probs, test_probs = (np.ascontiguousarray(probs[:, 0]) for probs in (held_out_NT, test_NT))
    calibration = _fit(planned, data.validation, validation_probs, name)
    further = {
        label: _fit(planned, data.validation, held_out_NT[:, 1 + j], f"{name} {label}", j)
        for j, label in enumerate(model.further_labels)
    }
    metrics = {
        "validation_auc": result.validation_auc,
        "validation_logloss": result.validation_logloss,
        "validation_calibrated_logloss": result.validation_calibrated_logloss,
        **_test_metrics(data.test.window, test_probs, calibration),
        **_further_metrics(data.test.window, test_NT[:, 1:], further),
    }
    parts = ((data.validation, held_out_NT, "validation"), (data.test, test_NT, "test"))
    return Arm(
        manifest=replace(
            planned,
            metrics=metrics,
            calibration_sha256=calibration.digest(),
            scenarios_without_rows=[name for name, rows in zip(card.scenarios, rows_K, strict=True) if rows == 0],
        ),
        card=card,
        model=model,
        result=result,
        calibration=calibration,
        predictions=[
            prediction_rows(part.window, part.rows, probs, s, calibration, further) for part, probs, s in parts
        ],
        further=further,
    )


def labels_of(dataset: DatasetSpec) -> Labels:
    """The labels that a data set's models learn."""
    return Labels(further=tuple(dataset.columns.further_labels), esmm=dataset.training.labels.esmm)


def _fit(
    planned: RunManifest, validation: ResidentRows, probs: Floats, name: str, further: int | None = None
) -> Calibration:
    """The calibration of the main label, or of a further one."""
    window, rows = validation.window, validation.rows
    labels, scenarios = window.labels(further)[rows].cpu().numpy(), window.scenario_N[rows].cpu().numpy()
    method, weights = planned.trainer["calibration"], window.weights_of(rows)
    found = fit_calibration(method, probs, labels, scenarios, planned.scenarios, weights)
    if found.borrowing:
        few = ", ".join(found.borrowing)
        log.info(f"{name}: {found.method} of all rows for scenarios with too few rows of a class in validation: {few}")
    return found


def _trainer_config(planned: RunManifest) -> TrainerConfig:
    known, given = set(TrainerConfig.model_fields), {"labels", *planned.trainer}  # no labels: their default
    if given != known:
        raise TrainingError(
            f"run {planned.run_id} was made by another version of the trainer (settings that differ: "
            f"{sorted(given ^ known)}); repeat it with code {planned.code_version}, or train again"
        )
    try:
        return validated(TrainerConfig, planned.trainer)
    except ValueError as error:
        raise TrainingError(f"run {planned.run_id}: the manifest's trainer: {error}; train the day again") from error


def _first_weights(dataset: DatasetSpec, card: ModelCard, planned: RunManifest) -> MultiScenarioModel:
    before = planned.predecessor
    if before is None:
        return card.build()
    path = run_folder(artifacts_dir(dataset), before.run_id) / "weights.pt"
    try:
        return build_from_checkpoint(card, path, before.checkpoint_sha256, before.new_scenario_start)
    except TrainingError as error:
        raise TrainingError(f"run {planned.run_id} starts from run {before.run_id} of {before.ds}: {error}") from error


def _kept(model: MultiScenarioModel, validation: ResidentRows, calibration: CalibrationMethod) -> TrainResult:
    """The result on a day without new rows: the weights as they are, validated."""
    found = validate(model, validation.window, validation.rows, calibration)
    return TrainResult(
        epochs=0,
        validation_auc=found.auc,
        validation_logloss=found.logloss,
        validation_calibrated_logloss=found.calibrated_logloss,
        train_rows=0,
        train_seconds=0.0,
    )


def _test_metrics(test: Window, probs: Floats, calibration: Calibration) -> dict[str, float | None]:
    labels, scenarios = test.label_N.cpu().numpy(), test.scenario_N.cpu().numpy()
    weights = test.weights_of()
    return {
        "test_auc": mean_scenario_auc(probs, labels, scenarios, test.num_scenarios, weights),
        "test_logloss": logloss(probs, labels, weights),
        "test_calibrated_logloss": logloss(calibration.apply(probs, scenarios), labels, weights),
    }


def _further_metrics(test: Window, probs_NJ: Floats, further: Mapping[str, Calibration]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    scenarios = test.scenario_N.cpu().numpy()
    for j, (label, calibration) in enumerate(further.items()):
        probs, labels = probs_NJ[:, j], test.labels(j).cpu().numpy()
        found |= {
            f"test_auc {label}": mean_scenario_auc(probs, labels, scenarios, test.num_scenarios),
            f"test_logloss {label}": logloss(probs, labels),
            f"test_calibrated_logloss {label}": logloss(calibration.apply(probs, scenarios), labels),
        }
    return found


def run_folder(artifacts: Path, run_id: str) -> Path:
    """Folder of a run's files."""
    return artifacts / "runs" / run_id


def resume_of(dataset: DatasetSpec, planned: RunManifest) -> Resume:
    """The resumable state of an arm in training, valid only for this run, code, libraries and device."""
    made_by = [planned.code_version, dict(planned.package_versions), planned.device]
    path = artifacts_dir(dataset) / "resume" / f"{planned.run_id}.pt"
    return Resume(path, f"{planned.run_id} {json.dumps(made_by, sort_keys=True)}", dataset.training.checkpoint_steps)
