"""Rows of `training_runs` and the files they name: written once all arms of a day are trained."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime

from lake.files import write_json, write_text
from lake.locations import artifact_uri, artifacts_dir
from lake.rows import write_rows
from msr_models.sets.catalogue import read_catalogue
from msr_models.training.checkpoint import save_checkpoint
from msr_models.training.predictions import write_predictions
from msr_models.training.recorded_runs import CALIBRATION_FILE, further_calibration_file
from msr_models.training.selection import selected_id
from msr_models.training.target import Arm, run_folder
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError
from schemas.tables.training_runs import TrainingRun

log = logging.getLogger(__name__)


def publish_runs(dataset: DatasetSpec, ds: date, model: str, arms: Sequence[Arm], fixed: float | None) -> None:
    """Files first, then the rows of (ds, model) in one transaction: a row never names a file that is not there.

    Raises SharedSetError, and writes nothing, where the arms' shared set was retired while they were trained.
    """
    _require_sets(dataset, ds, model, arms)
    selected = selected_id([a.manifest for a in arms], fixed)
    rows = [_row(dataset, arm, is_selected=arm.manifest.run_id == selected) for arm in arms]
    write_rows(dataset, rows)
    for row, arm in zip(rows, arms, strict=True):
        auc = "none" if row.validation_auc is None else f"{row.validation_auc:.4f}"
        loss = arm.result.validation_calibrated_logloss
        mark = f" <- selected on {arm.manifest.trainer['select_on']}" if row.is_selected else ""
        log.info(
            f"{ds} {model}: {row.arm} r={row.ratio:g} validation mean AUC {auc}, calibrated logloss {loss:.4f} "
            f"({row.run_id}){mark}"
        )


def _require_sets(dataset: DatasetSpec, ds: date, model: str, arms: Sequence[Arm]) -> None:
    for set_id in {arm.manifest.shared_set_id for arm in arms} - {None}:
        try:
            read_catalogue(dataset).get(str(set_id), ds)
        except SharedSetError as error:
            again = command("train_target_model", dataset, f"--ds {ds}", f"--model {model}")
            raise SharedSetError(
                f"{ds} {model}: nothing was published because its set may no longer be used: {error}; train the day "
                f"again with the set in force now: {again}"
            ) from error


def _row(dataset: DatasetSpec, arm: Arm, *, is_selected: bool) -> TrainingRun:
    """Write the arm's files and return its row of training_runs."""
    manifest = arm.manifest
    folder = run_folder(artifacts_dir(dataset), manifest.run_id)
    sha256 = save_checkpoint(folder / "weights.pt", arm.model, arm.card)
    write_text(folder / CALIBRATION_FILE, arm.calibration.to_json())
    for label, further in arm.further.items():
        write_text(folder / further_calibration_file(label), further.to_json())
    write_predictions(folder / "predictions.parquet", arm.predictions)
    write_json(folder / "manifest.json", json.loads(manifest.to_json()))
    return TrainingRun(
        ds=manifest.ds,
        model=manifest.model,
        run_id=manifest.run_id,
        arm=manifest.arm,
        ratio=manifest.ratio,
        is_selected=is_selected,
        shared_set_id=manifest.shared_set_id,
        seed=int(manifest.trainer["seed"]),
        validation_auc=arm.result.validation_auc,
        validation_logloss=arm.result.validation_logloss,
        validation_calibrated_logloss=arm.result.validation_calibrated_logloss,
        select_on=str(manifest.trainer["select_on"]),
        epochs=arm.result.epochs,
        train_rows=arm.result.train_rows,
        manifest=manifest.to_json(),
        checkpoint_uri=artifact_uri(dataset, folder / "weights.pt"),
        checkpoint_sha256=sha256,
        predictions_uri=artifact_uri(dataset, folder / "predictions.parquet"),
        train_seconds=arm.result.train_seconds,
        created_at=datetime.now(UTC),
    )
