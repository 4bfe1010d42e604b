"""Behaviours of a window: each session's once, with a pointer join from impressions.

Shapes: H behaviours of all sessions, A parts of each (item, attributes), S sessions, T = S + 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pds

from lake import reader as lake_reader
from msr_models.data.columns import Array, find_in, flat_lists, numbers, places, starts_of
from schemas.commands import command
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError

SEQUENCES = "behaviour_sequences"
ITEMS = "hist_item_ids"
SCENARIOS = "hist_scenario_ids"
NO_SCENARIO = -1
ID_TYPE, SCENARIO_TYPE = np.dtype(np.int32), np.dtype(np.int16)

# Makes the array of this name, shape and type
Allocate = Callable[[str, tuple[int, ...], "np.dtype[Any]"], Array]


@dataclass(frozen=True, slots=True)
class Sessions:
    """One day's S sessions by ascending user_key: behaviours are [start : start + length] of the window's.

    start_T and length_T have one place more, for rows without a session: an empty span behind the place of padding.
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
    """Behaviours of all sessions, day after day, sessions by user_key; place 0 is padding and belongs to no session.

    ids_HA int32, 0 where a part is unknown or was not stored on that day; scenario_H int16, -1 for padding.
    `allocate` makes the arrays for a number of behaviours that is known from the files' footers; pages that are not
    filled are never touched.
    """

    def __init__(self, dataset: DatasetSpec, days: Sequence[date], version: int, allocate: Allocate) -> None:
        self._dataset = dataset
        attributes = [f"hist_f_{name}" for name in dataset.sequence.stored_fields[1:]]
        always = ["user_key", ITEMS, SCENARIOS, "vocabulary_version"]
        self._source = lake_reader.open_dataset(dataset, SEQUENCES, always, version)
        self._parts, self._columns = [ITEMS, *attributes], [*always, *attributes]
        # Days built before an attribute was named have no column of it
        self._later = dict.fromkeys(attributes, pa.list_(pa.int32()))
        self.capacity = 1 + count_items(self._source, days)
        self._ids_HA = allocate("hist_ids", (self.capacity, len(self._parts)), ID_TYPE)
        self._scenario_H = allocate("hist_scenarios", (self.capacity,), SCENARIO_TYPE)
        self._ids_HA[0], self._scenario_H[0] = 0, NO_SCENARIO
        self._used = 1
        self._digest = hashlib.sha256()
        self.vocabulary_versions: set[str] = set()

    @property
    def ids_HA(self) -> Array:
        """What has been read so far."""
        return self._ids_HA[: self._used]

    @property
    def scenario_H(self) -> Array:
        """What has been read so far."""
        return self._scenario_H[: self._used]

    @property
    def num_bytes(self) -> int:
        """Of behaviours at full capacity."""
        return self.capacity * bytes_per_behaviour(self._dataset)

    def fingerprint(self) -> str:
        """Of the sessions read so far."""
        return self._digest.hexdigest()

    def load_day(self, ds: date) -> Sessions:
        """Read the sessions of `ds` and put their behaviours behind those of the days before.

        Raises TrainingError where a row's lists differ in length.
        """
        users: list[Array] = []
        pieces: list[tuple[Array, Array, Array]] = []
        for rows in lake_reader.stream(self._source, self._columns, lake_reader.condition([ds]), self._later):
            users.append(numbers(rows, "user_key", np.int64))
            pieces.append(self._lists(rows, ds))
            self.vocabulary_versions.update(pc.unique(rows["vocabulary_version"]).to_pylist())
        nothing = np.zeros(0, dtype=np.int64)
        user_S = np.concatenate([nothing, *users])
        length_S = np.concatenate([nothing, *(lengths for _, _, lengths in pieces)])
        order = np.argsort(user_S)
        starts = self._used + starts_of(length_S[order])
        start_S = np.empty(len(order), dtype=np.int64)
        start_S[order] = starts[:-1]
        at = 0
        for ids_PA, scenario_P, lengths in pieces:
            place_P = places(start_S[at : at + len(lengths)], lengths)
            self._ids_HA[place_P], self._scenario_H[place_P] = ids_PA, scenario_P
            at += len(lengths)
        user_S, length_S = user_S[order], length_S[order]
        added = slice(self._used, int(starts[-1]))
        for part in (user_S, length_S, self._ids_HA[added], self._scenario_H[added]):
            self._digest.update(np.ascontiguousarray(part).data)
        self._used = added.stop
        return Sessions(user_S, np.append(starts[:-1], 1), np.append(length_S, 0))

    def _lists(self, rows: pa.RecordBatch, ds: date) -> tuple[Array, Array, Array]:
        """(ids [P, A], scenarios [P], lengths [rows]) of the P behaviours of these rows."""
        items_P, length_R = flat_lists(rows, ITEMS)
        ids_PA = np.empty((len(items_P), len(self._parts)), dtype=ID_TYPE)
        ids_PA[:, 0] = items_P
        for a, column in enumerate(self._parts[1:], start=1):
            ids_PA[:, a] = self._aligned(rows, column, length_R, ds, absent=0)
        scenario_P = self._aligned(rows, SCENARIOS, length_R, ds, absent=NO_SCENARIO)
        return ids_PA, scenario_P.astype(SCENARIO_TYPE), length_R

    def _aligned(self, rows: pa.RecordBatch, column: str, length_R: Array, ds: date, absent: int) -> Array:
        """The values of a list column beside the items; `absent` where the row's list is null (an older day's)."""
        values, found_R = flat_lists(rows, column)
        if np.array_equal(found_R, length_R):
            return values
        is_null_R = np.asarray(pc.is_null(rows[column]).to_numpy(zero_copy_only=False))
        broken = int(((found_R != length_R) & ~is_null_R).sum())
        if broken:
            build = command("build_behaviour_sequences", self._dataset, f"--ds {ds}")
            raise TrainingError(
                f"{self._dataset.name}/{SEQUENCES}, {ds}: {column} of {broken} rows is not as long as {ITEMS}; "
                f"rebuild the day: {build}"
            )
        out = np.full(int(length_R.sum()), absent, dtype=values.dtype)
        out[np.repeat(~is_null_R, length_R)] = values
        return out


def bytes_per_behaviour(dataset: DatasetSpec) -> int:
    """Of a behaviour's ids and scenario in memory."""
    return len(dataset.sequence.stored_fields) * ID_TYPE.itemsize + SCENARIO_TYPE.itemsize


def count_items(source: pds.Dataset, days: Sequence[date]) -> int:
    """Behaviours of these days, from the files' footers; an empty list counts as one."""
    total = 0
    for file in source.get_fragments(filter=lake_reader.condition(days)):
        metadata = file.metadata
        for group in (metadata.row_group(i) for i in range(metadata.num_row_groups)):
            columns = (group.column(i) for i in range(group.num_columns))
            total += sum(c.num_values for c in columns if c.path_in_schema.split(".")[0] == ITEMS)
    return total
