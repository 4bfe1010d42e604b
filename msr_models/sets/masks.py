"""The stored ranks of a shared-instance set, joined to a window's rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any, TypeVar

import numpy as np

from lake import reader as lake_reader
from msr_models.data.columns import Array, find_in, numbers
from msr_models.sets.feature_files import MASKS, stale_days
from schemas.commands import command, day_options
from schemas.dataset_spec import DatasetSpec
from schemas.errors import SharedSetError
from schemas.pipeline_spec import RankScope

# A tensor or an array: this package does not import torch
Comparable = TypeVar("Comparable", bound=Any)
RANK_COLUMNS: dict[RankScope, str] = {"global": "rank_pct", "scenario": "rank_pct_scenario"}


def at_ratio(rank_N: Comparable, ratio: float) -> Comparable:
    """Whether each row is shared at ratio r: its rank among the window's scores is at least 1 - r (SSIM eq. 16).

    rank_N: `rank_pct` in (0, 1), NaN for rows without a mask. r = 0 shares no row, r = 1 every row that has a mask.
    """
    shared_N: Comparable = rank_N >= 1.0 - ratio
    return shared_N


class Ranks:
    """Ranks of one set, one day at a time; days outside `mask_days` have none."""

    def __init__(
        self,
        dataset: DatasetSpec,
        shared_set_id: str,
        mask_days: Collection[date],
        rank_scope: RankScope,
        versions: Mapping[str, int],
        rows_D: Mapping[date, int],
        *,
        as_recorded: bool = False,
    ) -> None:
        """rows_D: number of rows of each day of the window. as_recorded: accept outdated masks, because a recorded run
        was trained with the masks at these versions.

        Raises SharedSetError where a day has no masks at all, or masks of features that were rebuilt since.
        """
        self._dataset, self._set_id, self._rows_D = dataset, shared_set_id, rows_D
        self._days = [d for d in rows_D if d in set(mask_days)]
        self._filters = {"shared_set_id": shared_set_id}
        self._column = RANK_COLUMNS[rank_scope]
        version = versions[MASKS]
        self._source = lake_reader.open_dataset(dataset, MASKS, ["instance_id", self._column], version)
        self._absent: dict[date, int] = {}
        masks_D = lake_reader.count_rows(dataset, MASKS, self._days, filters=self._filters, version=version)
        self._require({d: rows_D[d] for d in self._days if rows_D[d] and not masks_D[d]})
        if not as_recorded:
            self._require_fresh([d for d in self._days if rows_D[d]], versions)

    def load_day(self, ds: date) -> tuple[Array, Array]:
        """instance_id_M ascending, and rank_M float64 followed by a NaN for rows without a mask, of one day."""
        instances, ranks = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        if ds in self._days:
            rows_of_day = lake_reader.condition([ds], self._filters)
            for rows in lake_reader.stream(self._source, ["instance_id", self._column], rows_of_day):
                instances.append(numbers(rows, "instance_id", np.int64))
                ranks.append(numbers(rows, self._column, np.float64))
        instance_M = np.concatenate(instances)
        order = np.argsort(instance_M)
        return instance_M[order], np.append(np.concatenate(ranks)[order], np.nan)

    def join(self, ds: date, masks: tuple[Array, Array], instance_N: Array) -> Array:
        """rank_N float64 of rows of `ds`, NaN for rows without a mask, which are counted."""
        instance_M, rank_M = masks
        found = find_in(instance_M, instance_N)
        if ds in self._days:
            self._absent[ds] = self._absent.get(ds, 0) + int((found < 0).sum())
        return np.asarray(rank_M[found])

    def require_complete(self) -> None:
        """Raises SharedSetError with the counts and the command to run where a joined row had no mask."""
        self._require({ds: absent for ds, absent in self._absent.items() if absent})

    def _require(self, absent_D: Mapping[date, int]) -> None:
        if absent_D:
            counts = ", ".join(f"{ds}: {absent} of {self._rows_D[ds]}" for ds, absent in absent_D.items())
            raise SharedSetError(
                f"shared set {self._set_id} lacks masks of {self._dataset.name} ({counts} rows); run: "
                f"{scoring_command(self._dataset, self._set_id, list(absent_D))}"
            )

    def _require_fresh(self, days: Sequence[date], versions: Mapping[str, int]) -> None:
        if stale := stale_days(self._dataset, self._set_id, days, versions):
            raise SharedSetError(
                f"masks of shared set {self._set_id} were made from other files of {self._dataset.name} than it has "
                f"now ({', '.join(map(str, stale))}): its features were rebuilt since; run: "
                f"{scoring_command(self._dataset, self._set_id, stale)}"
            )


def scoring_command(dataset: DatasetSpec, shared_set_id: str, days: Sequence[date]) -> str:
    """The command that scores these days with the set."""
    options = (day_options(days), f"--shared-set {shared_set_id}", "--window exact")
    return command("score_shared_instances", dataset, *options)
