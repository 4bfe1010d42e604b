"""Reliability of predictions: mean prediction against observed rate in bins of equal size, per scenario."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

BINS = 10


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Bins of one run's test predictions in one scenario, ascending."""

    model: str
    ds: str
    arm: str
    scenario_id: int
    predicted: list[float]
    observed: list[float]
    rows: list[int]


def read_reliability(runs: Sequence[tuple[str, str, str, Path]]) -> list[Reliability]:
    """Bins per scenario of each (model, ds, arm, predictions file); files that are gone are left out."""
    found: list[Reliability] = []
    for model, ds, arm, path in runs:
        if path.is_file():
            found += _of_file(path, model, ds, arm)
    return found


def bin_means(prob: np.ndarray, label: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean prediction, observed rate and rows of up to `bins` bins with equally many rows; [bins] each."""
    order = np.argsort(prob, kind="stable")
    edges = np.unique(np.linspace(0, len(prob), bins + 1).astype(np.int64))
    counts = np.diff(edges)
    if len(prob) == 0:
        return np.empty(0), np.empty(0), np.empty(0, np.int64)
    predicted = np.add.reduceat(prob[order].astype(np.float64), edges[:-1]) / counts
    observed = np.add.reduceat(label[order].astype(np.float64), edges[:-1]) / counts
    return predicted, observed, counts


def _of_file(path: Path, model: str, ds: str, arm: str) -> list[Reliability]:
    columns = ["prob", "label", "scenario_id"]
    rows = pq.read_table(path, columns=columns, filters=[("split", "=", "test")])
    prob, label, scenario = (rows[name].to_numpy() for name in columns)
    found = []
    for scenario_id in np.unique(scenario):
        own = scenario == scenario_id
        predicted, observed, counts = bin_means(prob[own], label[own])
        found.append(
            Reliability(
                model=model,
                ds=ds,
                arm=arm,
                scenario_id=int(scenario_id),
                predicted=predicted.tolist(),
                observed=observed.tolist(),
                rows=counts.tolist(),
            )
        )
    return found
