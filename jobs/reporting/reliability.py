"""Reliability of predictions: mean prediction against observed rate in bins of equal size, per scenario."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from lake.locations import artifact_path
from schemas.dataset_spec import DatasetSpec
from schemas.tables.training_runs import TrainingRun

BINS = 10


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """One run's test predictions in one scenario; bins: (mean prediction, observed rate, rows), ascending."""

    model: str
    arm: str
    scenario_id: int
    bins: list[tuple[float, float, int]]


def read_reliability(dataset: DatasetSpec, run: TrainingRun, arm: str) -> list[Reliability]:
    """A run's reliability per scenario; none where its predictions file is gone."""
    path = artifact_path(dataset, run.predictions_uri)
    if not path.is_file():
        return []
    columns = ["prob", "label", "scenario_id"]
    rows = pq.read_table(path, columns=columns, filters=[("split", "=", "test")])
    prob, label, scenario = (rows[name].to_numpy() for name in columns)
    return [
        Reliability(
            model=run.model, arm=arm, scenario_id=int(k), bins=bin_means(prob[scenario == k], label[scenario == k])
        )
        for k in np.unique(scenario)
    ]


def bin_means(prob: np.ndarray, label: np.ndarray, bins: int = BINS) -> list[tuple[float, float, int]]:
    """(mean prediction, observed rate, rows) of up to `bins` bins with equally many rows, ascending."""
    if len(prob) == 0:
        return []
    order = np.argsort(prob, kind="stable")
    edges = np.unique(np.linspace(0, len(prob), bins + 1).astype(np.int64))
    rows = np.diff(edges)
    predicted = np.add.reduceat(prob[order].astype(np.float64), edges[:-1]) / rows
    observed = np.add.reduceat(label[order].astype(np.float64), edges[:-1]) / rows
    return list(zip(predicted.tolist(), observed.tolist(), rows.tolist(), strict=True))
