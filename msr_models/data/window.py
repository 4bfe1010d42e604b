"""Window: all impressions of some days as contiguous tensors in memory, read from Delta without Python per row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from msr_models.data import lake_reader
from msr_models.data.batch import Batch
from msr_models.data.columns import Array, day_index, numbers, padded_lists
from msr_models.data.histories import load_histories
from msr_models.data.layout import FieldLayout, layout_for, newest_version
from msr_models.data.masks import RankScope, load_ranks
from schemas.dataset_spec import DatasetSpec
from schemas.errors import TrainingError

__all__ = ["FieldLayout", "Window", "load_window", "published_empty"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """N impressions sorted by (ds, instance_id), so that nothing depends on how files lie.

    slot_ids_NS int32; scenario_N int64; label_N float32; shared_N bool; rank_N float64, the shared set's stored rank
    (NaN where no mask was read); behaviours of row n are hist_items[hist_start_N[n] : hist_end_N[n]] (int32, 0 at the
    front as a place to point at); day_N int32 indexes `days`; user_key_N with day_N names a session.
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
    hist_items: Tensor = field(repr=False)
    hist_start_N: Tensor
    hist_end_N: Tensor
    rank_N: Tensor
    shared_N: Tensor
    fingerprint: str
    mask_fingerprint: str | None = None

    def __len__(self) -> int:
        return int(self.label_N.shape[0])

    @property
    def num_scenarios(self) -> int:
        return len(self.scenario_names)

    def batch(self, rows: Tensor) -> Batch:
        """The rows at these positions (int64), in this order."""
        scenario_B = self.scenario_N.index_select(0, rows)
        back_L = torch.arange(-self.layout.hist_length, 0, device=rows.device)
        at_BL = self.hist_end_N.index_select(0, rows)[:, None] + back_L
        real_BL = at_BL >= self.hist_start_N.index_select(0, rows)[:, None]
        return Batch(
            slot_ids_BS=self.slot_ids_NS.index_select(0, rows),
            hist_item_ids_BL=self.hist_items[torch.where(real_BL, at_BL, 0)],
            scenario_B=scenario_B,
            label_B=self.label_N.index_select(0, rows),
            shared_B=self.shared_N.index_select(0, rows),
        )

    def rows_of(self, days: Sequence[date]) -> Tensor:
        """Positions of the rows of these days, ascending, int64."""
        wanted = torch.tensor([d in set(days) for d in self.days], device=self.day_N.device)
        return wanted[self.day_N.long()].nonzero().squeeze(1)

    def to(self, device: torch.device | str) -> Window:
        """The same window with its tensors on `device`."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: v.to(device) for name, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    def with_ratio(self, ratio: float) -> Window:
        """Rows with rank >= 1 - ratio are shared (ratio 1: all; rows without a mask: never)."""
        return replace(self, shared_N=self.rank_N >= 1.0 - ratio)

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


def load_window(
    dataset: DatasetSpec,
    days: Sequence[date],
    *,
    shared_set_id: str | None = None,
    mask_days: Sequence[date] | None = None,
    rank_scope: RankScope = "global",
    versions: Mapping[str, int] | None = None,
) -> Window:
    """Read the impressions of `days` with their behaviours and, for a shared set, its stored ranks.

    mask_days: the days whose ranks are needed (default: all); rows of other days get none. versions pins Delta
    versions per table (default: the newest). All rows start unshared: see `Window.with_ratio`.
    Raises TrainingError for missing days, no rows or mixed vocabulary lineages, SharedSetError for missing masks.
    """
    days = sorted(days)
    if not days:
        raise TrainingError(f"a window of {dataset.name} needs at least one day; none was given")
    names = ["scenario_features", "behaviour_sequences", "vocabularies"]
    names += ["shared_instance_masks"] if shared_set_id else []
    given = versions or {}
    pinned = {n: given[n] if n in given else lake_reader.table_version(dataset.name, n) for n in names}

    rows = _read_features(dataset, days, pinned["scenario_features"])
    day_N, instance_N = day_index(rows, days), numbers(rows, "instance_id", np.int64)
    order = np.lexsort((instance_N, day_N))
    rows, day_N, instance_N = rows.take(pa.array(order)), day_N[order], instance_N[order]
    _check_days(dataset, days, day_N)

    histories = load_histories(dataset, days, pinned["behaviour_sequences"])
    versions_found = set(pc.unique(rows["vocabulary_version"]).to_pylist())
    where = f"{dataset.name}, {days[0]} .. {days[-1]}"
    newest = newest_version(dataset, versions_found | histories.vocabulary_versions, where)
    layout = layout_for(dataset, newest, pinned["vocabularies"])
    user_N = numbers(rows, "user_key", np.int64)
    start_N, end_N = histories.spans(dataset, day_N, user_N, numbers(rows, "hist_end", np.int64))
    slots_NS = _slots(dataset, rows, layout)
    scenario_N, label_N = numbers(rows, "scenario_id", np.int64), numbers(rows, "label", np.float32)
    rank_N, mask_hash = np.full(len(order), np.nan), None
    if shared_set_id is not None:
        wanted = [d for d in days if mask_days is None or d in set(mask_days)]
        rank_N = load_ranks(
            dataset, shared_set_id, days, wanted, day_N, instance_N, rank_scope, pinned["shared_instance_masks"]
        )
        mask_hash = _digest([rank_N], shared_set_id, rank_scope)
    return Window(
        dataset_name=dataset.name,
        scenario_names=dataset.scenario.names,
        days=tuple(days),
        layout=layout,
        vocabulary_version=newest,
        table_versions=pinned,
        instance_id_N=torch.from_numpy(instance_N),
        day_N=torch.from_numpy(day_N),
        user_key_N=torch.from_numpy(user_N),
        scenario_N=torch.from_numpy(scenario_N),
        label_N=torch.from_numpy(label_N),
        slot_ids_NS=torch.from_numpy(slots_NS),
        hist_items=torch.from_numpy(histories.items),
        hist_start_N=torch.from_numpy(start_N),
        hist_end_N=torch.from_numpy(end_N),
        rank_N=torch.from_numpy(rank_N),
        shared_N=torch.zeros(len(order), dtype=torch.bool),
        fingerprint=_digest(
            [instance_N, day_N, user_N, scenario_N, label_N, slots_NS, start_N, end_N, histories.items],
            dataset.lineage,
            *(str(d) for d in days),
            *sorted(versions_found),
        ),
        mask_fingerprint=mask_hash,
    )


def _read_features(dataset: DatasetSpec, days: Sequence[date], version: int) -> pa.Table:
    columns = ["ds", "scenario_id", "instance_id", "user_key", "label", "hist_end", "vocabulary_version"]
    columns += [f.column for f in dataset.encoded_fields]
    return lake_reader.read_table(dataset.name, "scenario_features", columns=columns, days=days, version=version)


def _check_days(dataset: DatasetSpec, days: Sequence[date], day_N: Array) -> None:
    rows_D = np.bincount(day_N, minlength=len(days))
    missing = [
        d for d, rows in zip(days, rows_D.tolist(), strict=True) if rows == 0 and not published_empty(dataset, d)
    ]
    if missing:
        raise TrainingError(
            f"{dataset.name}/scenario_features has no rows of {', '.join(map(str, missing))}; run: "
            f"python -m jobs.build_scenario_features --dataset {dataset.name} --from {missing[0]} --to {missing[-1]}"
        )
    if len(day_N) == 0:
        raise TrainingError(
            f"{dataset.name} has no impressions in {days[0]} .. {days[-1]} (all days are published empty); "
            "take a longer window: training.window_days of the data set"
        )


def published_empty(dataset: DatasetSpec, ds: date) -> bool:
    """Whether `ds` was published without rows, which the data set must allow."""
    if not dataset.days.allow_empty or not lake_reader.table_exists(dataset.name, "audits"):
        return False
    audit = lake_reader.read_table(
        dataset.name, "audits", columns=["status", "rows_published"], days=[ds], filters={"table_name": "impressions"}
    )
    return (
        bool(audit.num_rows) and audit["status"][0].as_py() == "published" and audit["rows_published"][0].as_py() == 0
    )


def _slots(dataset: DatasetSpec, rows: pa.Table, layout: FieldLayout) -> Array:
    """slot_ids_NS; TrainingError where an id is beyond its vocabulary."""
    slots = np.zeros((rows.num_rows, layout.total_slots), dtype=np.int32)
    for f, start, size in zip(dataset.encoded_fields, layout.slot_starts, layout.num_rows, strict=True):
        if f.max_values > 1:
            ids = padded_lists(rows, f.column, f.max_values)
        else:
            ids = numbers(rows, f.column, np.int32)[:, None]
        low, high = int(ids.min(initial=0)), int(ids.max(initial=0))
        if low < 0 or high >= size:
            raise TrainingError(
                f"{dataset.name}/scenario_features, {f.column}: id {low if low < 0 else high} lies outside "
                f"0 .. {size - 1} of its vocabulary; rebuild the days with jobs.build_scenario_features"
            )
        slots[:, start : start + f.max_values] = ids
    return slots


def _digest(arrays: Sequence[Array], *names: str) -> str:
    """sha256 over names and arrays (shape, type, bytes), 16 hex digits."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0")
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
