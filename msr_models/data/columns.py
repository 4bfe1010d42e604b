"""Arrow columns as numpy arrays, without Python per row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Array = npt.NDArray[Any]


def numbers(rows: pa.Table, column: str, dtype: type[np.generic]) -> Array:
    """A numeric column, contiguous and writable (tensors share its memory)."""
    return np.require(rows[column].to_numpy(), dtype=dtype, requirements=["C", "W"])


def day_index(rows: pa.Table, days: Sequence[date]) -> Array:
    """Position of each row's `ds` in `days`, int32."""
    names = pa.array([f"{d:%Y-%m-%d}" for d in days])
    return np.require(pc.index_in(rows["ds"], value_set=names).to_numpy(), dtype=np.int32, requirements=["C", "W"])


def flat_lists(rows: pa.Table, column: str) -> tuple[Array, Array]:
    """A list column as (values int32, starts int64 of length N + 1); a null list is empty."""
    lists = rows[column].combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], type=rows[column].type)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False), dtype=np.int64)
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=starts[1:])
    # list_flatten, unlike .values, heeds slices and skips what lies under nulls.
    values = pc.list_flatten(lists).to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values, dtype=np.int32), starts


def padded_lists(rows: pa.Table, column: str, width: int) -> Array:
    """A list column as [N, width] int32, cut or padded on the right with 0."""
    values, starts = flat_lists(rows, column)
    lengths = np.diff(starts)
    position = np.arange(len(values)) - np.repeat(starts[:-1], lengths)
    row = np.repeat(np.arange(len(lengths)), lengths)
    keep = position < width
    out = np.zeros((len(lengths), width), dtype=np.int32)
    out[row[keep], position[keep]] = values[keep]
    return out


def reordered_lists(values: Array, starts: Array, order: Array) -> tuple[Array, Array]:
    """The lists of `flat_lists` in another order of rows."""
    lengths = np.diff(starts)[order]
    new_starts = np.zeros(len(order) + 1, dtype=np.int64)
    np.cumsum(lengths, out=new_starts[1:])
    source = np.arange(new_starts[-1]) + np.repeat(starts[:-1][order] - new_starts[:-1], lengths)
    return values[source], new_starts


def find_in(keys: Array, wanted: Array) -> Array:
    """Position of each `wanted` in ascending `keys`, -1 where it is not there."""
    if len(keys) == 0:
        return np.full(len(wanted), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)
