"""Behaviours of a window: each session's once, with a pointer join from impressions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as pds

from lake import reader as lake_reader
from msr_models.data.columns import Array, find_in, flat_lists, numbers, places, starts_of
from schemas.dataset_spec import DatasetSpec

SEQUENCES = "behaviour_sequences"
ITEMS = "hist_item_ids"


@dataclass(frozen=True, slots=True)
class Sessions:
    """One day's S sessions by ascending user_key: behaviours are items[start : start + length] of the window.

    start_T and length_T have one place more, for rows without a session: an empty span behind that 0.
    """

    user_key_S: Array
    start_T: Array
    length_T: Array

    def spans(self, user_N: Array, hist_end_N: Array, max_length: int) -> tuple[Array, Array, int]:
        """(start, end) of what each impression sees, the last max_length behaviours before hist_end; and how many
        pointers lead outside their session or to none.
        """
        session_N = find_in(self.user_key_S, user_N)  # -1 finds the last place
        first_N, length_N = self.start_T[session_N], self.length_T[session_N]
        broken = int(((hist_end_N < 0) | (hist_end_N > length_N)).sum())
        return first_N + np.maximum(hist_end_N - max_length, 0), first_N + hist_end_N, broken


class Histories:
    """Items of all sessions' behaviours, day after day, sessions by user_key; items[0] is a 0 of no session.

    `allocate` makes the int32 array for a number of items that is known from the files' footers; pages that are not
    filled are never touched.
    """

    def __init__(
        self, dataset: DatasetSpec, days: Sequence[date], version: int, allocate: Callable[[int], Array]
    ) -> None:
        self._columns = ["user_key", ITEMS, "vocabulary_version"]
        self._source = lake_reader.open_dataset(dataset, SEQUENCES, self._columns, version)
        self._items = allocate(1 + count_items(self._source, days))
        self._items[0] = 0
        self._used = 1
        self._digest = hashlib.sha256()
        self.vocabulary_versions: set[str] = set()

    @property
    def items(self) -> Array:
        """What has been read so far."""
        return self._items[: self._used]

    @property
    def capacity(self) -> int:
        """Items that there can be."""
        return len(self._items)

    def fingerprint(self) -> str:
        """Of the sessions read so far."""
        return self._digest.hexdigest()

    def load_day(self, ds: date) -> Sessions:
        """Read the sessions of `ds` and put their items behind those of the days before."""
        users: list[Array] = []
        lists: list[tuple[Array, Array]] = []
        for rows in lake_reader.stream(self._source, self._columns, lake_reader.condition([ds])):
            users.append(numbers(rows, "user_key", np.int64))
            lists.append(flat_lists(rows, ITEMS))
            self.vocabulary_versions.update(pc.unique(rows["vocabulary_version"]).to_pylist())
        nothing = np.zeros(0, dtype=np.int64)
        user_S = np.concatenate([nothing, *users])
        length_S = np.concatenate([nothing, *(lengths for _, lengths in lists)])
        order = np.argsort(user_S)
        starts = self._used + starts_of(length_S[order])
        start_S = np.empty(len(order), dtype=np.int64)
        start_S[order] = starts[:-1]
        at = 0
        for values, lengths in lists:
            self._items[places(start_S[at : at + len(lengths)], lengths)] = values
            at += len(lengths)
        user_S, length_S = user_S[order], length_S[order]
        for part in (user_S, length_S, self._items[self._used : int(starts[-1])]):
            self._digest.update(np.ascontiguousarray(part).data)
        self._used = int(starts[-1])
        return Sessions(user_S, np.append(starts[:-1], 1), np.append(length_S, 0))


def count_items(source: pds.Dataset, days: Sequence[date]) -> int:
    """Behaviours of these days, from the files' footers; an empty list counts as one."""
    total = 0
    for file in source.get_fragments(filter=lake_reader.condition(days)):
        metadata = file.metadata
        for group in (metadata.row_group(i) for i in range(metadata.num_row_groups)):
            columns = (group.column(i) for i in range(group.num_columns))
            total += sum(c.num_values for c in columns if c.path_in_schema.split(".")[0] == ITEMS)
    return total
