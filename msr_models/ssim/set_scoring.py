"""Masks of one day under a shared-instance set, and how the day differs from the set's window."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date

import numpy as np
import pyarrow as pa

from lake import reader as lake_reader
from lake.arrow_writer import overwrite_partition
from lake.locations import artifact_path
from lake.rows import write_rows
from msr_models.data.reader import published_empty
from msr_models.data.window import load_window
from msr_models.evaluation.score_shift import ScoreSample, compare_samples, samples_by_scenario
from msr_models.sets.drift import part_name
from msr_models.sets.feature_files import MASKS, feature_files, stale_days
from msr_models.ssim.ranks import rank_pct
from msr_models.ssim.store import Scorer, load_scorer
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.tables import get_table
from schemas.tables.shared_instance_drift import Drift
from schemas.tables.shared_instance_sets import SharedSet

log = logging.getLogger(__name__)

_COMPARED = ["scenario_id", "rank_pct", "rank_pct_scenario", "is_shared"]


class SetScoring:
    """Scores days with one set. Its selector is read when first needed.

    Raises SharedSetError where the selector is missing, was changed or does not fit the data set.
    """

    def __init__(self, dataset: DatasetSpec, found: SharedSet) -> None:
        self._dataset, self._set = dataset, found
        self._loaded: tuple[Scorer, list[ScoreSample]] | None = None

    def complete_day(self, day: date) -> bool:
        """Make the masks and the drift rows of `day` where they are missing; returns whether anything was missing."""
        if not is_scored(self._dataset, self._set.shared_set_id, day):
            self._score(day)
        elif not (self._is_of_window(day) or self.is_compared(day)):
            # A day without rows, or a comparison that was removed
            self._compare(day, self._read_masks(day))
        else:
            return False
        return True

    def is_compared(self, day: date) -> bool:
        """Whether `shared_instance_drift` has the day under this set."""
        return day in lake_reader.published_days(self._dataset, Drift.table, self._where)

    @property
    def _where(self) -> dict[str, str]:
        return {"shared_set_id": self._set.shared_set_id}

    def _is_of_window(self, day: date) -> bool:
        return self._set.first_day <= day <= self._set.last_day

    def _load(self) -> tuple[Scorer, list[ScoreSample]]:
        if self._loaded is None:
            path = artifact_path(self._dataset, self._set.selector_uri)
            restore = command("search_shared_instances", self._dataset, f"--restore {self._set.shared_set_id}")
            scorer = load_scorer(path, self._set.selector_sha256, remedy=f"restore it: {restore}")
            self._loaded = scorer, window_samples(scorer, self._dataset.num_scenarios)
        return self._loaded

    def _score(self, day: date) -> None:
        """The comparison first: a day with masks has one, also where the writer is killed in between."""
        scorer, _ = self._load()
        window = load_window(self._dataset, [day])
        masks = scorer.masks(window)
        if not self._is_of_window(day):
            self._compare(day, masks.select(_COMPARED))
        files = feature_files(self._dataset, [day], window.table_versions)
        rows = publish_masks(self._dataset, self._set.shared_set_id, day, masks, files[day])
        shared = float(masks["is_shared"].to_numpy().mean())
        log.info(f"{day}: {rows:,} masks in {self._set.shared_set_id}, {shared:.1%} shared")

    def _read_masks(self, day: date) -> pa.Table:
        if published_empty(self._dataset, day):
            return get_table(MASKS).arrow_schema().empty_table().select(_COMPARED)
        return lake_reader.read_table(self._dataset, MASKS, columns=_COMPARED, days=[day], filters=self._where)

    def _compare(self, day: date, masks: pa.Table) -> None:
        _, window = self._load()
        rows = drift_rows(self._dataset, self._set.shared_set_id, day, window, day_samples(masks, len(window) - 1))
        write_rows(self._dataset, rows)
        _log_drift(self._dataset, rows)


def is_scored(dataset: DatasetSpec, set_id: str, day: date) -> bool:
    """Whether the set has masks of the day, one per row, that were made from the features it has now.

    Features that were built again may hold other rows, values or behaviours: their masks are then made again.
    """
    if published_empty(dataset, day):
        return True
    filters = {"shared_set_id": set_id}
    if day not in lake_reader.published_days(dataset, MASKS, filters):
        return False
    masks = lake_reader.count_rows(dataset, MASKS, [day], filters=filters)
    return masks == lake_reader.count_rows(dataset, "scenario_features", [day]) and not stale_days(
        dataset, set_id, [day]
    )


def publish_masks(dataset: DatasetSpec, set_id: str, day: date, masks: pa.Table, files: str) -> int:
    """Replace the day's masks under the set; returns their number.

    masks: of `Scorer.masks`; files: `feature_files` of the day at the table versions that were scored.
    """
    rows = masks.append_column("features_files", pa.repeat(pa.scalar(files), masks.num_rows))
    return overwrite_partition(rows, dataset, MASKS, {"shared_set_id": set_id, "ds": str(day)})


def window_samples(scorer: Scorer, num_scenarios: int) -> list[ScoreSample]:
    """The window's own rows: of each scenario (none of those that were appended since), then of all."""
    appended = [scorer.sorted_scores[:0]] * (num_scenarios - scorer.num_scenarios)
    parts = [*scorer.sorted_scores_by_scenario, *appended, scorer.sorted_scores]
    threshold = np.float32(scorer.threshold)
    return [_one_sample(rank_pct(scores, scores), scores > threshold) for scores in parts]


def day_samples(masks: pa.Table, num_scenarios: int) -> list[ScoreSample]:
    """The masks' rows: of each scenario, then of all, each ranked among its own part of the window."""
    shared_N = masks["is_shared"].to_numpy()
    in_scenario = masks["rank_pct_scenario"].to_numpy()
    by_scenario = samples_by_scenario(in_scenario, shared_N, masks["scenario_id"].to_numpy(), num_scenarios)
    return [*by_scenario, _one_sample(masks["rank_pct"].to_numpy(), shared_N)]


def drift_rows(
    dataset: DatasetSpec, set_id: str, day: date, window: Sequence[ScoreSample], found: Sequence[ScoreSample]
) -> list[Drift]:
    """Rows of `shared_instance_drift`: all rows (-1), then each scenario."""
    limits = dataset.search
    by_scenario = {-1: (window[-1], found[-1]), **dict(enumerate(zip(window[:-1], found[:-1], strict=True)))}
    rows = []
    for scenario, (expected, observed) in by_scenario.items():
        shift = compare_samples(
            expected, observed, psi_limit=limits.drift_psi_limit, share_limit=limits.drift_share_limit
        )
        rows.append(
            Drift(
                ds=str(day),
                shared_set_id=set_id,
                scenario_id=scenario,
                rows=observed.rows,
                window_rows=expected.rows,
                **asdict(shift),
            )
        )
    return rows


def _log_drift(dataset: DatasetSpec, rows: Sequence[Drift]) -> None:
    limits = dataset.search
    for row in rows:
        if row.is_drifted:
            log.warning(
                f"{row.ds}: DRIFTED from the window of {row.shared_set_id}, {part_name(dataset, row.scenario_id)}: psi "
                f"{row.psi:.3f} (limit {limits.drift_psi_limit:g}), shared {row.window_share_rate:.1%} -> "
                f"{row.share_rate:.1%} (limit {limits.drift_share_limit:.0%}) of {row.rows:,} rows"
            )


def _one_sample(rank_N: np.ndarray, shared_N: np.ndarray) -> ScoreSample:
    (sample,) = samples_by_scenario(rank_N, shared_N, np.zeros(len(rank_N), dtype=np.int64), 1)
    return sample
