"""Statistics of a shared-instance set: share rates per scenario and label, and the distribution of its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake.reader import published_days, read_table, table_exists
from schemas.dataset_spec import DatasetSpec
from schemas.tables.shared_instance_sets import SharedSet

MASKS = "shared_instance_masks"
FEATURES = "scenario_features"
SCORE_BINS = 40


@dataclass(frozen=True, kw_only=True)
class ScenarioShare:
    """Counts of one scenario's window rows; index 0 and 1 are labels."""

    scenario: str
    rows: int
    shared: int
    rows_by_label: tuple[int, int]
    shared_by_label: tuple[int, int]

    def rate(self, label: int | None = None) -> float | None:
        """Share of the rows, or of those with a label, that are shared; None without rows."""
        rows = self.rows if label is None else self.rows_by_label[label]
        shared = self.shared if label is None else self.shared_by_label[label]
        return shared / rows if rows else None


@dataclass(frozen=True, kw_only=True)
class SetStatistics:
    """A set and its masks. Histograms: share of rows per bin [K, SCORE_BINS], NaN for scenarios without rows.

    The window is the set's own, later days were scored with its selector. unlabelled_rows: window rows of the masks
    that scenario_features no longer has.
    """

    shared_set: SharedSet
    shares: list[ScenarioShare]
    window_histogram: np.ndarray
    later_histogram: np.ndarray
    later_days: list[str]
    later_share_rate: float | None
    unlabelled_rows: int


def read_set_statistics(dataset: DatasetSpec, sets: Sequence[SharedSet], used: str | None) -> SetStatistics | None:
    """Of the set with the id `used`, else of the newest accepted one; None where there is none with masks.

    sets: ascending by window.
    """
    accepted = [s for s in sets if s.status == "accepted"]
    shared_set = next((s for s in sets if s.shared_set_id == used), accepted[-1] if accepted else None)
    if shared_set is None:
        return None
    where = {"shared_set_id": shared_set.shared_set_id}
    if not published_days(dataset, MASKS, where):
        return None
    columns = ["ds", "instance_id", "scenario_id", "shared_score", "is_shared"]
    masks = read_table(dataset, MASKS, columns=columns, filters=where)
    is_later = pc.greater(masks["ds"], shared_set.window_end)
    window, later = masks.filter(pc.invert(is_later)), masks.filter(is_later)
    labelled = _with_labels(dataset, window)
    return SetStatistics(
        shared_set=shared_set,
        shares=_shares(dataset, window, labelled),
        window_histogram=_histogram(window, dataset.num_scenarios),
        later_histogram=_histogram(later, dataset.num_scenarios),
        later_days=sorted(later["ds"].unique().to_pylist()),
        later_share_rate=float(np.mean(_column(later, "is_shared"))) if later.num_rows else None,
        unlabelled_rows=window.num_rows - labelled.num_rows,
    )


def _with_labels(dataset: DatasetSpec, masks: pa.Table) -> pa.Table:
    """Mask rows joined to their labels; rows without features drop out."""
    if masks.num_rows == 0 or not table_exists(dataset, FEATURES):
        return masks.slice(0, 0).append_column("label", pa.array([], pa.int32()))
    days = [date.fromisoformat(ds) for ds in masks["ds"].unique().to_pylist()]
    labels = read_table(dataset, FEATURES, columns=["ds", "instance_id", "label"], days=days)
    return masks.join(labels, keys=["ds", "instance_id"], join_type="inner")


def _shares(dataset: DatasetSpec, masks: pa.Table, labelled: pa.Table) -> list[ScenarioShare]:
    count = dataset.num_scenarios
    rows_K, shared_K = _row_counts(masks, _column(masks, "scenario_id"), count)
    by_label = _column(labelled, "scenario_id") * 2 + _column(labelled, "label")
    rows_K2, shared_K2 = (counts.reshape(count, 2) for counts in _row_counts(labelled, by_label, 2 * count))
    return [
        ScenarioShare(
            scenario=name,
            rows=int(rows_K[k]),
            shared=int(shared_K[k]),
            rows_by_label=(int(rows_K2[k, 0]), int(rows_K2[k, 1])),
            shared_by_label=(int(shared_K2[k, 0]), int(shared_K2[k, 1])),
        )
        for k, name in enumerate(dataset.scenario.names)
    ]


def _row_counts(masks: pa.Table, group: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and shared rows of each of `count` groups."""
    return np.bincount(group, minlength=count), np.bincount(group, _column(masks, "is_shared"), minlength=count)


def _histogram(masks: pa.Table, num_scenarios: int) -> np.ndarray:
    """Share of each scenario's rows per score bin, [K, SCORE_BINS]."""
    bins = np.minimum((_column(masks, "shared_score") * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
    group = _column(masks, "scenario_id") * SCORE_BINS + bins
    counts = np.bincount(group, minlength=num_scenarios * SCORE_BINS).reshape(num_scenarios, SCORE_BINS)
    totals = counts.sum(axis=1, keepdims=True)
    return np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)


def _column(rows: pa.Table, name: str) -> np.ndarray:
    """A column as numbers; booleans as 0 and 1."""
    values = rows[name].to_numpy()
    return values.astype(np.int64) if values.dtype in (np.bool_, np.int32) else np.asarray(values)
