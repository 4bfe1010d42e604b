"""Recorded runs: rows of `training_runs` with their manifests and files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from lake.locations import artifact_path
from lake.rows import read_rows
from msr_models.training.manifest import RunManifest, parse_manifest
from schemas.dataset_spec import DatasetSpec
from schemas.tables.training_runs import TrainingRun

CALIBRATION_FILE = "calibration.json"


def further_calibration_file(label: str) -> str:
    """File of the calibration of a label beside the main one."""
    return f"calibration_{label}.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedRun:
    """A row of `training_runs` with its manifest parsed and its files located."""

    dataset: DatasetSpec = field(repr=False)
    row: TrainingRun = field(repr=False)
    manifest: RunManifest

    @property
    def checkpoint(self) -> Path:
        """The weights file."""
        return artifact_path(self.dataset, self.row.checkpoint_uri)

    def has_files(self) -> bool:
        """Whether the predictions exist, and checkpoint and calibration are the recorded ones."""
        if not artifact_path(self.dataset, self.row.predictions_uri).is_file():
            return False
        calibration = self.checkpoint.with_name(CALIBRATION_FILE)
        return (
            _sha256(self.checkpoint) == self.row.checkpoint_sha256
            and _sha256(calibration) == self.manifest.calibration_sha256
        )


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def recorded_runs(dataset: DatasetSpec, ds: date, model: str) -> list[RecordedRun]:
    """The runs of (ds, model), by ratio; none where nothing was trained.

    Raises TrainingError for a manifest of another format.
    """
    rows = read_rows(dataset, TrainingRun, days=[ds], filters={"model": model})
    return [_recorded(dataset, row) for row in sorted(rows, key=lambda row: row.ratio)]


def _recorded(dataset: DatasetSpec, row: TrainingRun) -> RecordedRun:
    manifest = parse_manifest(row.manifest, f"the manifest of run {row.run_id} in {TrainingRun.table}")
    return RecordedRun(dataset=dataset, row=row, manifest=manifest)
