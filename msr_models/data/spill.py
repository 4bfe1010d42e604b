"""Rows of a window in buckets on disk, W 32-bit words each, so that a batch gathers a row in one piece.

The words: S slots, scenario, label, hist_start (2), hist_end (2), rank (2), key (2), J further labels, Z dense values,
and the weight where the data set has weights. Rows of weight 0 are left out. A row's bucket is drawn by a hash of
(seed, ds, instance_id).
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from msr_models.data.columns import Array
from msr_models.data.digest import mix, mix_int
from msr_models.data.reader import Rows, WindowFacts, WindowReader
from msr_models.data.sampling import kept_rows
from msr_models.data.tally import Tally

WORD = np.dtype(np.int32).itemsize
# The epoch number that draws buckets; no training epoch has it.
SPILLING = 2**64 - 1
# Words behind the slots, where each begins and how many there are of all; a weight comes behind them.
SCENARIO, LABEL, START, END, RANK, KEY, TAIL_WORDS = 0, 1, 2, 4, 6, 8, 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Spill:
    """Buckets on disk. Behaviours are memory-mapped: rows point into them."""

    folder: tempfile.TemporaryDirectory[str]
    facts: WindowFacts
    place: str
    scenario_names: tuple[str, ...]
    num_slots: int
    num_further: int
    num_dense: int
    has_ranks: bool
    has_weights: bool
    rows_P: tuple[int, ...]
    tally: Tally
    hist_ids_HA: Tensor
    hist_scenario_H: Tensor
    negatives_kept: tuple[float, ...] | None = None

    def load(self, bucket: int) -> Tensor:
        """Rows of one bucket as int32 [N, W], in no particular order."""
        found = np.fromfile(_bucket_path(self.folder, bucket), dtype=np.int32)
        behind = self.num_further + self.num_dense + self.has_weights
        return torch.from_numpy(found.reshape(-1, self.num_slots + TAIL_WORDS + behind))


def write_buckets(
    reader: WindowReader,
    folder: tempfile.TemporaryDirectory[str],
    num_buckets: int,
    seed: int,
    negatives_kept: tuple[float, ...] | None,
) -> tuple[tuple[int, ...], Tally]:
    """Read all days once. Returns (rows of each bucket, counts of the rows)."""
    rows_P, dataset = np.zeros(num_buckets, dtype=np.int64), reader.dataset
    tally = Tally(dataset.num_scenarios, reader.num_further, has_weights=dataset.has_weights)
    for bucket in range(num_buckets):
        _bucket_path(folder, bucket).touch()
    for ds in reader.days:
        instances: list[Array] = []
        for every in reader.rows_of_day(ds):
            instances.append(every.instance_id_N)
            rows = _trained(every, negatives_kept, seed)
            tally.add(rows)
            bucket_N = (hashed(rows.key_N, seed, SPILLING) % np.uint64(num_buckets)).view(np.int64)
            count_P = np.bincount(bucket_N, minlength=num_buckets)
            rows_NW = np.take(_pack(rows), np.argsort(bucket_N, kind="stable"), axis=0)
            ends_P = np.cumsum(count_P)
            for bucket in np.flatnonzero(count_P).tolist():
                with _bucket_path(folder, bucket).open("ab") as file:
                    file.write(rows_NW[ends_P[bucket] - count_P[bucket] : ends_P[bucket]].data)
            rows_P += count_P
        reader.distinct(ds, instances)
        tally.end_day()
    return tuple(rows_P.tolist()), tally


def _trained(rows: Rows, negatives_kept: tuple[float, ...] | None, seed: int) -> Rows:
    """Without those of weight 0 and the negatives that are not kept."""
    if rows.weight_N is not None:
        rows = rows.take(np.flatnonzero(rows.weight_N))
    if negatives_kept is None:
        return rows
    return rows.take(np.flatnonzero(kept_rows(rows.key_N, rows.scenario_N, rows.label_N, negatives_kept, seed)))


def hashed(key_N: Array, seed: int, epoch: int) -> Array:
    """uint64 per row, another for each (seed, epoch)."""
    return mix(key_N ^ np.uint64(mix_int(mix_int(seed) ^ epoch)))


def _pack(rows: Rows) -> Array:
    """int32 [N, W]."""
    num_rows, slots = rows.slot_ids_NS.shape
    behind = [rows.further_NJ, *([] if rows.dense_NZ is None else [rows.dense_NZ])]
    behind += [] if rows.weight_N is None else [rows.weight_N[:, None]]
    rows_NW = np.empty((num_rows, slots + TAIL_WORDS + sum(part.shape[1] for part in behind)), dtype=np.int32)
    rows_NW[:, slots + TAIL_WORDS :] = np.concatenate(behind, axis=1).view(np.int32)
    rows_NW[:, :slots] = rows.slot_ids_NS
    rows_NW[:, slots + SCENARIO] = rows.scenario_N
    rows_NW[:, slots + LABEL] = rows.label_N.view(np.int32)
    rank_N = np.full(num_rows, np.nan) if rows.rank_N is None else rows.rank_N
    for at, column in ((START, rows.hist_start_N), (END, rows.hist_end_N), (RANK, rank_N), (KEY, rows.key_N)):
        rows_NW[:, slots + at : slots + at + 2] = column.view(np.int32).reshape(-1, 2)
    return rows_NW


def words(rows_NW: Tensor, at: int, dtype: type[np.generic]) -> Array:
    """The column of `dtype` that begins at word `at`."""
    found = np.ascontiguousarray(rows_NW.numpy()[:, at : at + np.dtype(dtype).itemsize // WORD])
    return found.view(dtype)[:, 0]


def _bucket_path(folder: tempfile.TemporaryDirectory[str], bucket: int) -> Path:
    return Path(folder.name) / f"bucket-{bucket}"
