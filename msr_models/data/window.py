"""Window: all impressions of some days as contiguous tensors in memory, read from Delta without Python per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msr_models.data.batch import Batch
from msr_models.data.columns import Array, find_in
from msr_models.data.further import count_further
from msr_models.data.gather import gather_behaviours, take
from msr_models.data.histories import NO_SCENARIO
from msr_models.data.layout import FieldLayout
from msr_models.data.reader import Rows, WindowReader
from msr_models.sets.masks import at_ratio
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError
from schemas.pipeline_spec import RankScope


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """N impressions sorted by (ds, instance_id), so that nothing depends on how files lie.

    slot_ids_NS int32; scenario_N int32 or int64; label_N float32; shared_N bool; rank_N float64, the shared set's
    stored rank (NaN where no mask was read; one NaN for all rows without a set, so not to be written to); behaviours of
    row n are hist_ids_HA[hist_start_N[n] : hist_end_N[n]] (int32, item and attributes; pointers int32 where H allows)
    in the scenarios hist_scenario_H (int16), both behind a padding (0 and -1) as a place to point at; day_N int32
    indexes `days`; user_key_N with day_N names a session. further_NJ float32: labels beside the main one, in the order
    of further_labels; None without any. dense_NZ float32: the values of layout.dense_names; None without any.
    """

    dataset_name: str
    scenario_names: tuple[str, ...]
    days: tuple[date, ...]
    layout: FieldLayout
    vocabulary_version: str
    table_versions: Mapping[str, int]
    instance_id_N: Tensor
    day_N: Tensor
    user_key_N: Tensor
    scenario_N: Tensor
    label_N: Tensor
    slot_ids_NS: Tensor
    dense_NZ: Tensor | None = None
    hist_ids_HA: Tensor = field(repr=False)
    hist_scenario_H: Tensor = field(repr=False)
    hist_start_N: Tensor
    hist_end_N: Tensor
    rank_N: Tensor
    shared_N: Tensor
    fingerprint: str
    mask_fingerprint: str | None = None
    further_NJ: Tensor | None = None
    further_labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.label_N.shape[0])

    @property
    def num_scenarios(self) -> int:
        return len(self.scenario_names)

    @property
    def num_bytes(self) -> int:
        """Size of all tensors."""
        tensors = [v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)]
        return sum(t.numel() * t.element_size() for t in tensors)

    def batch(self, rows: Tensor) -> Batch:
        """The rows at these positions (int64), in this order."""
        ids_BLA, scenario_BL = self._behaviours(rows)
        return Batch(
            slot_ids_BS=take(self.slot_ids_NS, rows),
            hist_ids_BLA=ids_BLA,
            hist_scenario_BL=scenario_BL,
            scenario_B=take(self.scenario_N, rows).long(),
            label_B=take(self.label_N, rows),
            shared_B=take(self.shared_N, rows),
            further_BJ=None if self.further_NJ is None else take(self.further_NJ, rows),
            dense_BZ=None if self.dense_NZ is None else take(self.dense_NZ, rows),
        )

    def _behaviours(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        length = self.layout.hist_length
        if len(self.hist_ids_HA) == 1:  # nobody has any
            padding_BL = self.hist_scenario_H.new_full((len(rows), length), NO_SCENARIO)
            return self.hist_ids_HA.new_zeros((len(rows), length, self.hist_ids_HA.shape[1])), padding_BL
        start_B, end_B = take(self.hist_start_N, rows), take(self.hist_end_N, rows)
        return gather_behaviours(self.hist_ids_HA, self.hist_scenario_H, start_B, end_B, length)

    def rows_of(self, days: Sequence[date]) -> Tensor:
        """Positions of the rows of these days, ascending, int64."""
        wanted = torch.tensor([d in set(days) for d in self.days], device=self.day_N.device)
        return wanted[self.day_N.long()].nonzero().squeeze(1)

    def to(self, device: torch.device | str) -> Window:
        """The same window with its tensors on `device`."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: v.to(device) for name, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    def with_fields(self, names: Sequence[str]) -> Window:
        """The same rows with these fields alone, in this order. Raises TrainingError where one is not there."""
        layout = self.layout.of_fields(names)
        if layout == self.layout:
            return self
        starts = [self.layout.slot_starts[self.layout.names.index(name)] for name in names]
        slots = [start + n for start, width in zip(starts, layout.num_slots, strict=True) for n in range(width)]
        parts = [self.layout.behaviour_names.index(name) for name in layout.behaviour_names]
        values = [self.layout.dense_names.index(name) for name in layout.dense_names]
        hist_ids_HA = self.hist_ids_HA if len(parts) == self.hist_ids_HA.shape[1] else self.hist_ids_HA[:, parts]
        return replace(
            self,
            layout=layout,
            slot_ids_NS=self.slot_ids_NS[:, slots].contiguous(),
            dense_NZ=self.dense_NZ[:, values].contiguous() if self.dense_NZ is not None and values else None,
            hist_ids_HA=hist_ids_HA.contiguous(),
        )

    def with_ratio(self, ratio: float) -> Window:
        """The rows shared at this ratio (eq. 16), see `at_ratio`."""
        return replace(self, shared_N=at_ratio(self.rank_N, ratio))

    def require_both_labels(self, rows: Tensor | None = None) -> None:
        """Raises TrainingError where all labels (of `rows`) are of one class: nothing can be learned from them."""
        labels = self.label_N if rows is None else self.label_N[rows]
        positives = int(labels.sum())
        if positives in (0, len(labels)):
            raise TrainingError(
                f"all {len(labels)} labels of {self.dataset_name} in {self.days[0]} .. {self.days[-1]} are "
                f"{0 if positives == 0 else 1}: nothing can be learned; check columns.label of the data set, "
                "or take more days"
            )

    def labels(self, further: int | None = None) -> Tensor:
        """The main label, or the further one of that place, [N] float32."""
        if further is None:
            return self.label_N
        assert self.further_NJ is not None
        return self.further_NJ[:, further]

    def further_counts(self, rows: Tensor | None = None) -> Tensor:
        """Of every further label and scenario the rows that have it, and those of them without the main label:
        [J, 2, K] int64; of `rows` only where given.
        """
        if self.further_NJ is None:
            return torch.zeros((0, 2, self.num_scenarios), dtype=torch.int64)
        columns = (self.scenario_N, self.label_N, self.further_NJ)
        scenario_N, label_N, further_NJ = columns if rows is None else (column[rows] for column in columns)
        return count_further(scenario_N, label_N, further_NJ, self.num_scenarios)

    def label_counts(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(rows, rows with label 1) of every scenario, [K] int64 each; of `rows` only where given."""
        scenario_N, label_N = self.scenario_N, self.label_N
        if rows is not None:
            scenario_N, label_N = scenario_N[rows], label_N[rows]
        counts = torch.bincount(2 * scenario_N + (label_N > 0.5), minlength=2 * self.num_scenarios).view(-1, 2)
        return counts.sum(1), counts[:, 1]


def load_window(
    dataset: DatasetSpec,
    days: Sequence[date],
    *,
    shared_set_id: str | None = None,
    mask_days: Sequence[date] | None = None,
    rank_scope: RankScope = "global",
    versions: Mapping[str, int] | None = None,
    known_on: date | None = None,
) -> Window:
    """Read the impressions of `days` with their behaviours and, for a shared set, its stored ranks.

    mask_days: the days whose ranks are needed (default: all); rows of other days get none. versions pins Delta
    versions per table (default: the newest). known_on: fields that began after this day (default: the last one) are
    left out, so that a window of old days stays as it was; the others have id 0 on days before they began. All rows
    start unshared: see `Window.with_ratio`.
    Peak memory is that of the tensors and of pieces of one day. Raises TrainingError for missing days, no rows, an
    instance_id twice in a day or mixed vocabulary lineages, SharedSetError for missing masks and for
    masks of features that were replaced since (not where versions pins the masks: those are what was recorded).
    """
    reader = WindowReader(
        dataset,
        days,
        lambda _, shape, dtype: np.empty(shape, dtype=dtype),
        shared_set_id=shared_set_id,
        mask_days=mask_days,
        rank_scope=rank_scope,
        versions=versions,
        known_on=known_on,
    )
    columns = _Columns(reader)
    for ds in reader.days:
        columns.append_day(reader, ds)
    facts = reader.finish()
    no_rank = torch.full((1,), torch.nan, dtype=torch.float64).expand(reader.num_rows)
    return Window(
        dataset_name=dataset.name,
        scenario_names=dataset.scenario.names,
        days=tuple(reader.days),
        layout=facts.layout,
        vocabulary_version=facts.vocabulary_version,
        table_versions=facts.table_versions,
        instance_id_N=torch.from_numpy(columns.instance_id_N),
        day_N=torch.from_numpy(np.repeat(np.arange(len(reader.days), dtype=np.int32), list(reader.rows_D.values()))),
        user_key_N=torch.from_numpy(columns.user_key_N),
        scenario_N=torch.from_numpy(columns.scenario_N),
        label_N=torch.from_numpy(columns.label_N),
        slot_ids_NS=torch.from_numpy(columns.slot_ids_NS),
        dense_NZ=None if columns.dense_NZ is None else torch.from_numpy(columns.dense_NZ),
        hist_ids_HA=torch.from_numpy(reader.histories.ids_HA),
        hist_scenario_H=torch.from_numpy(reader.histories.scenario_H),
        hist_start_N=torch.from_numpy(columns.hist_start_N),
        hist_end_N=torch.from_numpy(columns.hist_end_N),
        rank_N=no_rank if columns.rank_N is None else torch.from_numpy(columns.rank_N),
        shared_N=torch.zeros(reader.num_rows, dtype=torch.bool),
        fingerprint=facts.fingerprint,
        mask_fingerprint=facts.mask_fingerprint,
        further_NJ=torch.from_numpy(columns.further_NJ) if reader.num_further else None,
        further_labels=tuple(dataset.columns.further_labels),
    )


class _Columns:
    """The arrays of a window, made at their final size and filled in place: nothing of a window's size is copied."""

    def __init__(self, reader: WindowReader) -> None:
        rows = reader.num_rows
        pointer = np.int32 if reader.histories.capacity < 2**31 else np.int64
        self.instance_id_N: Array = np.empty(rows, dtype=np.int64)
        self.user_key_N: Array = np.empty(rows, dtype=np.int64)
        self.scenario_N: Array = np.empty(rows, dtype=np.int32)
        self.label_N: Array = np.empty(rows, dtype=np.float32)
        self.further_NJ: Array = np.empty((rows, reader.num_further), dtype=np.float32)
        self.slot_ids_NS: Array = np.empty((rows, reader.num_slots), dtype=np.int32)
        dense = reader.num_dense
        self.dense_NZ: Array | None = np.empty((rows, dense), dtype=np.float32) if dense else None
        self.hist_start_N: Array = np.empty(rows, dtype=pointer)
        self.hist_end_N: Array = np.empty(rows, dtype=pointer)
        self.rank_N: Array | None = np.empty(rows, dtype=np.float64) if reader.has_ranks else None
        self._filled = 0

    def append_day(self, reader: WindowReader, ds: date) -> None:
        """Read `ds` twice, its instance ids first: they give each row its place."""
        start, self._filled = self._filled, self._filled + reader.rows_D[ds]
        instance_D = self.instance_id_N[start : self._filled]
        instance_D[:] = reader.sorted_instances(ds)
        for rows in reader.rows_of_day(ds):
            self._place(rows, start + find_in(instance_D, rows.instance_id_N))

    def _place(self, rows: Rows, at_N: Array) -> None:
        self.user_key_N[at_N] = rows.user_key_N
        self.scenario_N[at_N] = rows.scenario_N
        self.label_N[at_N] = rows.label_N
        self.further_NJ[at_N] = rows.further_NJ
        # A row's slots as one value: three times as fast as numpy's loop over them.
        row_of_slots = np.dtype((np.void, rows.slot_ids_NS.strides[0]))
        self.slot_ids_NS.view(row_of_slots)[at_N, 0] = rows.slot_ids_NS.view(row_of_slots)[:, 0]
        if self.dense_NZ is not None:
            self.dense_NZ[at_N] = rows.dense_NZ
        self.hist_start_N[at_N] = rows.hist_start_N
        self.hist_end_N[at_N] = rows.hist_end_N
        if self.rank_N is not None:
            self.rank_N[at_N] = rows.rank_N
