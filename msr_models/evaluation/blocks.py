"""Rows as blocks, the rows of one group and one score: what every metric here needs to know of the data.

Scores are sorted once, into dense integer ranks. A grouping then sorts integers, (group, rank, label) packed into one
int64 per row, in place: no gather follows, and numpy sorts int64 several times quicker than it argsorts. Where the
cells (group, rank) are few they are counted instead. A block knows its rows and its positives only, so the order of
the rows changes no bit of a result. Holds for fewer than 2 ** 31 rows.

Suffixes: N rows, U different scores, B blocks, S groups that have rows, C cells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
SmallInts = npt.NDArray[np.int32]
Array = npt.NDArray[Any]

KEY_BITS = 63
# A table over all possible cells or ids beats a sort while it has at most so many entries per row.
TABLE_ENTRIES_PER_ROW = 2


@dataclass(frozen=True, slots=True)
class RankedRows:
    """Each row's score as its place among the different ones, score_U[rank_N] (NaN is one, the highest).

    weight_N: > 0; None: each row counts once.
    """

    score_U: Floats
    rank_N: SmallInts
    positive_N: npt.NDArray[np.bool_]
    weight_N: Floats | None = None


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """Sums over the rows of each block and class: of weights, and of their squares."""

    positives_B: Floats
    negatives_B: Floats
    positive_squares_B: Floats
    negative_squares_B: Floats


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks ordered by (group, score); group_S begins at block first_S. cell_B = group << rank_bits | rank.

    weights: None where rows have none; then a row's weight is 1.
    """

    cell_B: Ints
    rows_B: SmallInts
    positives_B: SmallInts
    group_S: Ints
    first_S: Ints
    rank_bits: int
    weights: BlockWeights | None = None

    @property
    def mass_positives_B(self) -> Array:
        """Positives, or the sum of their weights."""
        return self.positives_B if self.weights is None else self.weights.positives_B

    @property
    def mass_negatives_B(self) -> Array:
        """Negatives, or the sum of their weights."""
        return self.rows_B - self.positives_B if self.weights is None else self.weights.negatives_B

    def rank_B(self) -> Ints:
        """Place of each block's score among the different ones."""
        return self.cell_B & ((1 << self.rank_bits) - 1)

    def total_S(self, value_B: Array) -> Array:
        """Sum over the blocks of each group: int64 or float64."""
        return _sums(value_B, self.first_S, np.int64 if value_B.dtype == np.int32 else value_B.dtype)

    def of_group_B(self, value_S: Array) -> Array:
        """Each block's value of its group."""
        return np.repeat(value_S, _lengths(self.first_S, len(self.cell_B)))


def weighted_rows(weight_N: Array | None, *columns: Array) -> tuple[Floats | None, tuple[Array, ...]]:
    """(weights as float64, columns) of the rows that count: without those of weight 0.

    None where no row has a weight or all have 1: then results are the same bits with and without weights. Raises
    ValueError for a weight that is negative or not finite.
    """
    if weight_N is None:
        return None, columns
    weight_N = np.asarray(weight_N, dtype=np.float64)
    if not (np.isfinite(weight_N) & (weight_N >= 0)).all():
        raise ValueError("weights must be finite numbers >= 0")
    if not weight_N.all():
        counted_N = np.flatnonzero(weight_N)
        weight_N, columns = weight_N[counted_N], tuple(np.asarray(column)[counted_N] for column in columns)
    return (None if (weight_N == 1).all() else weight_N), columns


def rank_rows(score_N: Array, label_N: Array, weight_N: Floats | None = None) -> RankedRows:
    """Rows ready for grouping; a label of 1 is a positive, any other a negative. weight_N: of `weighted_rows`."""
    score_U, rank_N = _ranks(np.asarray(score_N, dtype=np.float64))
    return RankedRows(score_U, rank_N, np.asarray(label_N) == 1, weight_N)


def make_blocks(ranked: RankedRows, group_N: Array, num_groups: int) -> Blocks:
    """Blocks of the rows grouped by group_N; raises ValueError where a group is not one of 0 .. num_groups - 1."""
    group_N, num_groups = np.asarray(group_N, dtype=np.int64), int(num_groups)
    if len(group_N) and not (group_N.min() >= 0 and group_N.max() < num_groups):
        raise ValueError(f"groups {group_N.min()} .. {group_N.max()} are not all in 0 .. {num_groups - 1}")
    rank_bits = max(len(ranked.score_U) - 1, 0).bit_length()
    if ranked.weight_N is not None:
        return _weighted_blocks(ranked, group_N, num_groups, rank_bits)
    if num_groups << rank_bits <= TABLE_ENTRIES_PER_ROW * len(group_N):
        return _counted_blocks(ranked, group_N, num_groups, rank_bits)
    if num_groups << (rank_bits + 1) <= 1 << KEY_BITS:
        return _sorted_blocks(ranked, group_N, rank_bits)
    # Dense ids are no more than the rows: with the rank and the label they fit.
    group_S, dense_N = np.unique(group_N, return_inverse=True)
    return replace(_sorted_blocks(ranked, dense_N, rank_bits), group_S=group_S)


def dense_ids(id_N: Array) -> tuple[Ints, int]:
    """(place of each id among the different ones, ascending; how many differ), by a table where ids lie close."""
    id_N = np.asarray(id_N, dtype=np.int64)
    if len(id_N) == 0:
        return id_N, 0
    low, high = int(id_N.min()), int(id_N.max())
    if high - low < TABLE_ENTRIES_PER_ROW * len(id_N):
        seen = np.zeros(high - low + 1, dtype=np.bool_)
        seen[id_N - low] = True
        place = np.cumsum(seen) - 1
        return place[id_N - low], int(place[-1]) + 1
    value, dense_N = _ranks(id_N)
    return dense_N.astype(np.int64), len(value)


def narrow_ids(id_N: Array) -> Ints:
    """The ids as they are where they lie between 0 and about their number, else dense ones."""
    id_N = np.asarray(id_N, dtype=np.int64)
    fit = len(id_N) == 0 or (id_N.min() >= 0 and id_N.max() < TABLE_ENTRIES_PER_ROW * len(id_N))
    return id_N if fit else dense_ids(id_N)[0]


def _ranks(value_N: Array) -> tuple[Array, SmallInts]:
    """np.unique(value_N, return_inverse=True), NaN equal to NaN, with half its memory traffic."""
    order_N = np.argsort(value_N)
    sorted_N = value_N[order_N]
    new_N = np.ones(len(value_N), dtype=np.bool_)
    np.not_equal(sorted_N[1:], sorted_N[:-1], out=new_N[1:])
    new_N[1:] &= sorted_N[:-1] == sorted_N[:-1]  # False after a NaN: they sort last
    rank_N = np.empty(len(value_N), dtype=np.int32)
    rank_N[order_N] = np.cumsum(new_N, dtype=np.int32) - np.int32(1)
    return sorted_N[new_N], rank_N


def _counted_blocks(ranked: RankedRows, group_N: Ints, num_groups: int, rank_bits: int) -> Blocks:
    cell_N = group_N << rank_bits
    cell_N += ranked.rank_N
    rows_C = np.bincount(cell_N, minlength=num_groups << rank_bits).astype(np.int32)
    positives_C = np.bincount(cell_N[ranked.positive_N], minlength=len(rows_C)).astype(np.int32)
    cell_B = np.flatnonzero(rows_C)
    return _blocks(cell_B, rows_C[cell_B], positives_C[cell_B], rank_bits)


def _sorted_blocks(ranked: RankedRows, group_N: Ints, rank_bits: int) -> Blocks:
    key_N = group_N << rank_bits
    key_N += ranked.rank_N
    key_N <<= 1
    key_N += ranked.positive_N
    key_N.sort()
    positive_N = key_N.astype(np.int8)
    positive_N &= 1
    key_N >>= 1
    first_B = _starts(key_N)
    rows_B = _lengths(first_B, len(key_N)).astype(np.int32)
    return _blocks(key_N[first_B], rows_B, _sums(positive_N, first_B, np.int32), rank_bits)


def _weighted_blocks(ranked: RankedRows, group_N: Ints, num_groups: int, rank_bits: int) -> Blocks:
    assert ranked.weight_N is not None
    group_S, dense_N = np.unique(group_N, return_inverse=True)
    cell_N = (dense_N.astype(np.int64) << rank_bits) + ranked.rank_N
    # Weights last, so that the order of the rows changes no bit of their sums
    order_N = np.lexsort((ranked.weight_N, ranked.positive_N, cell_N))
    cell_N, positive_N, weight_N = cell_N[order_N], ranked.positive_N[order_N], ranked.weight_N[order_N]
    first_B = _starts(cell_N)
    rows_B = _lengths(first_B, len(cell_N)).astype(np.int32)
    each_N = [np.where(positive_N == is_positive, weight_N, 0.0) for is_positive in (True, False)]
    sums = [_sums(value_N, first_B, np.float64) for value_N in (*each_N, each_N[0] ** 2, each_N[1] ** 2)]
    blocks = _blocks(cell_N[first_B], rows_B, _sums(positive_N.astype(np.int8), first_B, np.int32), rank_bits)
    return replace(blocks, group_S=group_S, weights=BlockWeights(*sums))


def _blocks(cell_B: Ints, rows_B: SmallInts, positives_B: SmallInts, rank_bits: int) -> Blocks:
    group_B = cell_B >> rank_bits
    first_S = _starts(group_B)
    return Blocks(cell_B, rows_B, positives_B, group_B[first_S], first_S, rank_bits)


def _starts(id_N: Ints) -> Ints:
    """Places where another id begins, in ids that lie together."""
    new_N = np.ones(len(id_N), dtype=np.bool_)
    np.not_equal(id_N[1:], id_N[:-1], out=new_N[1:])
    return np.flatnonzero(new_N)


def _lengths(start_S: Ints, end: int) -> Ints:
    """Length of each stretch, the last one up to `end` (np.diff copies to append)."""
    length_S = np.empty_like(start_S)
    np.subtract(start_S[1:], start_S[:-1], out=length_S[:-1])
    length_S[-1:] = end - start_S[-1:]
    return length_S


def _sums(value_N: Array, start_S: Ints, dtype: npt.DTypeLike) -> Array:
    return np.add.reduceat(value_N, start_S, dtype=dtype) if len(start_S) else np.zeros(0, dtype=dtype)
