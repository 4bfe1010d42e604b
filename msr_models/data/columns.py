"""Arrow columns as numpy arrays, without Python per row."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Array = npt.NDArray[Any]


def numbers(rows: pa.RecordBatch, column: str, dtype: type[np.generic]) -> Array:
    """A numeric column, contiguous; it may share the batch's memory."""
    return np.ascontiguousarray(rows[column].to_numpy(zero_copy_only=False), dtype=dtype)


def flat_lists(rows: pa.RecordBatch, column: str) -> tuple[Array, Array]:
    """A list column as (values int32, lengths int64 [N]); a null list is empty."""
    lists = rows[column]
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False), dtype=np.int64)
    # list_flatten, unlike .values, heeds slices and skips what lies under nulls.
    values = pc.list_flatten(lists).to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values, dtype=np.int32), lengths


def starts_of(lengths: Array) -> Array:
    """Where lists of these lengths start when they lie one behind the other, and the end: int64 [N + 1]."""
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def places(starts: Array, lengths: Array) -> Array:
    """Positions of all values of lists that start at `starts`, list after list."""
    before = starts_of(lengths)
    out: Array = np.repeat(starts - before[:-1], lengths)
    out += np.arange(len(out))
    return out


def padded_lists(rows: pa.RecordBatch, column: str, width: int) -> Array:
    """A list column as [N, width] int32, cut or padded on the right with 0."""
    values, lengths = flat_lists(rows, column)
    position = places(np.zeros(len(lengths), dtype=np.int64), lengths)
    row = np.repeat(np.arange(len(lengths)), lengths)
    keep = position < width
    out = np.zeros((len(lengths), width), dtype=np.int32)
    out[row[keep], position[keep]] = values[keep]
    return out


def sums_in_order(cell_N: Array, value_N: Array, num_cells: int) -> Array:
    """Sum of the values of each cell [num_cells] float64; the order of the rows changes no bit of it."""
    order_N = np.lexsort((value_N, cell_N))
    return np.bincount(cell_N[order_N], weights=value_N[order_N], minlength=num_cells).astype(np.float64)


def find_in(keys: Array, wanted: Array) -> Array:
    """Position of each `wanted` in ascending `keys`, -1 where it is not there."""
    if len(keys) == 0:
        return np.full(len(wanted), -1, dtype=np.int64)
    # Looking sorted values up is so much kinder to the cache that sorting them first takes half the time.
    order = np.argsort(wanted)
    ascending = wanted[order]
    place = np.minimum(np.searchsorted(keys, ascending), len(keys) - 1)
    found = np.empty(len(wanted), dtype=np.int64)
    found[order] = np.where(keys[place] == ascending, place, -1)
    return found
