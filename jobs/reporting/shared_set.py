"""The shared-instance set that a report shows: share rates per scenario and label, and how its scores are spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake.reader import published_days, read_table, table_exists
from schemas.dataset_spec import DatasetSpec

SCORE_BINS = 40


@dataclass(frozen=True, kw_only=True)
class SetSummary:
    """A row of the catalogue."""

    shared_set_id: str
    window_start: str
    window_end: str
    source_backbone: str
    objective: str
    threshold: float
    share_rate: float
    status: str
    status_reason: str
    vocabulary_version: str
    code_version: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class ScenarioShare:
    """Counts of one scenario's window rows; index 0 and 1 are labels."""

    scenario: str
    rows: int
    shared: int
    rows_by_label: tuple[int, int]
    shared_by_label: tuple[int, int]

    def rate(self, label: int | None = None) -> float | None:
        """Share of rows with is_shared, None without rows."""
        rows = self.rows if label is None else self.rows_by_label[label]
        shared = self.shared if label is None else self.shared_by_label[label]
        return shared / rows if rows else None


@dataclass(frozen=True, kw_only=True)
class SharedSet:
    """The set in use. Histograms are shares of rows per bin, [K, SCORE_BINS]; NaN rows for scenarios without rows."""

    summary: SetSummary
    shares: list[ScenarioShare]
    window_histogram: np.ndarray
    later_histogram: np.ndarray
    later_days: list[str]
    later_share_rate: float | None
    unlabelled_rows: int


def read_sets(dataset: DatasetSpec) -> list[SetSummary]:
    """The whole catalogue, oldest window first."""
    if not table_exists(dataset, "shared_instance_sets"):
        return []
    names = list(SetSummary.__dataclass_fields__)
    rows = read_table(dataset, "shared_instance_sets", columns=names).to_pylist()
    return sorted((SetSummary(**row) for row in rows), key=lambda s: (s.window_end, s.shared_set_id))


def read_shared_set(dataset: DatasetSpec, sets: Sequence[SetSummary], used: str | None) -> SharedSet | None:
    """The set that the newest runs used, else the newest accepted one; None where there is none with masks."""
    accepted = [s for s in sets if s.status == "accepted"]
    summary = next((s for s in sets if s.shared_set_id == used), accepted[-1] if accepted else None)
    if summary is None or not table_exists(dataset, "shared_instance_masks"):
        return None
    where = {"shared_set_id": summary.shared_set_id}
    if not published_days(dataset, "shared_instance_masks", where):
        return None
    columns = ["ds", "instance_id", "scenario_id", "shared_score", "is_shared"]
    every = read_table(dataset, "shared_instance_masks", columns=columns, filters=where)
    is_later = pc.greater(every["ds"], summary.window_end)
    masks, after = every.filter(pc.invert(is_later)), every.filter(is_later)
    labelled = _with_labels(dataset, masks)
    return SharedSet(
        summary=summary,
        shares=_shares(dataset, masks, labelled),
        window_histogram=_histogram(masks, dataset.num_scenarios),
        later_histogram=_histogram(after, dataset.num_scenarios),
        later_days=sorted(after["ds"].unique().to_pylist()),
        later_share_rate=float(np.mean(_column(after, "is_shared"))) if after.num_rows else None,
        unlabelled_rows=masks.num_rows - labelled.num_rows,
    )


def _with_labels(dataset: DatasetSpec, masks: pa.Table) -> pa.Table:
    """Mask rows joined to their labels; rows without features fall out."""
    columns = ["ds", "instance_id", "label"]
    if masks.num_rows == 0 or not table_exists(dataset, "scenario_features"):
        return masks.slice(0, 0).append_column("label", pa.array([], pa.int32()))
    days = [date.fromisoformat(ds) for ds in masks["ds"].unique().to_pylist()]
    labels = read_table(dataset, "scenario_features", columns=columns, days=days)
    return masks.join(labels, keys=["ds", "instance_id"], join_type="inner")


def _shares(dataset: DatasetSpec, masks: pa.Table, labelled: pa.Table) -> list[ScenarioShare]:
    kinds = dataset.num_scenarios
    rows = np.bincount(_column(masks, "scenario_id"), minlength=kinds)
    shared = np.bincount(_column(masks, "scenario_id"), weights=_column(masks, "is_shared"), minlength=kinds)
    cell = _column(labelled, "scenario_id") * 2 + _column(labelled, "label")
    cell_rows = np.bincount(cell, minlength=2 * kinds).reshape(kinds, 2)
    cell_shared = np.bincount(cell, weights=_column(labelled, "is_shared"), minlength=2 * kinds).reshape(kinds, 2)
    return [
        ScenarioShare(
            scenario=name,
            rows=int(rows[k]),
            shared=int(shared[k]),
            rows_by_label=(int(cell_rows[k, 0]), int(cell_rows[k, 1])),
            shared_by_label=(int(cell_shared[k, 0]), int(cell_shared[k, 1])),
        )
        for k, name in enumerate(dataset.scenario.names)
    ]


def _histogram(masks: pa.Table, num_scenarios: int) -> np.ndarray:
    """Share of each scenario's rows per score bin, [K, SCORE_BINS]."""
    bins = np.minimum((_column(masks, "shared_score") * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
    cell = _column(masks, "scenario_id").astype(np.int64) * SCORE_BINS + bins
    counts = np.bincount(cell, minlength=num_scenarios * SCORE_BINS).reshape(num_scenarios, SCORE_BINS)
    totals = counts.sum(axis=1, keepdims=True)
    return np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)


def _column(rows: pa.Table, name: str) -> np.ndarray:
    """A column as numbers; booleans as 0 and 1."""
    values = rows[name].to_numpy()
    return values.astype(np.int64) if values.dtype in (np.bool_, np.int32) else np.asarray(values)
