"""Train a recorded run again from its manifest and compare the metrics; nothing is written."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import date
from typing import cast

import torch

from msr_models.training.chain import DayPlan
from msr_models.training.device import usable_device
from msr_models.training.manifest import RunManifest
from msr_models.training.processes import Processes
from msr_models.training.target import train_arm
from msr_models.training.target_data import ReadOptions, load_target_data
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.pipeline_spec import RankScope

log = logging.getLogger(__name__)


def repeat_run(dataset: DatasetSpec, manifest: RunManifest) -> None:
    """Train the manifest's run again from the table versions that it names, and compare.

    Raises TrainingError where data or metrics are not those of the manifest.
    """
    recorded = (manifest.dataset, manifest.lineage, tuple(manifest.scenarios))
    if recorded != (dataset.name, dataset.lineage, dataset.scenario.names):
        raise TrainingError(
            f"the manifest is of data set {manifest.dataset!r} with lineage {manifest.lineage!r} and "
            f"scenarios {manifest.scenarios}, not of {dataset.name!r} with {dataset.lineage!r} and "
            f"{list(dataset.scenario.names)}; give --dataset {manifest.dataset} as it was then"
        )
    torch.set_num_threads(manifest.threads)
    plan = DayPlan(
        ds=date.fromisoformat(manifest.ds),
        train_days=manifest.days("train_days"),
        validation_days=manifest.days("validation_days"),
        predecessor=date.fromisoformat(manifest.predecessor.ds) if manifest.predecessor else None,
    )
    read = ReadOptions(
        versions=(dict(manifest.table_versions), dict(manifest.test_table_versions)),
        seed=int(manifest.trainer["seed"]),
        rank_scope=cast(RankScope, manifest.rank_scope),
        loading=manifest.loading,
        device=usable_device(manifest.device),
        negative_sampling=manifest.negative_sampling,
    )
    with load_target_data(dataset, plan, manifest.shared_set_id, read) as data:
        changed = [name for name, value in manifest.fingerprints.items() if data.fingerprints[name] != value]
        if changed:
            raise TrainingError(f"run {manifest.run_id}: rows of {', '.join(changed)} are not those of the manifest")
        made = train_arm(data, replace(manifest, metrics={}, calibration_sha256=""), Processes()).manifest
    before, repeated = _measured(manifest), _measured(made)
    for name, value in before.items():
        log.info(f"{manifest.run_id} {name}: recorded {value!r}, repeated {repeated[name]!r}")
    if repeated != before:
        raise TrainingError(
            f"run {manifest.run_id} gave other metrics or another calibration than recorded; it was made by "
            f"code {manifest.code_version}, {json.dumps(dict(manifest.package_versions))}, {manifest.device}, "
            f"{manifest.world_size} process(es)"
        )
    log.info(f"{manifest.run_id}: the same metrics and calibration")


def _measured(manifest: RunManifest) -> dict[str, float | str | None]:
    return {**manifest.metrics, "calibration": manifest.calibration_sha256}
