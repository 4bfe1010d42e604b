"""Behaviours of a window: each session's once, with a pointer join from impressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow.compute as pc

from msr_models.data import lake_reader
from msr_models.data.columns import Array, day_index, find_in, flat_lists, numbers, reordered_lists
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Histories:
    """Items of all sessions' behaviours, sessions sorted by (day, user_key); items[0] is a 0 that nobody owns.

    Session s owns items[starts[s] : starts[s + 1]]; day d owns sessions [day_starts[d], day_starts[d + 1]).
    """

    items: Array
    starts: Array
    user_keys: Array
    day_starts: Array
    vocabulary_versions: set[str]

    def spans(self, dataset: DatasetSpec, day_N: Array, user_N: Array, hist_end_N: Array) -> tuple[Array, Array]:
        """(start, end) in `items` of what each impression sees: the last max_length behaviours before hist_end.

        day_N ascends. Raises TrainingError where a pointer leads outside its session or to none.
        """
        session_N = np.full(len(day_N), -1, dtype=np.int64)
        num_days = len(self.day_starts) - 1
        row_starts = np.searchsorted(day_N, np.arange(num_days + 1))
        for day in range(num_days):
            rows = slice(row_starts[day], row_starts[day + 1])
            found = find_in(self.user_keys[self.day_starts[day] : self.day_starts[day + 1]], user_N[rows])
            session_N[rows] = np.where(found >= 0, found + self.day_starts[day], -1)
        has = session_N >= 0
        first_N = np.where(has, self.starts[:-1][session_N] if len(self.user_keys) else 0, 1)
        length_N = np.where(has, np.diff(self.starts)[session_N] if len(self.user_keys) else 0, 0)
        broken = int(((hist_end_N < 0) | (hist_end_N > length_N)).sum())
        if broken:
            raise TrainingError(
                f"{broken} of {len(day_N)} rows of {dataset.name}/scenario_features point outside behaviour_sequences "
                "of their (ds, user_key): the two tables are of different runs; rebuild the days with "
                "jobs.build_behaviour_sequences and jobs.build_scenario_features"
            )
        start_N = first_N + np.maximum(hist_end_N - dataset.sequence.max_length, 0)
        return start_N, first_N + hist_end_N


def load_histories(dataset: DatasetSpec, days: Sequence[date], version: int) -> Histories:
    """Read `behaviour_sequences` of `days` (ascending)."""
    rows = lake_reader.read_table(
        dataset.name,
        "behaviour_sequences",
        columns=["ds", "user_key", "hist_item_ids", "vocabulary_version"],
        days=days,
        version=version,
    )
    day_S, user_S = day_index(rows, days), numbers(rows, "user_key", np.int64)
    order = np.lexsort((user_S, day_S))
    values, starts = reordered_lists(*flat_lists(rows, "hist_item_ids"), order)
    return Histories(
        items=np.concatenate([np.zeros(1, dtype=np.int32), values]),
        starts=starts + 1,
        user_keys=user_S[order],
        day_starts=np.searchsorted(day_S[order], np.arange(len(days) + 1)),
        vocabulary_versions=set(pc.unique(rows["vocabulary_version"]).to_pylist()),
    )
