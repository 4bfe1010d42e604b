"""WindowReader: the impressions of some days in pieces, joined to their behaviours and ranks, checked and digested.

Both forms of training data are made of it: `Window` (in memory) and `StreamedRows` (buckets on disk).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake import reader as lake_reader
from lake.provenance import require_current
from lake.rows import read_rows
from msr_models.data.columns import Array, numbers, padded_lists
from msr_models.data.digest import RowDigest, row_keys
from msr_models.data.histories import SEQUENCES, Allocate, Histories, Sessions
from msr_models.data.layout import FieldLayout, largest_ids_of, layout_for, newest_version
from msr_models.sets.feature_files import MASKS
from msr_models.sets.masks import Ranks
from schemas.commands import command, day_options
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.pipeline_spec import RankScope
from schemas.tables.audits import Audit
from schemas.text import short_digest

FEATURES = "scenario_features"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """N impressions of one day in the order of its files; behaviours are [hist_start_N, hist_end_N) of `Histories`.

    further_NJ float32: the further labels, J of them; J may be 0. dense_NZ float32: None where the data set has no
    dense fields.
    """

    key_N: Array
    instance_id_N: Array
    user_key_N: Array
    scenario_N: Array
    label_N: Array
    further_NJ: Array
    slot_ids_NS: Array
    dense_NZ: Array | None
    hist_start_N: Array
    hist_end_N: Array
    rank_N: Array | None


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowFacts:
    """What is known of a window once all its rows have been read."""

    layout: FieldLayout
    vocabulary_version: str
    table_versions: Mapping[str, int]
    fingerprint: str
    mask_fingerprint: str | None


class WindowReader:
    """Reads each day of a window once: `rows_of_day` for all days, then `finish`."""

    def __init__(
        self,
        dataset: DatasetSpec,
        days: Sequence[date],
        allocate: Allocate,
        *,
        shared_set_id: str | None = None,
        mask_days: Sequence[date] | None = None,
        rank_scope: RankScope = "global",
        versions: Mapping[str, int] | None = None,
        known_on: date | None = None,
    ) -> None:
        """Arguments as of `load_window`; allocate makes the arrays of the window's behaviours.

        Raises TrainingError for missing days and no rows, SharedSetError for days without masks or with
        masks of other features.
        """
        if not days:
            raise TrainingError(f"a window of {dataset.name} needs at least one day; none was given")
        self.dataset, self.days = dataset, sorted(set(days))
        self.table_versions = pin_versions(dataset, shared_set_id, versions)
        self.rows_D = lake_reader.count_rows(dataset, FEATURES, self.days, version=self.table_versions[FEATURES])
        _check_days(dataset, self.rows_D)
        for table in (FEATURES, SEQUENCES):  # a manifest's versions stand for their rows: only settings can differ
            version = self.table_versions[table]
            require_current(dataset, table, self.days, version=version, with_inputs=versions is None)
        self._known_on = known_on or self.days[-1]
        self._fields = fields = dataset.encoded_fields_on(self._known_on)
        self._columns = ["scenario_id", "instance_id", "user_key", "label", "hist_end", "vocabulary_version"]
        self._label_columns = list(dataset.columns.label_columns.values())
        self._dense = [f.dense_column for f in dataset.dense_fields]
        self._columns += [*self._label_columns, *(f.column for f in fields), *self._dense]
        self._source = lake_reader.open_dataset(dataset, FEATURES, self._columns, self.table_versions[FEATURES])
        self.histories = Histories(dataset, self.days, self.table_versions[SEQUENCES], allocate)
        self._ranks: Ranks | None = None
        self._mask_name = (shared_set_id or "", str(rank_scope))
        if shared_set_id is not None:
            wanted = self.days if mask_days is None else mask_days
            as_recorded = MASKS in (versions or {})
            self._ranks = Ranks(
                dataset, shared_set_id, wanted, rank_scope, self.table_versions, self.rows_D, as_recorded=as_recorded
            )
        self.num_slots = sum(f.max_values for f in fields)
        self._low_F, self._high_F = np.zeros(len(fields), dtype=np.int64), np.zeros(len(fields), dtype=np.int64)
        self._versions_found: set[str] = set()
        self._digest, self._mask_digest = RowDigest(), RowDigest()
        self._broken = 0

    @property
    def num_rows(self) -> int:
        """Rows of all days, from the Delta log."""
        return sum(self.rows_D.values())

    @property
    def num_dense(self) -> int:
        """Z, the number of dense values."""
        return len(self._dense)

    @property
    def num_further(self) -> int:
        """J, the number of further labels."""
        return len(self._label_columns)

    @property
    def has_ranks(self) -> bool:
        """Whether a shared set was given."""
        return self._ranks is not None

    def sorted_instances(self, ds: date) -> Array:
        """instance_id of all rows of `ds`, ascending; TrainingError where one occurs twice."""
        pieces = lake_reader.stream(self._source, ["instance_id"], lake_reader.condition([ds]))
        return self.distinct(ds, [numbers(piece, "instance_id", np.int64) for piece in pieces])

    def distinct(self, ds: date, instances: Sequence[Array]) -> Array:
        """The instance ids of a day's pieces in ascending order.

        Raises TrainingError where one occurs twice or where the files do not hold what the Delta log counts.
        """
        instance_N = np.concatenate([np.zeros(0, dtype=np.int64), *instances])
        instance_N.sort()
        twice = np.flatnonzero(instance_N[1:] == instance_N[:-1])
        where = f"{self.dataset.name}/{FEATURES}, {ds}"
        if len(twice):
            raise TrainingError(
                f"{where}: instance_id {instance_N[twice[0]]} occurs more than once ({len(twice)} rows too many); "
                f"rebuild the day: {self._build(FEATURES, ds)}"
            )
        if len(instance_N) != self.rows_D[ds]:
            raise TrainingError(
                f"{where}: the files hold {len(instance_N)} rows and the Delta log counts {self.rows_D[ds]}; "
                f"rebuild the day: {self._build(FEATURES, ds)}"
            )
        return instance_N

    def rows_of_day(self, ds: date) -> Iterator[Rows]:
        """The rows of `ds` in pieces. Days must be asked for in ascending order.

        Raises TrainingError for mixed vocabulary lineages and for pointers outside their session.
        """
        sessions = self.histories.load_day(ds)
        self._note_versions(self.histories.vocabulary_versions)
        masks = self._ranks.load_day(ds) if self._ranks else None
        later = {f.column for f in self._fields} - {f.column for f in self.dataset.encoded_fields_on(ds)}
        columns = [c for c in self._columns if c not in later]
        for piece in lake_reader.stream(self._source, columns, lake_reader.condition([ds])):
            self._note_versions(pc.unique(piece["vocabulary_version"]).to_pylist())
            yield self._rows(piece, ds, sessions, masks)
        if self._broken:
            raise TrainingError(
                f"{self._broken} of {self.rows_D[ds]} rows of {self.dataset.name}/{FEATURES} of {ds} point outside "
                "behaviour_sequences of their (ds, user_key): the two tables are of different runs; rebuild the day: "
                f"{self._build(SEQUENCES, ds)}, then {self._build(FEATURES, ds)}"
            )

    def finish(self) -> WindowFacts:
        """Checks that need all rows.

        Raises TrainingError where an id lies beyond its vocabulary, SharedSetError where a row has no mask.
        """
        newest = max(self._versions_found)
        layout = layout_for(self.dataset, newest, self.table_versions["vocabularies"], self._known_on)
        self._check_ids(layout, newest)
        mask_fingerprint = None
        if self._ranks:
            self._ranks.require_complete()
            mask_fingerprint = _fingerprint(self._mask_digest.text(), *self._mask_name)
        names = [self.dataset.lineage, *map(str, self.days), *sorted(self._versions_found), *self._label_columns]
        return WindowFacts(
            layout=layout,
            vocabulary_version=newest,
            table_versions=self.table_versions,
            fingerprint=_fingerprint(*names, str(self.num_rows), self._digest.text(), self.histories.fingerprint()),
            mask_fingerprint=mask_fingerprint,
        )

    def _rows(self, piece: pa.RecordBatch, ds: date, sessions: Sessions, masks: tuple[Array, Array] | None) -> Rows:
        instance_N, user_N = numbers(piece, "instance_id", np.int64), numbers(piece, "user_key", np.int64)
        scenario_N, label_N = numbers(piece, "scenario_id", np.int32), numbers(piece, "label", np.float32)
        hist_end_N = numbers(piece, "hist_end", np.int32)
        start_N, end_N, broken = sessions.spans(user_N, hist_end_N, self.dataset.sequence.max_length)
        self._broken += broken
        slots_NS = self._slots(piece)
        key_N = row_keys(instance_N, ds)
        further = [numbers(piece, column, np.float32) for column in self._label_columns]
        dense_NZ = self._dense_values(piece) if self._dense else None
        dense = [] if dense_NZ is None else [dense_NZ]
        self._digest.add(key_N, [user_N, scenario_N, label_N, hist_end_N, slots_NS, *further, *dense])
        rank_N = None
        if self._ranks and masks:
            rank_N = self._ranks.join(ds, masks, instance_N)
            self._mask_digest.add(key_N, [rank_N])
        return Rows(
            key_N=key_N,
            instance_id_N=instance_N,
            user_key_N=user_N,
            scenario_N=scenario_N,
            label_N=label_N,
            further_NJ=np.stack(further, axis=1) if further else np.zeros((len(label_N), 0), dtype=np.float32),
            slot_ids_NS=slots_NS,
            dense_NZ=dense_NZ,
            hist_start_N=start_N,
            hist_end_N=end_N,
            rank_N=rank_N,
        )

    def _slots(self, piece: pa.RecordBatch) -> Array:
        slots_NS = np.empty((piece.num_rows, self.num_slots), dtype=np.int32)
        at = 0
        for i, f in enumerate(self._fields):
            if f.column not in piece.schema.names:  # the field began after this day
                ids_NV = np.zeros((piece.num_rows, f.max_values), dtype=np.int32)
            elif f.max_values > 1:
                ids_NV = padded_lists(piece, f.column, f.max_values)
            else:
                ids_NV = numbers(piece, f.column, np.int32)[:, None]
            self._low_F[i] = min(self._low_F[i], ids_NV.min(initial=0))
            self._high_F[i] = max(self._high_F[i], ids_NV.max(initial=0))
            slots_NS[:, at : at + f.max_values] = ids_NV
            at += f.max_values
        return slots_NS

    def _dense_values(self, piece: pa.RecordBatch) -> Array:
        dense_NZ = np.stack([numbers(piece, column, np.float32) for column in self._dense], axis=1)
        if not np.isfinite(dense_NZ).all():
            wrong = self._dense[int(np.flatnonzero(~np.isfinite(dense_NZ).all(0))[0])]
            raise TrainingError(
                f"{self.dataset.name}/{FEATURES}, {wrong}: a value is not a finite number; rebuild the days: "
                f"{self._build(FEATURES, *self.days)}"
            )
        return dense_NZ

    def _check_ids(self, layout: FieldLayout, newest: str) -> None:
        largest = tuple(rows - 1 for rows in layout.num_rows)
        if layout.live:  # earlier days may have ids that were evicted since
            largest = largest_ids_of(self.dataset, newest, self.table_versions["vocabularies"], self._known_on)
        for i, f in enumerate(self._fields):
            low, high, size = int(self._low_F[i]), int(self._high_F[i]), largest[i] + 1
            if low < 0 or high >= size:
                raise TrainingError(
                    f"{self.dataset.name}/{FEATURES}, {f.column}: id {low if low < 0 else high} lies outside "
                    f"0 .. {size - 1} of its vocabulary; rebuild the days: {self._build(FEATURES, *self.days)}"
                )

    def _build(self, table: str, *days: date) -> str:
        """The command that builds a table."""
        return command(f"build_{table}", self.dataset, day_options(days))

    def _note_versions(self, found: Sequence[str] | set[str]) -> None:
        """Before rows are joined: those of two lineages must not meet."""
        if not self._versions_found.issuperset(found):
            self._versions_found.update(found)
            where = f"{self.dataset.name}, {self.days[0]} .. {self.days[-1]}"
            newest_version(self.dataset, self._versions_found, where)


def _fingerprint(*parts: str) -> str:
    return short_digest("\0".join(parts))


def pin_versions(dataset: DatasetSpec, shared_set_id: str | None, versions: Mapping[str, int] | None) -> dict[str, int]:
    """The Delta version to read of each table: the given one, else the newest."""
    names = [FEATURES, SEQUENCES, "vocabularies"]
    names += [MASKS] if shared_set_id else []
    given = versions or {}
    return {n: given[n] if n in given else lake_reader.table_version(dataset, n) for n in names}


def published_empty(dataset: DatasetSpec, ds: date) -> bool:
    """Whether `ds` was published without rows, which the data set must allow."""
    if not dataset.days.allow_empty:
        return False
    audits = read_rows(dataset, Audit, days=[ds], filters={"table_name": "impressions"})
    return any(audit.status == "published" and audit.rows_published == 0 for audit in audits)


def _check_days(dataset: DatasetSpec, rows_D: Mapping[date, int]) -> None:
    days = list(rows_D)
    missing = [ds for ds, rows in rows_D.items() if rows == 0 and not published_empty(dataset, ds)]
    if missing:
        build = command("build_scenario_features", dataset, day_options(missing))
        raise TrainingError(f"{dataset.name}/{FEATURES} has no rows of {', '.join(map(str, missing))}; run: {build}")
    if not any(rows_D.values()):
        raise TrainingError(
            f"{dataset.name} has no impressions in {days[0]} .. {days[-1]} (all days are published empty); "
            "take a longer window: training.window_days of the data set"
        )
