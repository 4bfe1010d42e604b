"""Runs as `training_runs` records them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from lake import reader as lake_reader
from lake.locations import artifact_path
from msr_models.training.manifest import RunManifest, parse_manifest
from schemas.dataset_spec import DatasetSpec

_COLUMNS = ["run_id", "is_selected", "manifest", "checkpoint_uri", "checkpoint_sha256", "predictions_uri"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedRun:
    """A row of `training_runs` and where its files lie."""

    manifest: RunManifest
    is_selected: bool
    checkpoint: Path
    checkpoint_sha256: str
    predictions: Path

    def has_files(self) -> bool:
        """Whether predictions are there and the checkpoint is the one recorded."""
        if not (self.predictions.is_file() and self.checkpoint.is_file()):
            return False
        with self.checkpoint.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.checkpoint_sha256


def recorded_runs(dataset: DatasetSpec, ds: date, model: str) -> list[RecordedRun]:
    """The runs of (ds, model), by ratio; none where nothing was trained.

    Raises TrainingError for a manifest of another format.
    """
    if not lake_reader.table_exists(dataset, "training_runs"):
        return []
    rows = lake_reader.read_table(
        dataset, "training_runs", columns=_COLUMNS, days=[ds], filters={"model": model}
    ).to_pylist()
    runs = [
        RecordedRun(
            manifest=parse_manifest(row["manifest"], f"the manifest of run {row['run_id']} in training_runs"),
            is_selected=row["is_selected"],
            checkpoint=artifact_path(dataset, row["checkpoint_uri"]),
            checkpoint_sha256=row["checkpoint_sha256"],
            predictions=artifact_path(dataset, row["predictions_uri"]),
        )
        for row in rows
    ]
    return sorted(runs, key=lambda run: run.manifest.ratio)
